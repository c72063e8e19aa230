"""K-mers; k = 1 is the nucleotide tokenizer.

From the left, k bases make a word; what is shorter (before an N, at the end) is read base by base. Ids: the five
specials, A C G T as singles, then the 4^k words in the order of their letters. The frame is that of the first base:
windows of a corpus begin at random bases, so a model sees every frame. Overlapping k-mers (DNABERT's: Ji et al. 2021,
doi:10.1093/bioinformatics/btab083) are for feeding such models; studies do not train on them, because a masked word
can be read off its neighbours.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.tokens.tokenizer import BASES, CODES, SPECIALS, UNK, Rows, Tokenizer, envelope

__all__ = ["KmerTokenizer", "OverlappingKmerTokenizer", "fill_words"]

SINGLES = len(SPECIALS)
WORDS = SINGLES + len(BASES)


class KmerTokenizer(Tokenizer):
    """Words of `k` bases; for k = 6 the vocabulary is 5 specials + 4 singles + 4,096 words = 4,105.

    Attributes
    ----------
    order
        The bases in the order of their codes.
    singles
        The letters with an id of their own.
    """

    specs = '"nucleotide", "6mer" (k from 2 to 8)'
    order: ClassVar[str] = BASES
    singles: ClassVar[str] = BASES

    def __init__(self, k: int):
        self.kind, self.k = ("nucleotide" if k == 1 else "kmer"), k
        words = ["".join(word) for word in product(self.order, repeat=k)] if k > 1 else []
        tokens = [*SPECIALS, *self.singles, *words]
        model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "[UNK]"}
        pattern = {"type": "Split", "pattern": {"Regex": f"[ACGT]{{{k}}}|."}, "behavior": "Isolated", "invert": False}
        super().__init__(tokens, envelope(model, pattern))

    @classmethod
    def from_spec(cls, spec: str, windows: NDArray[np.uint8], max_token_length: int) -> Self | None:
        """Return the k-mers of ``nucleotide`` or ``6mer``, else None; `windows`, (n, L), are not read."""
        if spec == "nucleotide":
            return cls(1)
        match = re.fullmatch(r"([2-8])mer", spec)
        return cls(int(match[1])) if match else None

    @classmethod
    def from_document(cls, document: dict[str, Any], tokens: list[str], path: str | Path) -> Self | None:
        """Return the k-mers of a file of words that begin every k bases, or every base; else None.

        Raises
        ------
        DataError
            When they are not all words of k bases, each with the id that it has here.
        """
        if document["model"]["type"] != "WordLevel":
            return None
        if (document["pre_tokenizer"]["type"] == "WhitespaceSplit") != cls.overlaps:
            return None
        k = max(map(len, tokens[SINGLES:]), default=0)
        if len(tokens) != WORDS + (4**k if k > 1 else 0):
            raise DataError(f"{path} has {len(tokens)} tokens, which are not the specials, A C G T and all {k}-mers.")
        return cls(k)._same_as(document, path)

    def _same_as(self, document: dict[str, Any], path: str | Path) -> Self:
        """See that a file has the ids of this tokenizer, and cuts DNA into the same words."""
        ours, theirs = ((one["model"]["vocab"], one["pre_tokenizer"]) for one in (self.model, document))
        if ours != theirs:
            raise DataError(f"{path} numbers or cuts its words otherwise than k-mers are here; it cannot be read.")
        return self

    def _fill(self, bases: NDArray[np.uint8], room: int, rows: Rows) -> None:
        if self.k == 1:
            _fill_bases(bases, _SINGLE, room, *rows)
        else:
            fill_words(bases, CODES, self.k, WORDS, UNK, room, *rows)


class OverlappingKmerTokenizer(KmerTokenizer):
    """A word of `k` bases from every base on, one base apart; a word with another letter in it is [UNK].

    Hugging Face reads its file when the words are written with spaces between them, as DNABERT's input is.
    """

    specs = ""
    overlaps = True

    def __init__(self, k: int):
        super().__init__(k)
        self.model["pre_tokenizer"] = {"type": "WhitespaceSplit"}
        self.token_lengths = np.minimum(self.token_lengths, 1)  # each word goes one base further

    @classmethod
    def from_spec(cls, spec: str, windows: NDArray[np.uint8], max_token_length: int) -> Self | None:
        """Return None: no study trains on them; `windows`, (n, L), are not read."""
        return None

    def _fill(self, bases: NDArray[np.uint8], room: int, rows: Rows) -> None:
        n, length = bases.shape
        each = max(0, min(room, length - self.k + 1))
        _fill_overlapping(bases, CODES, self.k, SINGLES if self.k == 1 else WORDS, each, rows.ids)
        rows.offsets[:] = np.arange(n + 1) * each
        rows.used[:] = each + self.k - 1 if each else 0

    def decode(self, ids: NDArray[np.integer]) -> str:
        """Return the bases that overlapping words `ids`, (n,), cover; N where no word says which."""
        words = [self.tokens[i] for i in ids if i == UNK or i >= SINGLES]
        letters = ["N"] * (len(words) + self.k - 1 if words else 0)
        for at, word in enumerate(words):
            if len(word) == self.k:
                letters[at : at + self.k] = word
        return "".join(letters)


_SINGLE = np.where(len(BASES) > CODES, CODES.astype(np.int32) + SINGLES, 0).astype(np.int32)


@njit(cache=True, nogil=True)
def _fill_bases(bases, single, room, ids, offsets, used):
    """Give each base its id."""
    n = np.uint64(min(room, bases.shape[1]))
    for r in range(bases.shape[0]):
        row, at = bases[r], np.uint64(r) * n
        for i in range(n):
            ids[at + i] = single[row[i]]
        offsets[r + 1] = at + n
        used[r] = n


@njit(cache=True, nogil=True)
def fill_words(bases, codes, k, words, other_id, room, ids, offsets, used):
    """Give each word of k bases its id, from `words` on; a base that no whole word begins with, its own.

    What is no base gets `other_id`.
    """
    length = np.uint64(bases.shape[1])
    width = np.uint64(k)
    out = np.uint64(0)
    for r in range(bases.shape[0]):
        row = bases[r]
        at, stop = np.uint64(0), out + np.uint64(room)
        while at < length and out < stop:
            word, other = np.uint32(0), np.uint8(0)
            if at + width <= length:
                for i in range(width):
                    code = codes[row[at + i]]
                    other |= code
                    word = np.uint32(word << np.uint32(2)) | np.uint32(code)
            else:
                other = np.uint8(4)
            if other < 4:
                ids[out] = np.int32(words) + np.int32(word)
                at += width
            else:
                code = codes[row[at]]
                ids[out] = np.int32(SINGLES) + np.int32(code) if code < 4 else np.int32(other_id)
                at += np.uint64(1)
            out += np.uint64(1)
        offsets[r + 1] = out
        used[r] = at


@njit(cache=True, nogil=True)
def _fill_overlapping(bases, codes, k, words, each, ids):
    mask = np.int64(4**k - 1)
    for r in range(bases.shape[0]):
        word, run = np.int64(0), 0
        for i in range(each + k - 1 if each else 0):
            code = codes[bases[r, i]]
            word = (word << 2 | np.int64(code & 3)) & mask
            run = run + 1 if code < 4 else 0
            if i >= k - 1:
                ids[r * each + i - k + 1] = np.int32(words + word) if run >= k else np.int32(UNK)
