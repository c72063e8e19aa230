"""Where a haplotype's bases are: the arithmetic of edits, compiled.

Slot h of a contig carries edits e_0 < e_1 < …, disjoint and sorted. An edit replaces reference [start, end) by its
alternative; base k of the alternative has the coordinate min(start + k, end - 1), and inserted bases that of the base
before them. Everything else follows from one function, the number of haplotype bases before a coordinate, and its
inverse; a window is then a slice of the whole-contig haplotype by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Haplotypes", "copy_window", "count_starts", "first_at", "holds_edit", "last_start"]

ARRAYS = ("start", "end", "alt_at", "alt", "offsets", "carried", "growth")


@dataclass(frozen=True)
class Haplotypes:
    """The edits of one contig.

    Attributes
    ----------
    start, end
        int64 (E,): the reference bases [start, end) that each edit replaces; start = end is an insertion.
    alt_at, alt
        int64 (E + 1,) offsets into uint8 ASCII: the alternative bases.
    offsets
        int64 (slots + 1,): slot h carries ``carried[offsets[h]:offsets[h + 1]]``.
    carried
        int32: numbers of edits, increasing within a slot.
    growth
        int32: how much longer the haplotype is than the reference before that edit.
    records
        int64 (E, 2): 1-based position in the file, and number of the ALT allele, of each edit.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    alt_at: NDArray[np.int64]
    alt: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    carried: NDArray[np.int32]
    growth: NDArray[np.int32]
    records: NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path, number: int) -> Haplotypes:
        """Map the arrays of contig `number` of a store."""
        names = (*ARRAYS, "records")
        return cls(**{name: np.load(folder / f"{number}.{name}.npy", mmap_mode="r") for name in names})

    @classmethod
    def of(
        cls,
        edits: list[tuple[int, int, str]],
        records: list[tuple[int, int]],
        edit_of: NDArray[np.int64],
        slot_of: NDArray[np.int64],
        n_slots: int,
    ) -> Haplotypes:
        """Lay out accepted edits; `edit_of` and `slot_of` pair them, in the order of the file."""
        start = np.array([edit[0] for edit in edits], np.int64)
        end = np.array([edit[1] for edit in edits], np.int64)
        sizes = np.array([len(edit[2]) for edit in edits], np.int64)
        order = np.argsort(slot_of, kind="stable")
        carried = edit_of[order]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(slot_of, minlength=n_slots))]).astype(np.int64)
        change = np.concatenate([[0], np.cumsum((sizes - (end - start))[carried])])
        growth = change[:-1] - np.repeat(change[offsets[:-1]], np.diff(offsets))
        return cls(
            start,
            end,
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.frombuffer("".join(edit[2] for edit in edits).encode(), np.uint8),
            offsets,
            carried.astype(np.int32),
            growth.astype(np.int32),
            np.array(records, np.int64).reshape(-1, 2),
        )

    def save(self, folder: Path, number: int) -> None:
        """Write the arrays as contig `number` of a store."""
        for name in (*ARRAYS, "records"):
            np.save(folder / f"{number}.{name}.npy", getattr(self, name))

    @property
    def n_slots(self) -> int:
        """Haplotypes, two a sample."""
        return len(self.offsets) - 1

    @cached_property
    def arrays(self) -> tuple[NDArray, ...]:
        """What the compiled functions take, in their order."""
        return tuple(np.asarray(getattr(self, name)) for name in ARRAYS)

    def remaining(self, slot: int, start: int, end: int) -> int:
        """Return how many haplotype bases have coordinates in [start, end)."""
        return int(first_at(*self.arrays, slot, end) - first_at(*self.arrays, slot, start))


@njit(cache=True, nogil=True)
def _next_edit(end, offsets, carried, slot, at):
    """Return the place in `carried` of the slot's first edit with end > at."""
    low, high = offsets[slot], offsets[slot + 1]
    while low < high:
        middle = (low + high) // 2
        if end[carried[middle]] > at:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True, nogil=True)
def _growth(start, end, alt_at, offsets, carried, growth, slot, place):
    """Return the change in length before the edit at `place`, which may be one past the slot's last."""
    if place < offsets[slot + 1]:
        return np.int64(growth[place])
    if place == offsets[slot]:
        return np.int64(0)
    last = carried[place - 1]
    return growth[place - 1] + (alt_at[last + 1] - alt_at[last]) - (end[last] - start[last])


