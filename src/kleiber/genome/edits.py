"""Records become accepted edits of haplotypes: which of two that touch the same bases wins.

A haplotype is one whole-contig string, so conflicts are decided once, over the whole contig, and a window never
depends on where it starts. Policy ``bcftools`` is what ``bcftools consensus -H`` does (version 1.24): first come,
first served, with one exception for an indel whose anchor base is the last base used. Policy ``edits`` trims alleles
first and accepts whatever does not overlap; it keeps more. Both are decided, one is kept, and the calls on which they
differ are counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.genome.calls import Batch

__all__ = ["COUNTS", "Edits", "Letters", "Rules", "State", "accept", "new_edits", "new_state"]

COUNTS = (
    "records",
    "filtered",
    "ref mismatch",
    "without genotypes",
    "missing",
    "unphased",
    "monomorphic",
    "rare",
    "star",
    "symbolic",
    "breakend",
    "other letters",
    "calls",
    "conflicts",
    "policies differ",
)
"""What a build counts: records, alleles called ``.``, ALT alleles dropped by reason, calls, calls dropped."""

(
    RECORDS,
    FILTERED,
    REF_MISMATCH,
    WITHOUT_GENOTYPES,
    MISSING,
    UNPHASED,
    MONOMORPHIC,
    RARE,
    STAR,
    SYMBOLIC,
    BREAKEND,
    OTHER_LETTERS,
    CALLS,
    CONFLICTS,
    DIFFER,
) = range(len(COUNTS))

FINE, UNSORTED, BEYOND_END, MISMATCH, NOT_PHASED = range(5)

_UPPER = np.full(256, ord("N"), np.uint8)  # as the reference has it: A C G T, and N for the rest
for _letter in b"ACGT":
    _UPPER[_letter] = _UPPER[_letter + 32] = _letter
_IS_BASE = np.zeros(256, bool)
_IS_BASE[np.frombuffer(b"ACGTNacgtn", np.uint8)] = True


_N = np.uint8(ord("N"))
_FIRST = np.zeros(256, np.uint8)  # of the bases that an ambiguity code stands for, the first by the alphabet
for _code, _base in zip(b"RYSWKMBDHV", b"ACCAGACAAA", strict=True):
    _FIRST[_code] = _base


class Letters(NamedTuple):
    """A contig of the reference: its bases, and where ambiguity codes stood and which.

    ASCII A C G T N, (length,); 0-based and increasing, (n,); upper-case ASCII, (n,).
    """

    bases: NDArray[np.uint8]
    codes_at: NDArray[np.int64]
    codes: NDArray[np.uint8]


class Rules(NamedTuple):
    """What a build keeps; ``policy`` is a number of `kleiber.genome.rules.POLICIES`."""

    policy: int
    min_ac: float
    min_af: float
    only_pass: bool
    skip_mismatch: bool
    unphased_is_error: bool
    take_deletions: bool


class State(NamedTuple):
    """How far each slot's accepted edits reach, for both policies.

    Rows as in `kleiber.genome.rules.POLICIES`; and the last position.

    Attributes
    ----------
    used
        int64 (2, slots): last reference base used, 1-based (bcftools); end of the last edit (edits).
    inserted
        bool (2, slots): whether the last accepted edit inserts (at ``used``, for edits).
    """

    used: NDArray[np.int64]
    inserted: NDArray[np.bool_]
    position: NDArray[np.int64]


class Edits(NamedTuple):
    """Accepted edits with their carriers, in the order of the file.

    ``n`` holds how many edits, bases and carriers.

    An edit replaces reference [start, end) by its alternative; start = end is a pure insertion.
    """

    n: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    position: NDArray[np.int64]
    allele: NDArray[np.int64]
    alt_at: NDArray[np.int64]
    alt: NDArray[np.uint8]
    carriers_at: NDArray[np.int64]
    carriers: NDArray[np.int32]


def new_state(n_slots: int) -> State:
    """Return the state before a contig's first record."""
    return State(np.zeros((2, n_slots), np.int64), np.zeros((2, n_slots), bool), np.zeros(1, np.int64))


