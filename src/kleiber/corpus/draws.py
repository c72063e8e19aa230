"""The compiled half of sampling: draw (region, slot, start), accept it, copy it. Pure functions of (seed, index).

A population is cut into regions; each has a rectangle of candidates, its slots by the most starts that any of them
has. A candidate is drawn uniformly and rejected when its slot has no such start, or when the strategy does not keep it
(``variant``: its window holds no edit): so what is accepted is exactly uniform, without a table of slots by regions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kleiber import counter
from kleiber.genome.haplotypes import (
    ROOM,
    carried,
    copy_window,
    count_starts,
    decode,
    first_at,
    holds_edit,
    last_valid,
    measured,
)
from kleiber.genome.store import SHIFT

__all__ = ["accept", "count_holding", "count_valid", "draw", "fill", "groups_of", "hold_edit", "strands"]

_1 = np.uint64(1)


@njit(cache=True, nogil=True)
def count_valid(store, n_slots, slots, regions, reach, is_span, last, n_valid):
    """Find the least last start of any slot in each region.

    Beside it, how many valid starts there are: the most of any slot, and in all.

    ``regions`` is (R, 2); ``last`` (R,); ``n_valid`` (R, 2): the most of any slot, and the sum. In span mode a
    window is a stretch of the reference and every slot has the same starts.
    """
    edits = np.empty(ROOM, np.int64)
    for r in range(regions.shape[0]):
        begin, end = regions[r]
        last[r] = end
        n_valid[r, 0] = n_valid[r, 1] = 0
        for i in range(slots.size):
            final = end - reach if is_span else last_valid(store, n_slots, slots[i], begin, end, reach, edits)
            n = max(0, final - begin + 1)
            last[r] = min(last[r], final)
            n_valid[r, 0] = max(n_valid[r, 0], n)
            n_valid[r, 1] += n


@njit(cache=True, nogil=True)
def count_holding(store, n_slots, slots, regions, reach, window, is_span):
    """Count the valid starts whose window holds an edit, over all slots and regions.

    By interval arithmetic.
    """
    edits = np.empty(ROOM, np.int64)
    holding = 0
    for r in range(regions.shape[0]):
        begin, end = regions[r]
        for i in range(slots.size):
            if is_span:
                holding += _count_spans(store, n_slots, slots[i], begin, end, end - reach, window, edits)
            else:
                last = last_valid(store, n_slots, slots[i], begin, end, reach, edits)
                holding += count_starts(store, n_slots, slots[i], begin, end, last, window, edits)
    return holding


@njit(cache=True, nogil=True)
def _count_spans(store, n_slots, slot, begin, end, last, window, edits):
    """Count the starts from `begin` to `last` whose reference stretch of `window` bases holds an edit."""
    haplotype = measured(store, carried(store, n_slots, slot, begin, end, edits))
    holding, free, kept = 0, begin, begin - 1  # kept: the last coordinate before the edit that the haplotype has
    n = haplotype.start.size
    for i in range(n):
        start, stop, size = haplotype.start[i], haplotype.end[i], haplotype.size[i]
        if start > (haplotype.end[i - 1] if i else begin):
            kept = start - 1
        if size > 0:
            final = min(start + size - 1, stop - 1)
            first = min(start, stop - 1)
            kept = final
        else:  # a junction: the bases before and behind it
            final, first = kept, stop
            j = i + 1
            while j < n and haplotype.start[j] == first and haplotype.size[j] == 0:
                first = haplotype.end[j]
                j += 1
            if j < n and haplotype.end[j] == first and haplotype.size[j] > 0:
                first -= 1  # what is inserted right behind belongs to the last base that is gone
        low, high = max(first - window + 1, free), min(final, last)
        if high >= low:
            holding += high - low + 1
            free = high + 1
    return holding


@njit(cache=True, nogil=True)
def draw(seed, stream, indices, used, ends, groups, begins, spans, region, rank, start, chosen):
    """Draw a candidate for each index, going on from its draw `used`.

    ``ends`` (R + 1,) is the running number of candidates, ``groups`` (G + 1,) the regions of each contig when contigs
    are drawn first, or (0, R). ``chosen`` (n,) is the group of each index where it is decided, else -1. Fills region,
    rank of the slot, and start.
    """
    for i in range(indices.size):
        index, n = np.uint64(indices[i]), used[i]
        low, high = 0, ends.size - 1
        if chosen[i] >= 0:
            low, high = groups[chosen[i]], groups[chosen[i] + 1]
        elif groups.size > 2:
            group, n = counter.bounded(seed, stream, index, n, np.uint64(groups.size - 1))
            low, high = groups[np.int64(group)], groups[np.int64(group) + 1]
        value, n = counter.bounded(seed, stream, index, n, np.uint64(ends[high] - ends[low]))
        used[i] = n
        at = ends[low] + np.int64(value)
        while high - low > 1:
            middle = (low + high) // 2
            if ends[middle] <= at:
                low = middle
            else:
                high = middle
        at -= ends[low]
        region[i] = low
        rank[i] = at // spans[low]
        start[i] = begins[low] + at % spans[low]


@njit(cache=True, nogil=True)
def groups_of(seed, stream, indices, ends, group):
    """Draw the group of each index: ``ends`` are the running sums of the groups' shares."""
    for i in range(indices.size):
        at = counter.uniform(seed, stream, np.uint64(indices[i]), np.uint64(0)) * ends[-1]
        group[i] = min(np.searchsorted(ends, at, side="right"), ends.size - 1)


