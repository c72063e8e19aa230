"""Learn the merges of a byte-pair encoding of DNA, in compiled code and bounded memory.

Every pair of neighbouring tokens is counted once, and a merge touches only the places where its pair stands: they
hang on a doubly linked list of their own, threaded through the text. A token writes its id at its first and at its
last base, so that both neighbours are found without further links, and 11 bytes a base suffice. Rejected: Hugging
Face's trainer, which gives the same merges in several times the time and 60 bytes a base; rustbpe, which knows no
longest token and no vocabulary below 256.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.tokens.tokenizer import CODES, SPECIALS

__all__ = ["learn_merges"]

FIRST = len(SPECIALS)
BREAK = 0  # between rows, and where there is no base
HASH = np.uint64(0x9E3779B97F4A7C15)


def learn_merges(windows: NDArray[np.uint8], vocab_size: int, max_token_length: int) -> NDArray[np.int64]:
    """Return the pairs of ids that are merged, in their order; merge i makes the token with id 9 + i.

    The most frequent pair first, of equally frequent ones the one with the smaller ids (Sennrich et al. 2016,
    doi:10.18653/v1/P16-1162, with the tie rule of Hugging Face's trainer). A pair whose string is a token already is
    passed over, and so is one that occurs once.

    Parameters
    ----------
    windows
        (n, L) ASCII; no pair reaches over the end of a row or over what is not A, C, G or T.
    vocab_size
        Tokens wanted, five specials and four bases among them.
    max_token_length
        Bases of the longest token.

    Returns
    -------
    (m, 2) ids; m is less than ``vocab_size - 9`` when no more pairs occur twice.
    """
    text = np.full((windows.shape[0], windows.shape[1] + 1), BREAK, np.uint16 if vocab_size < 2**16 else np.uint32)
    codes = CODES[windows]
    np.copyto(text[:, :-1], codes + FIRST, where=codes < 4, casting="unsafe")
    del codes
    pairs: NDArray[np.int64] = _learn(text.ravel(), vocab_size, max_token_length)
    return pairs


@njit(inline="always")
def _find(key, keys):
    """Return the slot of a key in an open-addressing table, or the empty one where it belongs."""
    last = np.uint64(keys.size - 1)
    at = (np.uint64(key) * HASH >> np.uint64(24)) & last
    while keys[at] != key and keys[at] >= 0:
        at = (at + np.uint64(1)) & last
    return at


@njit(cache=True)
def _grown(keys, counts, heads):
    """Return the table of pairs at twice the size."""
    more = np.full(2 * keys.size, -1, np.int64)
    more_counts, more_heads = np.zeros(2 * keys.size, np.int64), np.full(2 * keys.size, -1, np.int32)
    for i in range(keys.size):
        if keys[i] >= 0 and (counts[i] > 0 or heads[i] >= 0):
            at = _find(keys[i], more)
            more[at], more_counts[at], more_heads[at] = keys[i], counts[i], heads[i]
    return more, more_counts, more_heads


@njit(cache=True)
def _link(place, key, keys, counts, heads, after, before):
    """Hang a place on the list of a pair; say whether the pair is a new one."""
    at = _find(key, keys)
    is_new = keys[at] < 0
    keys[at] = key
    counts[at] += 1
    head = heads[at]
    after[place], before[place] = head, -1
    if head >= 0:
        before[head] = place
    heads[at] = place
    return is_new


@njit(cache=True)
def _unlink(place, key, keys, counts, heads, after, before):
    """Take a place off the list of a pair."""
    at = _find(key, keys)
    counts[at] -= 1
    if before[place] >= 0:
        after[before[place]] = after[place]
    else:
        heads[at] = after[place]
    if after[place] >= 0:
        before[after[place]] = before[place]


@njit(cache=True)
def _learn(text, vocab_size, max_length):
    base = np.int64(vocab_size)
    keys, counts, heads = np.full(1 << 16, -1, np.int64), np.zeros(1 << 16, np.int64), np.full(1 << 16, -1, np.int32)
    after, before = np.empty(text.size, np.int32), np.empty(text.size, np.int32)
    lengths = np.ones(vocab_size, np.int64)
    strings, powers = np.zeros(vocab_size, np.uint64), np.full(vocab_size, HASH)  # a rolling hash of each token
    for i in range(4):
        strings[FIRST + i] = np.uint64(i + 1)
    n_pairs = 0
    for place in range(text.size - 1, 0, -1):
        left, right = np.int64(text[place - 1]), np.int64(text[place])
        if left != BREAK and right != BREAK:
            n_pairs += _link(place - 1, left * base + right, keys, counts, heads, after, before)
    heap = [(-counts[i], keys[i]) for i in range(keys.size) if keys[i] >= 0]
    heapq.heapify(heap)
    merges = np.empty((vocab_size - FIRST - 4, 2), np.int64)
    n = 0
    while n < len(merges) and len(heap):
        known, key = heapq.heappop(heap)
        slot = _find(key, keys)
        if counts[slot] != -known:  # it lost places since it was put here
            if counts[slot] > 1:
                heapq.heappush(heap, (-counts[slot], key))
            continue
        left, right = key // base, key % base
        string, made = strings[left] * powers[right] + strings[right], np.int64(FIRST + 4 + n)
        if known > -2 or np.any(strings[FIRST:made] == string):
            continue
        strings[made], powers[made] = string, powers[left] * powers[right]
        lengths[made] = lengths[left] + lengths[right]
        merges[n, 0], merges[n, 1] = left, right
        n += 1
        places = np.empty(counts[slot], np.int32)
        place, i = heads[slot], 0
        while place >= 0:
            places[i] = place
            place = after[place]
            i += 1
        if left == right:
            places.sort()  # a run is joined from its left
        touched = [np.int64(0) for _ in range(0)]
        for place in places:
            middle = place + lengths[left]
            if text[place] != left or text[middle] != right:
                continue  # an overlapping place was joined before
            end = middle + lengths[right]
            _unlink(place, key, keys, counts, heads, after, before)
            if 2 * (n_pairs + 2) > keys.size:
                keys, counts, heads = _grown(keys, counts, heads)
                n_pairs = int(np.count_nonzero(keys >= 0))
            following, previous = np.int64(text[end]), np.int64(text[place - 1]) if place > 0 else np.int64(BREAK)
            if following != BREAK and lengths[right] + lengths[following] <= max_length:
                _unlink(middle, right * base + following, keys, counts, heads, after, before)
            if following != BREAK and lengths[made] + lengths[following] <= max_length:
                pair = made * base + following
                if _link(place, pair, keys, counts, heads, after, before):
                    n_pairs += 1
                    touched.append(pair)
            if previous != BREAK:
                start = place - lengths[previous]
                if lengths[previous] + lengths[left] <= max_length:
                    _unlink(start, previous * base + left, keys, counts, heads, after, before)
                if lengths[previous] + lengths[made] <= max_length:
                    pair = previous * base + made
                    if _link(start, pair, keys, counts, heads, after, before):
                        n_pairs += 1
                        touched.append(pair)
            text[middle] = BREAK  # nobody begins here any more
            text[place], text[end - 1] = made, made
        for pair in touched:
            count = counts[_find(pair, keys)]
            if count > 1:
                heapq.heappush(heap, (-count, pair))
    return merges[:n]
