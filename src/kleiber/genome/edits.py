"""Records become accepted edits of haplotypes: which of two that touch the same bases wins.

A haplotype is one whole-contig string, so conflicts are decided once, over the whole contig, and a window never
depends on where it starts. Policy ``bcftools`` is what ``bcftools consensus -H`` does (version 1.24): first come,
first served, with one exception for an indel whose anchor base is the last base used. Policy ``edits`` trims alleles
first and accepts whatever does not overlap; it keeps more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError

__all__ = ["POLICIES", "Acceptance", "trim"]

POLICIES = ("bcftools", "edits")


def trim(position: int, ref: str, alt: str) -> tuple[int, int, str]:
    """Return the bases that an allele really replaces: (start, end, alternative), 0-based half-open.

    Shared prefix first, then shared suffix, as bcftools decides what is an indel; start = end is a pure insertion. What
    is inserted before the first base of a contig has no base to belong to and counts as part of a longer first base.
    """
    first = ref[0]
    start, shared = position - 1, 0
    while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
        shared += 1
    ref, alt, start = ref[shared:], alt[shared:], start + shared
    tail = 0
    while tail < min(len(ref), len(alt)) and ref[len(ref) - 1 - tail] == alt[len(alt) - 1 - tail]:
        tail += 1
    end, body = start + len(ref) - tail, alt[: len(alt) - tail]
    return (start, end, body) if end else (0, 1, body + first)


class Acceptance:
    """Decide edit by edit, for all haplotypes of a contig at once, in the order of the file."""

    def __init__(self, policy: str, n_slots: int):
        if policy not in POLICIES:
            raise ConfigError(f"There is no conflict policy {policy!r}; choose one of {', '.join(POLICIES)}.")
        self.policy = policy
        self.used = np.zeros(n_slots, np.int64)  # last reference base used, 1-based (bcftools); end of it (edits)
        self.inserted = np.zeros(n_slots, bool)  # the last accepted edit inserts (at `used`, for edits)

    def accept(self, carriers: NDArray[np.int64], position: int, ref: str, alt: str) -> NDArray[np.bool_]:
        """Say which of the slots that carry an allele take it, and remember."""
        start, end, body = trim(position, ref, alt)
        used, inserted = self.used[carriers], self.inserted[carriers]
        if self.policy == "bcftools":
            anchored = (start == end) != (not body) and ref[0] == alt[0]
            taken = (position > used) | ((position == used) & anchored & ~inserted)
            last, inserts = position + len(ref) - 1, len(alt) > len(ref)
        else:
            taken = (start > used) | ((start == used) & ~((start == end) & inserted))
            last, inserts = end, start == end
        self.used[carriers[taken]] = last
        self.inserted[carriers[taken]] = inserts
        return taken
