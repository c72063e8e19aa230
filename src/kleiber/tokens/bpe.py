"""Byte-pair encoding of DNA, exact and compiled.

Encoding by merging is quadratic and slow; instead the text is covered from the left by the longest tokens, and a cover
is right exactly when every neighbouring pair would have come out of the merges as it stands. Where a pair would not,
the search takes the next shorter token, or steps back. A prefix of a right cover is right for its own bases, so a row
can end after any token. (The idea is van Antwerpen and Neubeck's, 2024, for byte-level tokenizers.) Rejected: a heap
of merges per sequence, exact too and five times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.tokens.tokenizer import BASES, SPECIALS, Tokenizer, envelope

__all__ = ["BPETokenizer"]

FIRST = len(SPECIALS)
LOOK_AHEAD = 8  # tokens encoded beyond a full row, so that its last ones are read in context


class BPETokenizer(Tokenizer):
    """Merges over A, C, G and T; anything else is one [UNK] a base and ends a word.

    Parameters
    ----------
    tokens
        The string of each id: specials, the four bases, then one token a merge in the order of the merges.
    merges
        Pairs of strings.
    document
        The ``tokenizer.json`` it came from; made when None.
    """

    kind = "bpe"

    def __init__(self, tokens: list[str], merges: list[tuple[str, ...]], document: dict[str, Any] | None = None):
        ids = {token: i for i, token in enumerate(tokens)}
        if tokens[FIRST : FIRST + 4] != list(BASES):
            raise DataError(f"A BPE of DNA has the bases A C G T as ids 5-8, not {tokens[FIRST : FIRST + 4]}.")
        if len(tokens) != FIRST + 4 + len(merges):
            raise DataError(f"{len(tokens)} tokens and {len(merges)} merges disagree: {FIRST + 4} ids are no merges.")
        split = np.zeros((len(tokens), 2), np.int64)
        for i in range(FIRST, FIRST + 4):
            split[i] = i
        for number, pair in enumerate(merges):
            i = FIRST + 4 + number
            if len(pair) != 2 or "".join(pair) != tokens[i] or any(ids.get(part, i) >= i for part in pair):
                raise DataError(
                    f"Merge {number} ({' + '.join(pair)}) does not make the token with id {i}, {tokens[i]!r}."
                )
            split[i] = ids[pair[0]], ids[pair[1]]
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": ids,
            "merges": [" ".join(pair) for pair in merges],
        }
        super().__init__(tokens, document or envelope(model, {"type": "Whitespace"}))
        self._split = split
        self._keys, self._values = _pair_table(split)
        self._trie, self._shorter = _trie(tokens)

    def _fill(
        self, codes: NDArray[np.uint8], ids: NDArray[np.int32], counts: NDArray[np.int64], used: NDArray[np.int64]
    ) -> None:
        lengths = self.token_lengths.astype(np.int64)
        _fill(codes, self._trie, self._shorter, lengths, self._split, self._keys, self._values, ids, counts, used)


def _trie(tokens: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the trie, (nodes, 5): four children (0 is none) and the token that ends here or -1; and for each token
    the longest token that is a proper prefix of it, or -1."""
    nodes: list[list[int]] = [[0, 0, 0, 0, -1]]
    order = sorted(range(FIRST, len(tokens)), key=lambda i: len(tokens[i]))
    shorter = np.full(len(tokens), -1, np.int64)
    for i in order:
        at, last = 0, -1
        for base in tokens[i]:
            if nodes[at][4] >= 0:
                last = nodes[at][4]
            code = BASES.find(base)
            if code < 0:
                raise DataError(f"The token {tokens[i]!r} (id {i}) is not made of A, C, G and T.")
            if not nodes[at][code]:
                nodes[at][code] = len(nodes)
                nodes.append([0, 0, 0, 0, -1])
            at = nodes[at][code]
        nodes[at][4], shorter[i] = i, last
    return np.array(nodes, np.int64), shorter


def _pair_table(split: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return an open-addressing hash table from pairs (left * V + right) to the token they merge into."""
    size = 1 << int(4 * len(split) + 16).bit_length()
    keys, values = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
    _fill_table(split, keys, values)
    return keys, values


@njit(inline="always")
def _slot(key, size):
    return (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) & np.uint64(size - 1)


@njit(cache=True)
def _fill_table(split, keys, values):
    for token in range(FIRST + 4, split.shape[0]):
        key = split[token, 0] * split.shape[0] + split[token, 1]
        at = _slot(key, keys.size)
        while keys[at] >= 0:
            at = (at + np.uint64(1)) & np.uint64(keys.size - 1)
        keys[at], values[at] = key, token


@njit(cache=True, nogil=True)
def _merged(left, right, keys, values, n_tokens):
    """Return the token that a pair merges into, or a number above all tokens."""
    key = left * n_tokens + right
    at = _slot(key, keys.size)
    while keys[at] >= 0:
        if keys[at] == key:
            return values[at]
        at = (at + np.uint64(1)) & np.uint64(keys.size - 1)
    return n_tokens


@njit(cache=True, nogil=True)
def _stays(left, right, split, keys, values):
    """Say whether two neighbours would come out of the merges as they are.

    Undo the later of the two until a pair across the border would have merged before that (False), or nothing is
    left to undo (True). Ids are in the order of the merges.
    """
    n_tokens = split.shape[0]
    limit = n_tokens
    while True:
        if _merged(left, right, keys, values, n_tokens) < limit:
            return False
        if left > right:
            limit, left = left, split[left, 1]
            if left == limit:
                limit, right = right + 1, split[right, 0]
                if right + 1 == limit:
                    return True
        else:
            limit, right = right + 1, split[right, 0]
            if right + 1 == limit:
                limit, left = left, split[left, 1]
                if left == limit:
                    return True


@njit(cache=True, nogil=True)
def _longest(codes, at, end, trie):
    """Return the longest token that starts at `at` within [at, end)."""
    node, found = 0, -1
    while at < end:
        node = trie[node, codes[at]]
        if node == 0:
            break
        if trie[node, 4] >= 0:
            found = trie[node, 4]
        at += 1
    return found


@njit(cache=True, nogil=True)
def _fill(codes, trie, shorter, lengths, split, keys, values, ids, counts, used):
    length, room = codes.shape[1], ids.shape[1]
    stack = np.empty(length, np.int64)
    dead = np.empty(length + 1, np.bool_)  # no right cover of the rest starts here
    for r in range(codes.shape[0]):
        row = codes[r]
        dead[:] = False
        start, n = 0, 0  # start and bottom: where the current word of A, C, G and T begins
        while start < length and n < room + LOOK_AHEAD:
            if row[start] > 3:
                stack[n] = 0
                n += 1
                start += 1
                continue
            end = start
            while end < length and row[end] < 4:
                end += 1
            bottom, at = n, start
            token = _longest(row, at, end, trie)
            while at < end and n < room + LOOK_AHEAD:
                fits = at + lengths[token]
                if not dead[fits] and (n == bottom or _stays(stack[n - 1], token, split, keys, values)):
                    stack[n] = token
                    n += 1
                    at = fits
                    if at < end:
                        token = _longest(row, at, end, trie)
                elif shorter[token] >= 0:
                    token = shorter[token]
                else:
                    dead[at] = True
                    n -= 1
                    token = stack[n]
                    at -= lengths[token]
            start = at
        n = min(n, room)
        bases = 0
        for i in range(n):
            ids[r, i] = stack[i]
            bases += lengths[stack[i]]
        counts[r], used[r] = n, bases
