"""Where a haplotype's bases are: windows, and the arithmetic of edits, compiled.

Slot h of a contig carries edits e_0 < e_1 < …, disjoint and sorted. An edit replaces reference [start, end) by its
alternative; base k of the alternative has the coordinate min(start + k, end - 1), and inserted bases that of the base
before them. A window walks the edits of the tiles that it crosses and copies; what needs lengths (how many bases lie
between two coordinates, and the inverse) works on the edits of one haplotype, decoded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.genome.store import BLOCK_SHIFT, BLOCKS, GROUP, SHIFT, SKIP, TILE

__all__ = ["Carried", "carried", "copy_window", "count_starts", "first_at", "holds_edit", "last_start", "last_valid"]

ROOM = TILE  # a tile has fewer edits


@njit(cache=True, nogil=True)
def decode(store, n_slots, slot, begin, until, is_start, out):
    """Find the edits of a slot in the tile of `begin`: those that start before `until` and end behind `begin`.

    Unless `is_start`, only those that start at or after `begin` count, an insertion right there too: a window that is
    read on has passed what reaches across. Fills `out` with numbers of edits and returns how many.
    """
    if store.row[np.uint64(begin) >> np.uint64(SHIFT)] < 0:
        return 0
    tile = np.uint64(store.row[np.uint64(begin) >> np.uint64(SHIFT)])
    row = tile * np.uint64(BLOCKS) + ((np.uint64(begin) >> np.uint64(BLOCK_SHIFT)) & np.uint64(BLOCKS - 1))
    low = np.int64(store.block[row])
    n_reaching = store.carried_at[tile + np.uint64(1)] - store.carried_at[tile]
    own = store.first[tile] - n_reaching
    if not is_start and low < n_reaching:
        low = n_reaching
    # the dense edits: a row of bits
    dense_at = store.dense_at[tile]
    n_dense = store.dense_at[tile + np.uint64(1)] - dense_at
    bit = np.int64(store.block_dense[row])
    bits = store.bits_at[tile] + slot * ((n_dense + 7) >> 3)
    # the others: a list of gaps
    groups = np.uint64((n_slots + GROUP - 1) // GROUP)
    group = tile * groups + np.uint64(slot // GROUP)
    at = store.group_at[group] + np.int64(store.list_at[tile * np.uint64(n_slots) + np.uint64(slot)])
    if slot % GROUP == GROUP - 1 or slot == n_slots - 1:
        stop = store.group_at[group + np.uint64(1)]
    else:
        stop = store.group_at[group] + np.int64(store.list_at[tile * np.uint64(n_slots) + np.uint64(slot + 1)])
    listed = np.int64(-1)
    has_listed, has_bit = False, False
    common = np.int64(-1)
    n = 0
    while n < out.size:
        if not has_bit:
            common = np.int64(1 << 30)
            while bit < n_dense:
                byte = store.bits[np.uint64(bits + (bit >> 3))] >> np.uint8(bit & 7)
                if byte == 0:
                    bit = (bit | 7) + 1
                    continue
                while byte & 1 == 0:
                    byte >>= np.uint8(1)
                    bit += 1
                number = np.int64(store.dense[np.uint64(dense_at + bit)])
                bit += 1
                if number >= low:
                    common = number
                    break
            has_bit = True
        if not has_listed:
            found = False
            while at < stop:
                gap = np.int64(store.lists[np.uint64(at)])
                at += 1
                if gap == SKIP:
                    listed += SKIP
                    continue
                listed += gap + 1
                if listed >= low:
                    found = True
                    break
            if not found:
                listed = np.int64(1 << 30)
            has_listed = True
        if common < listed:
            number = common
            has_bit = False
        else:
            number = listed
            has_listed = False
        if number == 1 << 30:
            return n
        if number < n_reaching:
            edit = np.int64(store.carried[np.uint64(store.carried_at[tile] + number)])
        else:
            edit = own + number
        start = np.int64(store.start[np.uint64(edit)])
        if start >= until:
            return n
        if (np.int64(store.end[np.uint64(edit)]) > begin) if is_start else (start >= begin):
            out[n] = edit
            n += 1
    return n


@njit(cache=True, nogil=True)
def copy_window(bases, store, n_slots, slot, begin, out, edits):
    """Fill `out` with the haplotype from the first base at or after coordinate `begin`.

    Returns how many bases.

    Fewer than ``out.size`` only where the contig ends. ``edits`` is scratch: int64, `ROOM`.
    """
    at, n, is_start = begin, 0, True
    while n < out.size and at < bases.size:
        until = min(((at >> SHIFT) + 1) << SHIFT, at + (out.size - n) + 8)
        found = decode(store, n_slots, slot, at, until, is_start, edits)
        is_start = False
        for i in range(found):
            edit = np.uint64(edits[i])
            start = np.int64(store.start[edit])
            if start > at:
                n += _copy(bases, at, min(start - at, out.size - n), out, n)
                at = start
            alt = np.int64(store.alt_at[edit])
            size = np.int64(store.alt_at[edit + np.uint64(1)]) - alt
            skip = min(at - start, size)  # the window may begin inside the edit
            n += _copy(store.alt, alt + skip, min(size - skip, out.size - n), out, n)
            at = np.int64(store.end[edit])
            if n == out.size:
                return n
        if at < until:
            size = min(until - at, out.size - n, bases.size - at)
            n += _copy(bases, at, size, out, n)
            at += size
    return n


@njit(inline="always")
def _copy(source, at, size, out, n):
    for i in range(np.uint64(size)):
        out[np.uint64(n) + i] = source[np.uint64(at) + i]
    return size


@njit(cache=True, nogil=True)
def holds_edit(store, n_slots, slot, begin, length, edits):
    """Say whether the window of `length` bases from `begin` holds an edit.

    A base of one, or a deletion's junction.

    Only the next edit decides; a junction needs a base on either side.
    """
    at, n, is_start = begin, 0, True  # n: bases of the window so far
    while n < length and (at >> SHIFT) < store.row.size:
        until = min(((at >> SHIFT) + 1) << SHIFT, at + length - n)
        found = decode(store, n_slots, slot, at, until, is_start, edits)
        is_start = False
        for i in range(found):
            edit = np.uint64(edits[i])
            start = np.int64(store.start[edit])
            n += max(0, start - at)
            size = np.int64(store.alt_at[edit + np.uint64(1)]) - np.int64(store.alt_at[edit])
            if n >= length:
                return False
            if size > max(0, begin - start) or (size == 0 and n > 0):
                return True
            at = np.int64(store.end[edit])
        if at < until:
            n += until - at
            at = until
    return False


class Carried(NamedTuple):
    """The edits of one haplotype over a stretch, in order.

    Bases they replace, bases they put, growth before each.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    size: NDArray[np.int64]
    growth: NDArray[np.int64]