def new_edits(batch: Batch, n_bytes: int) -> Edits:
    """Return room for all edits of a batch that was scanned from `n_bytes` bytes."""
    n = int(batch.n[1])
    columns = {name: np.empty(n, np.int64) for name in ("start", "end", "position", "allele")}
    return Edits(
        n=np.zeros(3, np.int64),
        alt_at=np.zeros(n + 1, np.int64),
        alt=np.empty(n_bytes, np.uint8),
        carriers_at=np.zeros(n + 1, np.int64),
        carriers=np.empty(int(batch.n[2]), np.int32),
        **columns,
    )


@njit(cache=True, nogil=True)
def _trim(text, ref, ref_len, alt, alt_len, position):
    """Return (start, end, where the alternative begins in ALT, its length): shared prefix cut first, then suffix.

    What is inserted before the first base of a contig has no base to belong to: it makes that base longer.
    """
    shared = 0
    while shared < min(ref_len, alt_len) and _UPPER[text[ref + shared]] == _UPPER[text[alt + shared]]:
        shared += 1
    tail = 0
    while tail < min(ref_len, alt_len) - shared and (
        _UPPER[text[ref + ref_len - 1 - tail]] == _UPPER[text[alt + alt_len - 1 - tail]]
    ):
        tail += 1
    start = position - 1 + shared
    end = position - 1 + ref_len - tail
    if end == 0:
        return 0, 1, shared, alt_len - shared - tail + 1
    return start, end, shared, alt_len - shared - tail


@njit(cache=True, nogil=True)
def _unusable(text, alt, alt_len):
    """Return why an ALT allele is no sequence, or 0."""
    if alt_len == 1 and text[alt] == 42:  # *
        return STAR
    if text[alt] == 60:  # <
        return SYMBOLIC
    reason = 0
    for i in range(alt, alt + alt_len):
        if text[i] == 91 or text[i] == 93:  # [ ]
            return BREAKEND
        if not _IS_BASE[text[i]]:
            reason = OTHER_LETTERS
    if alt_len > 1 and (text[alt] == 46 or text[alt + alt_len - 1] == 46):  # a single breakend
        return BREAKEND
    return reason


@njit(cache=True, nogil=True)
def _is_apart(text, batch, first, last):
    """Say whether all alleles of a record are symbolic or breakends: its REF may be N, its place a telomere."""
    for k in range(first, last):
        why = _unusable(text, batch.alt_at[k], batch.alt_len[k])
        if why != SYMBOLIC and why != BREAKEND:
            return False
    return last > first


@njit(cache=True, nogil=True)
def _agrees(text, at, length, position, letters, is_apart):
    """Say whether a REF is the reference's: letter by letter, or the first base of an ambiguity code's."""
    for i in range(length):
        letter = text[at + i] & 0xDF  # upper case
        base = letters.bases[position - 1 + i]
        if base != _N:
            if letter != base and not (is_apart and letter == _N):
                return False
            continue
        k = np.searchsorted(letters.codes_at, position - 1 + i)
        if k < letters.codes_at.size and letters.codes_at[k] == position - 1 + i:
            code = letters.codes[k]
            if letter != code and letter != _FIRST[code] and not (is_apart and letter == _N):
                return False
        elif letter != _N:
            return False
    return True


