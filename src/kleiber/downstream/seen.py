"""Which sequences lie in some DNA already: exact words of `WORD` bases, of either strand.

The words of the sequences are indexed, which are few, and the DNA is read past them, so that memory does not grow
with the genome. A sequence counts as seen when at least half of its words stand in the DNA: repeats share some words
with many places, and a few variants between assemblies break some. Rejected: alignment, which answers how alike two
sequences are and takes hours for a genome.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.tokens.tokenizer import CODES

__all__ = ["SEEN", "WORD", "share_seen"]

WORD, SHORTEST = 31, 16  # bases; shorter words stand in any genome by chance
SEEN = 0.5  # of a sequence's words
PIECE = 1 << 18  # bases whose words are in memory at once


def share_seen(sequences: Sequence[str], dna: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the share of each sequence's words that stand in some DNA, (n,); 0 where it has none.

    Parameters
    ----------
    dna
        Stretches of ASCII, (length,) each; no word goes from one to the next.

    Raises
    ------
    DataError
        When a sequence is too short to be looked for.
    """
    shortest = min(map(len, sequences), default=WORD)
    if shortest < SHORTEST:
        raise DataError(f"A sequence of {shortest} bases is too short to be found in a genome; {SHORTEST} are needed.")
    k = min(WORD, shortest)
    words = [_words(CODES[np.frombuffer(text.encode(), np.uint8)], k) for text in sequences]
    index = np.unique(np.concatenate(words)) if words else np.zeros(0, np.uint64)
    table, mask = _hashed(index)
    found = np.zeros(len(table), np.bool_)
    for stretch in dna:
        for at in range(0, len(stretch), PIECE):
            _mark(_words(CODES[stretch[at : at + PIECE + k - 1]], k), table, mask, found)
    there = np.sort(table[found])
    shares = np.zeros(len(sequences))
    for i, own in enumerate(words):
        if len(own) and len(there):
            at = np.minimum(np.searchsorted(there, own), len(there) - 1)
            shares[i] = float((there[at] == own).mean())
    return shares


EMPTY = np.uint64(2**64 - 1)  # no word of 31 bases


def _hashed(index: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
    """Return an open hash table of words, at most half full."""
    size = 1 << max(4, int(2 * len(index)).bit_length())
    table = np.full(size, EMPTY)
    _insert(index, table, size - 1)
    return table, size - 1


@njit(cache=True, nogil=True)
def _slot(word, table, mask):
    """Return where a word stands in the table, or the empty place where it would."""
    mixed = word * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(mixed >> np.uint64(20)) & mask
    while table[at] != word and table[at] != np.uint64(0xFFFFFFFFFFFFFFFF):
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def _insert(index, table, mask):
    for word in index:
        table[_slot(word, table, mask)] = word


@njit(cache=True, nogil=True)
def _words(codes, k):
    """Return the words of k bases as numbers, each the smaller of its two strands; none holds an N."""
    out = np.empty(max(0, codes.size - k + 1), np.uint64)
    n = 0
    top = np.uint64(2 * (k - 1))
    keep = np.uint64((1 << (2 * k)) - 1)
    word, turned, run = np.uint64(0), np.uint64(0), 0
    for code in codes:
        if code > 3:
            run = 0
            continue
        word = (word << np.uint64(2) | np.uint64(code)) & keep
        turned = turned >> np.uint64(2) | np.uint64(3 - code) << top
        run += 1
        if run >= k:
            out[n] = min(word, turned)
            n += 1
    return out[:n]


@njit(cache=True, nogil=True)
def _mark(words, table, mask, found):
    """Note which of some words stand in the table."""
    for word in words:
        at = _slot(word, table, mask)
        if table[at] == word:
            found[at] = True