@njit(cache=True, nogil=True)
def carried(store, n_slots, slot, begin, until, edits):
    """Return the numbers of the edits of a slot that touch [begin, until).

    Beside them those of what is inserted behind it.
    """
    found = np.empty(64, np.int64)
    n, at, is_start = 0, begin, True
    while at <= until and (at >> SHIFT) < store.row.size:
        edge = min(((at >> SHIFT) + 1) << SHIFT, until + 1)
        k = decode(store, n_slots, slot, at, edge, is_start, edits)
        is_start = False
        if n + k > found.size:
            grown = np.empty(2 * (n + k), np.int64)
            for i in range(n):  # no slices: the text of their errors takes seconds to compile
                grown[i] = found[i]
            found = grown
        for i in range(k):
            found[n + i] = edits[i]
        n += k
        at = edge
    return found[:n]


@njit(cache=True, nogil=True)
def measured(store, numbers):
    """Return edits of one haplotype as `Carried`."""
    n = numbers.size
    out = Carried(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n + 1, np.int64))
    out.growth[0] = 0
    for i in range(n):
        e = np.uint64(numbers[i])
        out.start[i], out.end[i] = store.start[e], store.end[e]
        out.size[i] = np.int64(store.alt_at[e + np.uint64(1)]) - np.int64(store.alt_at[e])
        out.growth[i + 1] = out.growth[i] + out.size[i] - (out.end[i] - out.start[i])
    return out


@njit(cache=True, nogil=True)
def first_at(haplotype, at):
    """Return the number of haplotype bases before reference coordinate `at`.

    That is the index of the first at or after it.

    Up to a constant: that of the edits before the stretch that was decoded.
    """
    low, high = 0, haplotype.end.size  # the first edit that ends behind `at`
    while low < high:
        middle = (low + high) // 2
        if haplotype.end[middle] > at:
            high = middle
        else:
            low = middle + 1
    index = at + haplotype.growth[low]
    if low < haplotype.end.size and haplotype.start[low] < at:
        index -= max(0, at - haplotype.start[low] - haplotype.size[low])
    return index


@njit(cache=True, nogil=True)
def last_start(haplotype, index):
    """Return the largest coordinate s with first_at(s) <= index: the inverse of `first_at`."""
    low, high = 0, haplotype.end.size
    while low < high:  # the first edit after whose alternative there are more than `index` bases
        middle = (low + high) // 2
        if haplotype.start[middle] + haplotype.growth[middle] + haplotype.size[middle] > index:
            high = middle
        else:
            low = middle + 1
    s = index - haplotype.growth[low]
    if low < haplotype.end.size:
        s = min(s, haplotype.end[low] - 1)
    return s


@njit(cache=True, nogil=True)
def last_valid(store, n_slots, slot, begin, end, reach, edits):
    """Return the last start in [begin, end) that `reach` bases of [begin, end) follow.

    Less than `begin` when there is none.
    """
    low = max(begin, end - 2 * reach - 1024)
    while True:
        haplotype = measured(store, carried(store, n_slots, slot, low, end, edits))
        s = min(end - 1, last_start(haplotype, first_at(haplotype, end) - reach))
        if s >= low or low == begin:
            return s if s >= low else begin - 1
        low = max(begin, low - 4 * (end - low))


@njit(cache=True, nogil=True)
def count_starts(store, n_slots, slot, begin, end, last, window, edits):
    """Count the starts from `begin` to `last` whose window holds an edit.

    Windows have `window` bases; by interval arithmetic.
    """
    haplotype = measured(store, carried(store, n_slots, slot, begin, end, edits))
    holding, free = 0, begin  # the first start that is not counted yet
    for i in range(haplotype.start.size):
        if free > last:
            break
        index = haplotype.start[i] + haplotype.growth[i]
        low = last_start(haplotype, index - window) + 1
        if low > last:
            break
        final = index + haplotype.size[i] - 1 if haplotype.size[i] > 0 else index - 1
        low, high = max(low, free), min(last_start(haplotype, final), last)
        if high >= low:
            holding += high - low + 1
            free = high + 1
    return holding