@njit(cache=True, nogil=True)
def accept(text, batch, letters, rules, state, counts, out):
    """Decide every call of a batch; append accepted edits to `out` and counts to `counts`.

    Returns
    -------
    (FINE, 0), or what is wrong and with which record: UNSORTED, BEYOND_END, MISMATCH, NOT_PHASED.
    """
    v, length = 0, letters.bases.size
    for r in range(batch.n[0]):
        position, ref, ref_len = batch.position[r], batch.ref_at[r], batch.ref_len[r]
        first = v
        while v < batch.n[1] and batch.record[v] == r:
            v += 1
        if position < state.position[0]:
            return UNSORTED, r
        state.position[0] = position
        counts[RECORDS] += 1
        if rules.only_pass and not batch.passes[r]:
            counts[FILTERED] += 1
            continue
        if position < 1 or position - 1 + ref_len > length:
            if position > length + 1 or not _is_apart(text, batch, first, v):
                return BEYOND_END, r
            for k in range(first, v):  # at a telomere
                counts[_unusable(text, batch.alt_at[k], batch.alt_len[k])] += 1
            continue
        if not _agrees(text, ref, ref_len, position, letters, False) and not (
            _is_apart(text, batch, first, v) and _agrees(text, ref, ref_len, position, letters, True)
        ):
            if not rules.skip_mismatch:
                return MISMATCH, r
            counts[REF_MISMATCH] += 1
            continue
        if not batch.has_calls[r]:
            counts[WITHOUT_GENOTYPES] += 1
            continue
        if batch.unphased[r] >= 0 and rules.unphased_is_error:
            return NOT_PHASED, r
        counts[UNPHASED] += batch.n_unphased[r]
        counts[MISSING] += batch.n_missing[r]
        fewest = max(1.0, rules.min_ac, rules.min_af * batch.n_present[r])
        for k in range(first, v):
            _accept_allele(text, batch, length, r, k, fewest, rules, state, counts, out)
    return FINE, 0


@njit(cache=True, nogil=True)
def _accept_allele(text, batch, length, r, k, fewest, rules, state, counts, out):
    """Decide the calls of one ALT allele."""
    alt, alt_len = batch.alt_at[k], batch.alt_len[k]
    low, high = batch.carriers_at[k], batch.carriers_at[k + 1]
    reason = _unusable(text, alt, alt_len)
    position, ref, ref_len = batch.position[r], batch.ref_at[r], batch.ref_len[r]
    is_deletion = reason == SYMBOLIC and rules.take_deletions and position < batch.stop[k] <= length
    is_deletion = is_deletion and alt_len >= 5 and text[alt + 1] == 68 and text[alt + 2] == 69 and text[alt + 3] == 76
    is_deletion = is_deletion and (text[alt + 4] == 62 or text[alt + 4] == 58)  # <DEL> or <DEL:…>
    if is_deletion:  # the bases behind POS, up to END
        ref_len, alt_len, alt, reason = batch.stop[k] - position + 1, 1, ref, 0
    if reason == 0 and high - low < fewest:
        reason = MONOMORPHIC if high == low else RARE
    if is_deletion:
        start, end, skip, size = position, batch.stop[k], 0, 0
    else:
        start, end, skip, size = _trim(text, ref, ref_len, alt, alt_len, position)
    if reason == 0 and start == end and size == 0:
        reason = MONOMORPHIC  # ALT is REF
    if reason:
        counts[reason] += 1
        return
    is_indel = (start == end) != (size == 0)
    anchored = is_indel and _UPPER[text[ref]] == _UPPER[text[alt]]
    last, inserts = position + ref_len - 1, alt_len > ref_len
    e, n_bases, c = out.n[0], out.n[1], out.n[2]
    used, inserted = state.used, state.inserted
    before = c
    for q in range(low, high):
        slot = batch.carriers[q]
        as_bcftools = position > used[0, slot] or (position == used[0, slot] and anchored and not inserted[0, slot])
        as_edits = start > used[1, slot] or (start == used[1, slot] and not (start == end and inserted[1, slot]))
        if as_bcftools:
            used[0, slot], inserted[0, slot] = last, inserts
        if as_edits:
            used[1, slot], inserted[1, slot] = end, start == end
        counts[DIFFER] += as_bcftools != as_edits
        if as_bcftools if rules.policy == 0 else as_edits:
            out.carriers[c] = slot
            c += 1
    counts[CALLS] += high - low
    counts[CONFLICTS] += (high - low) - (c - before)
    if c == before:
        return
    out.start[e], out.end[e] = start, end
    out.position[e], out.allele[e] = position, batch.allele[k]
    for i in range(size):
        out.alt[n_bases + i] = _UPPER[text[alt + skip + i]]
    out.alt_at[e + 1], out.carriers_at[e + 1] = n_bases + size, c
    out.n[0], out.n[1], out.n[2] = e + 1, n_bases + size, c
