"""DNA tokenizers: what they share, and how they are saved and loaded.

Every tokenizer works on arrays of ASCII bases in compiled code and is saved as a Hugging Face ``tokenizer.json`` that
gives the same ids there. Ids 0-4 are [UNK] [CLS] [SEP] [PAD] [MASK], as in DNABERT-2. Rejected: calling the Hugging
Face library in the training loop, which costs more than the model at small sizes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.storage import digest, write_atomic

__all__ = ["CODES", "SPECIALS", "Tokenizer", "load"]

SPECIALS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
UNK = 0
BASES = "ACGT"
PLAIN: dict[str, tuple[Any, ...]] = {
    "unk_token": ("[UNK]",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (None, False),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}
"""What a model may say: with anything else the Hugging Face library gives other ids than we do."""
WORDS_APART = (None, {"type": "Whitespace"}, {"type": "WhitespaceSplit"})  # pre-tokenizers that leave DNA whole

CODES = np.full(256, 4, np.uint8)
"""A C G T, upper or lower case, as 0-3; any other byte as 4."""
for _i, _base in enumerate(BASES):
    CODES[ord(_base)] = CODES[ord(_base.lower())] = _i


class Tokenizer(ABC):
    """A map from bases to ids.

    Attributes
    ----------
    kind
        ``"nucleotide"``, ``"kmer"`` or ``"bpe"``.
    tokens
        The string of each id.
    token_lengths
        int32 (V,): bases of each id; 1 for [UNK], which stands for one base that is not A, C, G or T; 0 for the others.
    """

    kind: str

    def __init__(self, tokens: list[str], model: dict[str, Any]):
        self.tokens = tokens
        self.model = model
        lengths = [0 if token in SPECIALS else len(token) for token in tokens]
        lengths[UNK] = 1
        self.token_lengths = np.array(lengths, np.int32)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.tokens)

    @property
    def max_token_length(self) -> int:
        """Bases of the longest token."""
        return int(self.token_lengths.max())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the saved form."""
        return digest(self.model)

    def encode(self, bases: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the ids, (n,), of one sequence of ASCII bases, (length,), without [CLS] and [SEP].

        Lower case counts as upper.
        """
        return self.encode_batch(np.asarray(bases, np.uint8)[None, :])[0]

    def encode_batch(self, bases: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of many sequences of one length.

        Parameters
        ----------
        bases
            (n, L) ASCII.

        Returns
        -------
        The ids of all sequences in a row, and int64 (n + 1,) offsets of each.
        """
        bases = np.ascontiguousarray(bases, np.uint8)
        ids, offsets, _ = self._fill(bases, bases.shape[1])
        return ids, offsets

    def encode_rows(self, bases: NDArray[np.uint8], n_tokens: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Fill rows of exactly `n_tokens` tokens.

        Parameters
        ----------
        bases
            (n, L) ASCII; L of `n_tokens` x the longest token always suffices.

        Returns
        -------
        int32 (n, n_tokens) ids, and int32 (n,) the bases that each row holds.

        Raises
        ------
        DataError
            When a sequence ends before its row is full.
        """
        bases = np.ascontiguousarray(bases, np.uint8)
        ids, offsets, used = self._fill(bases, n_tokens)
        counts = np.diff(offsets)
        if len(bases) and counts.min() < n_tokens:
            row = int(counts.argmin())
            raise DataError(
                f"Row {row} of {bases.shape[1]:,} bases gives {counts[row]} tokens, and {n_tokens} are wanted.\n"
                f"  {n_tokens * self.max_token_length:,} bases always suffice."
            )
        return ids.reshape(-1, n_tokens), used.astype(np.int32)

    def decode(self, ids: NDArray[np.integer]) -> str:
        """Return the bases of `ids`, (n,); [UNK] is N, other specials are nothing."""
        names = ["N" if i == UNK else "" if token in SPECIALS else token for i, token in enumerate(self.tokens)]
        return "".join(names[i] for i in ids)

    def save(self, path: str | Path) -> None:
        """Write a Hugging Face ``tokenizer.json``."""
        write_atomic(path, json.dumps(self.model, indent=1, ensure_ascii=False) + "\n")

    @abstractmethod
    def _fill(
        self, bases: NDArray[np.uint8], room: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Encode rows of ASCII until each has `room` ids or its bases end.

        Returns
        -------
        The ids of all rows in a row, (n + 1,) offsets of each, and (n,) the bases that each used.
        """


def envelope(model: dict[str, Any], pre_tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return the ``tokenizer.json`` around a model, with DNABERT-2's specials and template."""

    def special(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def sequence(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **added} for i, name in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), sequence("A"), special("[SEP]")],
            "pair": [special("[CLS]"), sequence("A"), special("[SEP]"), sequence("B"), special("[SEP]")],
            "special_tokens": {
                name: {"id": name, "ids": [SPECIALS.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": model,
    }


def load(path: str | Path) -> Tokenizer:
    """Read a ``tokenizer.json``: one of ours, or any BPE over A, C, G and T such as DNABERT-2's.

    Raises
    ------
    DataError
        When the file is no tokenizer, or not one of DNA.
    """
    from kleiber.tokens.bpe import BPETokenizer
    from kleiber.tokens.kmer import KmerTokenizer, OverlappingKmerTokenizer
    from kleiber.tokens.original import OriginalKmerTokenizer

    try:
        document = json.loads(Path(path).read_bytes())
        digest(document)  # what has no one JSON text (NaN, half a character) could not be saved again
        model = document["model"]
        vocab = model["vocab"]
        kind = model["type"]
        tokens = sorted(vocab, key=vocab.__getitem__)
        if any(type(vocab[token]) is not int or vocab[token] != i for i, token in enumerate(tokens)):
            raise DataError(f"{path}: the ids of the vocabulary are not 0 … {len(tokens) - 1}, each once.")
        if tuple(tokens[:5]) != SPECIALS:
            raise DataError(f"{path}: ids 0-4 are {tokens[:5]}; they have to be {list(SPECIALS)}.")
        _refuse_settings(document, path)
        if kind == "BPE":
            if document["pre_tokenizer"] not in WORDS_APART:
                raise DataError(f"{path}: its pre_tokenizer is {document['pre_tokenizer']!r}; DNA is one word.")
            merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
            return BPETokenizer(tokens, merges, document)
        if kind == "WordLevel":
            if tokens[5:10] == ["A", "T", "C", "G", "N"]:
                return _same(OriginalKmerTokenizer(), document, path)
            overlaps = document["pre_tokenizer"]["type"] == "WhitespaceSplit"
            words = OverlappingKmerTokenizer if overlaps else KmerTokenizer
            k = max(map(len, tokens[5:]), default=0)
            if len(tokens) != 9 + (4**k if k > 1 else 0):
                raise DataError(
                    f"{path} has {len(tokens)} tokens, which are not the specials, A C G T and all {k}-mers."
                )
            return _same(words(k), document, path)
    except FileNotFoundError:
        raise DataError(f"There is no tokenizer file {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise DataError(f"{path} is no tokenizer.json: {type(error).__name__}: {error}.") from None
    raise DataError(f"{path} holds a {kind!r} model; BPE and k-mers (WordLevel) are known.")


def _refuse_settings(document: dict[str, Any], path: str | Path) -> None:
    """Refuse what would give other ids in the Hugging Face library than here."""
    for key, allowed in PLAIN.items():
        if (value := document["model"].get(key)) not in allowed:
            raise DataError(f"{path}: {key} of its model is {value!r}; {allowed[-1]!r} is what is read here.")
    if (normalizer := document.get("normalizer")) is not None:
        raise DataError(f"{path}: its normalizer is {normalizer!r}; DNA is read as it stands.")
    for added in document.get("added_tokens") or ():
        if (added["id"], added["content"]) not in enumerate(SPECIALS):
            raise DataError(
                f"{path} adds the token {added['content']!r} with id {added['id']!r}; only specials can be."
            )


def _same(tokenizer: Tokenizer, document: dict[str, Any], path: str | Path) -> Tokenizer:
    """See that a file of k-mers has the ids of ours, and cuts DNA into the same words."""
    ours, theirs = ((one["model"]["vocab"], one["pre_tokenizer"]) for one in (tokenizer.model, document))
    if ours != theirs:
        raise DataError(f"{path} numbers or cuts its words otherwise than k-mers are here; it cannot be read.")
    return tokenizer
