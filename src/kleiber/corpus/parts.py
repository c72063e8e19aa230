"""A part of a corpus: regions of one contig on which the same slots can be read, and what lies in a window of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kleiber.genome.haplotypes import ROOM, carried
from kleiber.genome.store import Store

__all__ = ["Ints", "Part", "records_in"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Regions of one contig with the same slots.

    Attributes
    ----------
    last
        (R,): the least last valid start of any slot.
    n_valid
        (R, 2): valid starts of the slot that has most, and of all.
    """

    contig: str
    bases: NDArray[np.uint8]
    store: Store
    n_slots: int
    slots: NDArray[np.int64]
    regions: NDArray[np.int64]
    last: NDArray[np.int64]
    n_valid: NDArray[np.int64]


def records_in(part: Part, slot: int, start: int, window: int) -> list[dict[str, int]]:
    """Return the records whose edits a window holds a base of, or the junction of."""
    store, held, at, n = part.store, [], start, 0
    edits = np.empty(ROOM, np.int64)
    for edit in carried(store, part.n_slots, slot, start, len(part.bases) - 1, edits) if len(store.start) else ():
        begin, size = int(store.start[edit]), int(store.alt_at[edit + 1]) - int(store.alt_at[edit])
        n += max(0, begin - at)
        if n >= window:
            break
        seen = size - max(0, start - begin)
        if seen > 0 or (size == 0 and n > 0):
            held.append({"position": int(store.position[edit]), "allele": int(store.allele[edit])})
        n += max(0, seen)
        at = int(store.end[edit])
    return held