@njit(cache=True, nogil=True)
def accept(store, n_slots, slots, which, region, rank, start, ends, last, reach, is_span, accepted):
    """Say which candidates there are: whose slot has the start.

    ``which`` are the numbers of the candidates of this contig; ``ends`` and ``last`` are by region.
    """
    edits = np.empty(ROOM, np.int64)
    for k in range(which.size):
        i = np.uint64(which[k])
        slot, s, r = slots[rank[i]], start[i], region[i]
        good = s <= last[r]
        if not good and not is_span:
            good = s <= last_valid(store, n_slots, slot, s, ends[r], reach, edits)
        accepted[i] = good


@njit(cache=True, nogil=True)
def hold_edit(store, n_slots, slots, starts, window, is_span, held):
    """Say which windows hold an edit: from ``starts`` (n,) on, each on its slot of ``slots`` (n,)."""
    edits = np.empty(ROOM, np.int64)
    for i in range(starts.size):
        if is_span:
            held[i] = _span_holds_edit(store, n_slots, slots[i], starts[i], starts[i] + window, edits)
        else:
            held[i] = holds_edit(store, n_slots, slots[i], starts[i], window, edits)


@njit(cache=True, nogil=True)
def _span_holds_edit(store, n_slots, slot, begin, end, edits):
    """Say whether the reference stretch [begin, end) of a haplotype holds a base of an edit, or a whole junction."""
    at, is_start, has_base, is_cut = begin, True, False, False
    while at <= end and (at >> SHIFT) < store.row.size:
        until = min(((at >> SHIFT) + 1) << SHIFT, end + 1)
        found = decode(store, n_slots, slot, at, until, is_start, edits)
        is_start = False
        for i in range(found):
            edit = np.uint64(edits[i])
            start, stop = np.int64(store.start[edit]), np.int64(store.end[edit])
            size = np.int64(store.alt_at[edit + _1]) - np.int64(store.alt_at[edit])
            if start > at and at < end:  # reference bases between
                if is_cut:
                    return True
                has_base = True
            if size > 0 and min(start, stop - 1) < end and min(start + size, stop) > begin:
                return True
            if size == 0 and has_base:
                is_cut = True
            at = max(at, stop)
        if at < until:
            if is_cut and at < end:
                return True
            has_base = has_base or at < end
            at = until
    return False


@njit(cache=True, nogil=True)
def fill(bases, store, n_slots, slots, which, rank, start, out):
    """Copy each member's window into its row of `out`."""
    edits = np.empty(ROOM, np.int64)
    for k in range(which.size):
        i = which[k]
        copy_window(bases, store, n_slots, slots[rank[i]], start[i], out[i], edits)


@njit(cache=True, nogil=True)
def strands(seed, stream, indices, probability, complement, out):
    """Turn rows around, each with the same probability: reverse complement."""
    for i in range(indices.size):
        if counter.uniform(seed, stream, np.uint64(indices[i]), np.uint64(0)) < probability:
            row = out[i]
            n = row.size
            for a in range((n + 1) // 2):
                left, right = complement[row[a]], complement[row[n - 1 - a]]
                row[a], row[n - 1 - a] = right, left


@njit(cache=True, nogil=True)
def span_length(store, n_slots, slot, begin, end):
    """Return how many haplotype bases have coordinates in [begin, end)."""
    haplotype = measured(store, carried(store, n_slots, slot, begin, end, np.empty(ROOM, np.int64)))
    return first_at(haplotype, end) - first_at(haplotype, begin)
