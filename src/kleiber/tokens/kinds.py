"""Every kind of tokenizer, and the file that each is read from.

`KINDS` is the one place where a kind is added (see "Add a part" of the how-tos); kinds know nothing of it, so that no
two files import each other. Rejected: entry points of other packages, by which a study would depend on what happens to
be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kleiber.errors import DataError
from kleiber.storage import digest
from kleiber.tokens.bpe import BPETokenizer
from kleiber.tokens.kmer import KmerTokenizer, OverlappingKmerTokenizer
from kleiber.tokens.original import OriginalKmerTokenizer
from kleiber.tokens.tokenizer import SPECIALS, Tokenizer

__all__ = ["KINDS", "load"]

KINDS: tuple[type[Tokenizer], ...] = (
    BPETokenizer,
    OriginalKmerTokenizer,
    OverlappingKmerTokenizer,
    KmerTokenizer,
)
"""Each is asked in turn whether a text or a file is its own: the particular before the general."""

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


def load(path: str | Path) -> Tokenizer:
    """Read a ``tokenizer.json``: one of ours, or any BPE over A, C, G and T such as DNABERT-2's.

    Raises
    ------
    DataError
        When the file is no tokenizer, or not one of DNA.
    """
    try:
        document = json.loads(Path(path).read_bytes())
        digest(document)  # what has no one JSON text (NaN, half a character) could not be saved again
        vocab = document["model"]["vocab"]
        name = document["model"]["type"]
        tokens = sorted(vocab, key=vocab.__getitem__)
        if any(type(vocab[token]) is not int or vocab[token] != i for i, token in enumerate(tokens)):
            raise DataError(f"{path}: the ids of the vocabulary are not 0 … {len(tokens) - 1}, each once.")
        if tuple(tokens[:5]) != SPECIALS:
            raise DataError(f"{path}: ids 0-4 are {tokens[:5]}; they have to be {list(SPECIALS)}.")
        _refuse_settings(document, path)
        for kind in KINDS:
            if (found := kind.from_document(document, tokens, path)) is not None:
                return found
    except FileNotFoundError:
        raise DataError(f"There is no tokenizer file {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise DataError(f"{path} is no tokenizer.json: {type(error).__name__}: {error}.") from None
    raise DataError(f"{path} holds a {name!r} model; BPE and k-mers (WordLevel) are known.")


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
