"""Byte-pair encoding of DNA, exact and compiled.

Encoding by merging is quadratic and slow; instead the text is covered from the left by the longest tokens, and a cover
is right exactly when every neighbouring pair would have come out of the merges as it stands. Where a pair would not,
the search takes the next shorter token, or steps back. A prefix of a right cover is right for its own bases, so a row
can end after any token. (The idea is van Antwerpen and Neubeck's, 2024, for byte-level tokenizers.) Rejected: a heap
of merges per sequence, exact too and five times slower.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber import counter
from kleiber.errors import DataError
from kleiber.tokens.merges import learn_merges
from kleiber.tokens.tokenizer import BASES, CODES, SPECIALS, Rows, Tokenizer, envelope

__all__ = ["BPETokenizer"]

FIRST = len(SPECIALS)
LARGEST_KNOWN = 8192  # tokens: answers for all pairs take 16 MB
LOOK_AHEAD = 8  # tokens encoded beyond a full row, so that its last ones are read in context
HEAD = 7  # bases that one look at `Trie.start` answers; the table, 64 KB, stays in a core's nearest caches
NO_BASE, NO_WORD = 4, -1
WORDS_APART = (None, {"type": "Whitespace"}, {"type": "WhitespaceSplit"})  # pre-tokenizers that leave DNA whole
ONE, TWO, THREE = np.uint64(1), np.uint64(2), np.uint64(3)  # unsigned: numba checks signed indices for wrapping


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
    specs = '"bpe1024" (16 or more tokens)'

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
        keys, values = _pair_table(split)
        self._pairs = Pairs(split.astype(np.int32), keys, values, np.zeros(_known_bytes(len(tokens)), np.uint8))
        if (lost := _never_made(self._pairs)) >= 0:
            raise DataError(
                f"The token {tokens[lost]!r} (id {lost}) is never made: earlier merges join its letters otherwise."
            )
        self._trie = _trie(tokens)

    def legal_pairs(self, n: int = 200_000) -> float:
        """Return the share of pairs of tokens that encoding can put side by side, from `n` drawn pairs.

        A model that puts weight on the others gives it away: they never occur.
        """
        size = self.vocab_size - FIRST
        draws = counter.uniforms(0, counter.stream_id("pairs"), 0, 2 * n).reshape(2, n)
        left, right = (FIRST + (row * size).astype(np.int64) for row in draws)
        return float(_count_fits(left, right, self._pairs) / n)

    @classmethod
    def from_spec(cls, spec: str, windows: NDArray[np.uint8], max_token_length: int) -> Self | None:
        """Return a BPE learned from `windows`, (n, L); None when `spec` is no ``bpe16`` or larger."""
        match = re.fullmatch(r"bpe(\d{1,9})", spec)
        if not match or int(match[1]) < 16:
            return None
        tokens = [*SPECIALS, *BASES]
        merges: list[tuple[str, ...]] = []
        for left, right in learn_merges(windows, int(match[1]), max_token_length):
            merges.append((tokens[left], tokens[right]))
            tokens.append(tokens[left] + tokens[right])
        return cls(tokens, merges)

    @classmethod
    def from_document(cls, document: dict[str, Any], tokens: list[str], path: str | Path) -> Self | None:
        """Return any BPE over A, C, G and T, such as DNABERT-2's; None for another model.

        Raises
        ------
        DataError
            When its file cuts DNA into words, or its merges do not make its tokens.
        """
        if document["model"]["type"] != "BPE":
            return None
        if document["pre_tokenizer"] not in WORDS_APART:
            raise DataError(f"{path}: its pre_tokenizer is {document['pre_tokenizer']!r}; DNA is one word.")
        pairs = document["model"]["merges"]
        return cls(tokens, [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in pairs], document)

    def _fill(self, bases: NDArray[np.uint8], room: int, rows: Rows) -> None:
        _fill(bases, CODES, self._trie, self.token_lengths, self._pairs, room, *rows)


class Pairs(NamedTuple):
    """What decides whether two tokens may stand side by side.

    Attributes
    ----------
    split
        (V, 2): the two tokens that each merge joins; a base is its own.
    keys, values
        A hash table from pairs (left · V + right) to the token that they merge into.
    known
        What `_stays` answered, two bits a pair: 0 is not asked yet, 1 no, 2 yes; empty for large vocabularies. Threads
        share it: what one writes over another's answer is asked again.
    """

    split: NDArray[np.int32]
    keys: NDArray[np.int64]
    values: NDArray[np.int64]
    known: NDArray[np.uint8]


class Trie(NamedTuple):
    """The tokens by their bases.

    Attributes
    ----------
    children
        Four entries a node: where the child for A, C, G, T begins; 0 is none.
    longest
        Of each node, the longest token on the way to it.
    start
        Of every word of `HEAD` bases, the node it leads to, or ~token when the trie ends within the word.
    shorter
        (V,): of each token, the longest token that is a proper prefix of it, or -1.
    """

    children: NDArray[np.int32]
    longest: NDArray[np.int32]
    start: NDArray[np.int32]
    shorter: NDArray[np.int32]


def _known_bytes(vocab_size: int) -> int:
    return vocab_size * vocab_size // 4 + 1 if vocab_size <= LARGEST_KNOWN else 0


def _trie(tokens: list[str]) -> Trie:
    nodes, longest = [[0, 0, 0, 0]], [-1]
    shorter = np.full(len(tokens), -1, np.int32)
    for i in sorted(range(FIRST, len(tokens)), key=lambda i: len(tokens[i])):
        at = 0
        for base in tokens[i]:
            code = BASES.find(base)
            if code < 0:
                raise DataError(f"The token {tokens[i]!r} (id {i}) is not made of A, C, G and T.")
            if not nodes[at][code]:
                nodes[at][code] = len(nodes) << 2
                nodes.append([0, 0, 0, 0])
                longest.append(longest[at])
            at = nodes[at][code] >> 2
        shorter[i], longest[at] = longest[at], i
    children, ends = np.array(nodes, np.int32).ravel(), np.array(longest, np.int32)
    start = np.empty(4**HEAD, np.int32)
    _fill_start(children, ends, start)
    return Trie(children, ends, start, shorter)


@njit(cache=True)
def _fill_start(children, longest, start):
    for word in range(start.size):
        node = 0
        for i in range(HEAD):
            child = children[node | (word >> 2 * (HEAD - 1 - i) & 3)]
            if child == 0:
                break
            node = child
        start[word] = node if child else ~longest[node >> 2]


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
def _merged(left, right, pairs, n_tokens):
    """Return the token that a pair merges into, or a number above all tokens."""
    key = left * n_tokens + right
    at = _slot(key, pairs.keys.size)
    while pairs.keys[at] >= 0:
        if pairs.keys[at] == key:
            return pairs.values[at]
        at = (at + np.uint64(1)) & np.uint64(pairs.keys.size - 1)
    return n_tokens


@njit(cache=True, nogil=True)
def _stays(left, right, pairs, limit):
    """Say whether two neighbours would come out of the merges before `limit` as they are.

    Undo the later of the two until a pair across the border would have merged before that (False), or nothing is
    left to undo (True). Ids are in the order of the merges.
    """
    split = pairs.split
    n_tokens = np.int64(split.shape[0])
    while True:
        if _merged(left, right, pairs, n_tokens) < limit:
            return False
        if left > right:
            limit, left = left, np.int64(split[left, 1])
            if left == limit:
                limit, right = right + 1, np.int64(split[right, 0])
                if right + 1 == limit:
                    return True
        else:
            limit, right = right + 1, np.int64(split[right, 0])
            if right + 1 == limit:
                limit, left = left, np.int64(split[left, 1])
                if left == limit:
                    return True


@njit(cache=True, nogil=True)
def _ask(left, right, pairs):
    """Ask `_stays` and remember the answer."""
    answer = _stays(np.int64(left), np.int64(right), pairs, np.int64(pairs.split.shape[0]))
    if pairs.known.size:
        pair = np.uint64(left) * np.uint64(pairs.split.shape[0]) + np.uint64(right)
        pairs.known[pair >> TWO] |= np.uint8(2 if answer else 1) << np.uint8((pair & THREE) << ONE)
    return answer


@njit(cache=True, nogil=True)
def _count_fits(left, right, pairs):
    n = 0
    for i in range(left.size):
        n += _stays(left[i], right[i], pairs, np.int64(pairs.split.shape[0]))
    return n


@njit(cache=True)
def _never_made(pairs):
    """Return the first token whose two parts earlier merges would not leave side by side, or -1."""
    for token in range(FIRST + 4, pairs.split.shape[0]):
        left, right = np.int64(pairs.split[token, 0]), np.int64(pairs.split[token, 1])
        if not _stays(left, right, pairs, np.int64(token)):
            return token
    return -1


@njit(cache=True, nogil=True)
def _read(row, table, codes, words):
    """Write the code of each base, and of the `HEAD` bases from each on their number, where all of them are bases."""
    word, run = np.uint32(0), 0
    for i in range(row.size):
        code = table[row[i]]
        codes[i] = code
        word = (word << np.uint32(2) | np.uint32(code & np.uint8(3))) & np.uint32(4**HEAD - 1)
        run = run + 1 if code < NO_BASE else 0
        if i >= HEAD - 1:
            words[i - (HEAD - 1)] = np.int32(word) if run >= HEAD else NO_WORD


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(bases, table, trie, lengths, pairs, room, ids, offsets, used):
    """Encode rows of bases; looking a token or a pair up is written out here, as calls would take half the time."""
    length = np.uint64(bases.shape[1])
    most = np.uint64(min(np.int64(length), room + LOOK_AHEAD))
    children, longest, first, shorter, known = trie.children, trie.longest, trie.start, trie.shorter, pairs.known
    n_tokens, remembers = np.uint64(pairs.split.shape[0]), pairs.known.size > 0
    stack = np.empty(np.int64(length) + 1, np.int32)
    codes = np.full(np.int64(length) + 1, NO_BASE, np.uint8)
    words = np.full(np.int64(length) + 1, NO_WORD, np.int32)
    dead = np.zeros(np.int64(length) + 1, np.bool_)  # no right cover of the rest starts here
    out = 0
    for r in range(bases.shape[0]):
        _read(bases[r], table, codes, words)
        is_clean = True
        start, n = np.uint64(0), np.uint64(0)
        while start < length and n < most:
            if codes[start] == NO_BASE:
                stack[n] = 0
                n += ONE
                start += ONE
                continue
            end = start  # the word of A, C, G and T that begins here
            while codes[end] != NO_BASE:
                end += ONE
            bottom, at = n, start
            token, left, is_new = np.int32(-1), np.int32(0), True
            while at < end and n < most:
                if is_new:  # the longest token that begins here
                    node, past = np.uint32(0), at
                    head = first[words[at]] if words[at] >= 0 else np.int32(0)
                    if head < 0:
                        token = ~head
                    else:
                        if head > 0:
                            node, past = np.uint32(head), at + np.uint64(HEAD)
                        while codes[past] != NO_BASE:
                            child = np.uint32(children[node | np.uint32(codes[past])])
                            if child == 0:
                                break
                            node = child
                            past += ONE
                        token = longest[node >> np.uint32(2)]
                past = at + np.uint64(lengths[token])
                fits = not dead[past]
                if fits and n != bottom:
                    left = stack[n - ONE]
                    pair = np.uint64(left) * n_tokens + np.uint64(token)
                    answer = np.uint8(0)
                    if remembers:
                        answer = (known[pair >> TWO] >> np.uint8((pair & THREE) << ONE)) & np.uint8(3)
                    fits = answer == 2
                    if answer == 0:
                        fits = _ask(left, token, pairs)
                if fits:
                    stack[n] = token
                    n += ONE
                    at = past
                    is_new = True
                elif shorter[token] >= 0:
                    token = shorter[token]
                    is_new = False
                else:
                    dead[at] = True
                    is_clean = False
                    n -= ONE
                    token = stack[n]
                    at -= np.uint64(lengths[token])
                    is_new = False
            start = at
        if not is_clean:
            dead[:] = False
        kept = min(np.int64(n), room)
        size = 0
        for i in range(kept):
            ids[out + i] = stack[i]
            size += lengths[stack[i]]
        out += kept
        offsets[r + 1], used[r] = out, size
