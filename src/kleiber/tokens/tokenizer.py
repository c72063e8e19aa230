"""What all DNA tokenizers share, and how they are saved; `kleiber.tokens.kinds` lists them and loads them.

Every tokenizer works on arrays of ASCII bases in compiled code and is saved as a Hugging Face ``tokenizer.json`` that
gives the same ids there. Ids 0-4 are [UNK] [CLS] [SEP] [PAD] [MASK], as in DNABERT-2. Rejected: calling the Hugging
Face library in the training loop, which costs more than the model at small sizes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.storage import digest, write_atomic

__all__ = ["CODES", "SPECIALS", "Rows", "Tokenizer", "envelope"]

SPECIALS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
UNK = 0
BASES = "ACGT"

CODES = np.full(256, 4, np.uint8)
"""A C G T, upper or lower case, as 0-3; any other byte as 4."""
for _i, _base in enumerate(BASES):
    CODES[ord(_base)] = CODES[ord(_base.lower())] = _i


class Rows(NamedTuple):
    """Encoded sequences.

    Attributes
    ----------
    ids
        Of all sequences in a row.
    offsets
        (n + 1,): where each begins and ends in `ids`.
    used
        (n,): the bases of each that its ids stand for.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    used: NDArray[np.int64]


class Tokenizer(ABC):
    """A map from bases to ids.

    A kind says how a study names it (`from_spec`), which files are its own (`from_document`) and how it cuts (`_fill`).

    Attributes
    ----------
    kind
        ``"nucleotide"``, ``"kmer"``, ``"bpe"``.
    specs
        What a study may write for it, for an error that lists all; empty for what studies do not train on.
    overlaps
        Whether tokens share bases, so that a masked one can be read off its neighbours.
    tokens
        The string of each id.
    token_lengths
        int32 (V,): bases of each id; 1 for [UNK], which stands for one base that is not A, C, G or T; 0 for the others.
    """

    kind: str
    specs: ClassVar[str] = ""
    overlaps: ClassVar[bool] = False

    def __init__(self, tokens: list[str], model: dict[str, Any]):
        self.tokens = tokens
        self.model = model
        lengths = [0 if token in SPECIALS else len(token) for token in tokens]
        lengths[UNK] = 1
        self.token_lengths = np.array(lengths, np.int32)

    @classmethod
    def from_spec(cls, spec: str, windows: NDArray[np.uint8], max_token_length: int) -> Self | None:
        """Return the tokenizer that a study's text names; None when it names another kind.

        Parameters
        ----------
        windows
            (n, L) ASCII windows to learn from.
        max_token_length
            Bases of the longest token that is learned.
        """
        return None

    @classmethod
    @abstractmethod
    def from_document(cls, document: dict[str, Any], tokens: list[str], path: str | Path) -> Self | None:
        """Return the tokenizer that a ``tokenizer.json`` holds; None when it is of another kind.

        Parameters
        ----------
        tokens
            The string of each id, with the five specials first.
        path
            Of the file, for errors.

        Raises
        ------
        DataError
            When it is of this kind and would give other ids here than elsewhere.
        """

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
        ids, offsets, _ = self._encode(bases, bases.shape[1])
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
        ids, offsets, used = self._encode(bases, n_tokens)
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

    def _encode(self, bases: NDArray[np.uint8], room: int) -> Rows:
        """Encode rows of ASCII until each has `room` ids or its bases end."""
        n, length = bases.shape
        ids = np.empty(n * min(room, length), np.int32)
        rows = Rows(ids, np.zeros(n + 1, np.int64), np.zeros(n, np.int64))
        bases = bases.view()
        bases.flags.writeable = False  # compiled once, and not for bases that can be written as well
        self._fill(bases, room, rows)
        return rows._replace(ids=ids[: rows.offsets[-1]])

    @abstractmethod
    def _fill(self, bases: NDArray[np.uint8], room: int, rows: Rows) -> None:
        """Write the ids of `bases`, (n, L), and where they lie; `rows.ids` has room for all."""


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