@njit(cache=True, nogil=True)
def first_at(start, end, alt_at, alt, offsets, carried, growth, slot, at):
    """Return the number of haplotype bases before reference coordinate `at`: the index of the first at or after it."""
    place = _next_edit(end, offsets, carried, slot, at)
    index = at + _growth(start, end, alt_at, offsets, carried, growth, slot, place)
    if place < offsets[slot + 1] and start[carried[place]] < at:
        edit = carried[place]
        index -= max(0, at - start[edit] - (alt_at[edit + 1] - alt_at[edit]))
    return index


@njit(cache=True, nogil=True)
def last_start(start, end, alt_at, alt, offsets, carried, growth, slot, index):
    """Return the largest coordinate s with first_at(s) <= index: the inverse of `first_at`."""
    low, high = offsets[slot], offsets[slot + 1]
    while low < high:  # the first edit after whose alternative there are more than `index` bases
        middle = (low + high) // 2
        edit = carried[middle]
        if start[edit] + growth[middle] + alt_at[edit + 1] - alt_at[edit] > index:
            high = middle
        else:
            low = middle + 1
    s = index - _growth(start, end, alt_at, offsets, carried, growth, slot, low)
    if low < offsets[slot + 1]:
        s = min(s, end[carried[low]] - 1)
    return s


@njit(cache=True, nogil=True)
def holds_edit(start, end, alt_at, alt, offsets, carried, growth, slot, s, length):
    """Say whether the window of `length` bases from s holds an edit: a base of one, or the junction of a deletion.

    Only the next edit decides; a junction needs a base on either side.
    """
    index = first_at(start, end, alt_at, alt, offsets, carried, growth, slot, s)
    place = _next_edit(end, offsets, carried, slot, s)
    while place < offsets[slot + 1]:
        edit = carried[place]
        begin = start[edit] + growth[place]
        size = alt_at[edit + 1] - alt_at[edit]
        if (size > 0 and begin + size > index) or (size == 0 and begin > index):
            return begin < index + length
        place += 1
    return False


@njit(cache=True, nogil=True)
def copy_window(bases, start, end, alt_at, alt, offsets, carried, growth, slot, s, out):
    """Fill `out` with the haplotype from the first base at or after coordinate s; there have to be enough."""
    place, stop = _next_edit(end, offsets, carried, slot, s), offsets[slot + 1]
    at, n = s, 0
    while n < out.size:
        edit = carried[place] if place < stop else -1
        until = start[edit] if edit >= 0 else bases.size
        while at < until and n < out.size:
            out[n] = bases[at]
            at += 1
            n += 1
        if edit < 0:
            return n
        k = alt_at[edit] + min(at - until, alt_at[edit + 1] - alt_at[edit])  # s may lie inside the edit
        while k < alt_at[edit + 1] and n < out.size:
            out[n] = alt[k]
            k += 1
            n += 1
        at = end[edit]
        place += 1
    return n


@njit(cache=True, nogil=True)
def count_starts(start, end, alt_at, alt, offsets, carried, growth, regions, reach, window, n_valid, n_holding):
    """Count, for every slot and region, the valid starts and those whose window holds an edit.

    A start is valid when `reach` bases follow it inside the region. ``regions`` is (R, 2); both results (slots, R).
    """
    for slot in range(offsets.size - 1):
        for r in range(regions.shape[0]):
            a, b = regions[r]
            room = first_at(start, end, alt_at, alt, offsets, carried, growth, slot, b) - reach
            last = min(b - 1, last_start(start, end, alt_at, alt, offsets, carried, growth, slot, room))
            n_valid[slot, r] = max(0, last - a + 1)
            free = a  # the first start that is not counted yet
            place = _next_edit(end, offsets, carried, slot, a)
            while place < offsets[slot + 1] and free <= last:
                edit = carried[place]
                begin = start[edit] + growth[place]
                size = alt_at[edit + 1] - alt_at[edit]
                low = last_start(start, end, alt_at, alt, offsets, carried, growth, slot, begin - window) + 1
                if low > last:
                    break
                final = begin + size - 1 if size > 0 else begin - 1
                high = last_start(start, end, alt_at, alt, offsets, carried, growth, slot, final)
                low, high = max(low, free), min(high, last)
                if high >= low:
                    n_holding[slot, r] += high - low + 1
                    free = high + 1
                place += 1
