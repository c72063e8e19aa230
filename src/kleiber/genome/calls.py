"""Records with their calls, as arrays: what the scans of text and of BCF fill, and what one genotype says.

A genotype says two things: which alleles a sample's slots carry, and how many haplotypes the sample has at the site. A
missing call says neither, however many dots it is written with. An unphased heterozygote is left out, taken as it is
written, or put in an order that a counter-based coin decides. Rejected: a list of contigs on which males have one
haplotype, which knows neither the sex chromosomes of another species nor a slice of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.counter import draw, stream_id
from kleiber.genome.rules import UNPHASED

__all__ = [
    "ABSENT",
    "EVEN",
    "MISSING",
    "Batch",
    "Reading",
    "carry",
    "close_calls",
    "coin_index",
    "counted",
    "is_even",
    "new_batch",
    "reading",
    "weigh",
]

MISSING, ABSENT = -1, -2  # in place of an allele's number
_AS_IS, _RANDOM = UNPHASED.index("as-is"), UNPHASED.index("random")
EVEN = -1  # in `Batch.copies_at`: every sample has two


class Reading(NamedTuple):
    """How calls are read.

    Attributes
    ----------
    unphased
        A number of `UNPHASED`: what becomes of unphased heterozygotes.
    seed, streams
        The seed of their coins, and the stream of each sample, uint64 (samples,).
    kept, n_kept
        Which samples count, bool (samples,), and how many.
    """

    unphased: int
    seed: np.uint64
    streams: NDArray[np.uint64]
    kept: NDArray[np.bool_]
    n_kept: int


def reading(
    samples: Sequence[str], unphased: str = "error", seed: int = 0, kept: NDArray[np.bool_] | None = None
) -> Reading:
    """Return how the calls of a file's samples are read.

    ``kept`` says whose calls count, bool (samples,); everybody's when None.
    """
    kept = np.ones(len(samples), bool) if kept is None else kept
    streams = np.zeros(len(samples), np.uint64)
    if unphased == "random":
        streams = np.array([stream_id(f"unphased {sample}") for sample in samples], np.uint64)
    return Reading(UNPHASED.index(unphased), np.uint64(seed), streams, kept, int(kept.sum()))


class Batch(NamedTuple):
    """Records of one contig, in the order of the file.

    Byte offsets point into the text they were scanned from.

    ``n`` holds how many records, alleles, carriers and copies there are.

    Attributes
    ----------
    position
        1-based.
    ref_at, ref_len, alt_at, alt_len
        Where REF (of a record) and ALT (of an allele) stand.
    stop
        Last base of an allele, 1-based: what END or SVLEN says, for symbolic ones.
    passes, has_calls
        Whether FILTER is PASS or missing; whether FORMAT has GT.
    n_present, n_missing
        Alleles of the record that are called, and ``.``.
    unphased
        First sample with an unphased heterozygote, or -1; n_unphased: how many there are.
    record, allele
        Of each ALT allele: its record, and its number from 1.
    carriers_at, carriers
        Slots of allele v: ``carriers[carriers_at[v]:carriers_at[v + 1]]``.
    copies_at, copies
        Haplotypes that the record's calls give each sample, 0 where they say nothing:
        ``copies[copies_at[r]:copies_at[r] + samples]``; two each where ``copies_at[r]`` is -1.
    found
        Scratch: the allele of each slot.
    begins
        Of the first record: its byte behind the file's header, and its number from 1.
    """

    n: NDArray[np.int64]
    position: NDArray[np.int64]
    ref_at: NDArray[np.int64]
    ref_len: NDArray[np.int64]
    passes: NDArray[np.bool_]
    has_calls: NDArray[np.bool_]
    n_present: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    unphased: NDArray[np.int64]
    n_unphased: NDArray[np.int64]
    copies_at: NDArray[np.int64]
    record: NDArray[np.int64]
    allele: NDArray[np.int64]
    alt_at: NDArray[np.int64]
    alt_len: NDArray[np.int64]
    stop: NDArray[np.int64]
    carriers_at: NDArray[np.int64]
    carriers: NDArray[np.int32]
    copies: NDArray[np.uint8]
    found: NDArray[np.uint8]
    begins: NDArray[np.int64]


def new_batch(n_samples: int, n_records: int, n_carriers: int) -> Batch:
    """Return an empty batch with room for so many records and carriers."""
    room = 4 * n_records + 512  # alleles
    integers = {
        name: np.zeros(n_records, np.int64)
        for name in ("position", "ref_at", "ref_len", "n_present", "n_missing", "unphased", "n_unphased", "copies_at")
    }
    alleles = {name: np.zeros(room, np.int64) for name in ("record", "allele", "alt_at", "alt_len", "stop")}
    return Batch(
        n=np.zeros(4, np.int64),
        passes=np.zeros(n_records, bool),
        has_calls=np.zeros(n_records, bool),
        carriers_at=np.zeros(room + 1, np.int64),
        carriers=np.empty(n_carriers, np.int32),
        copies=np.empty(n_carriers, np.uint8),
        found=np.empty(2 * n_samples, np.uint8),
        begins=np.array([0, 1]),
        **integers,
        **alleles,
    )


@njit(cache=True, nogil=True)
def coin_index(text, contig, position, ref, ref_len, alt, alt_len):
    """Return what tells a record from others to a sample's coin: its contig, position, REF and first ALT.

    The same in text and in BCF, and whatever else stands in the file.
    """
    mixed = np.uint64(2166136261)  # FNV-1a
    for letter in contig:
        mixed = _mix(mixed, letter)
    for at, length in ((ref, ref_len), (alt, alt_len)):
        mixed = _mix(mixed, 44)
        for i in range(at, at + length):
            mixed = _mix(mixed, text[i] & 0xDF)  # upper case
    return (mixed << np.uint64(32)) ^ np.uint64(position)


@njit(cache=True, nogil=True)
def _mix(mixed, letter):
    return ((mixed ^ np.uint64(letter)) * np.uint64(16777619)) & np.uint64(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def weigh(reading, batch, i, index, first, second, is_phased):
    """Take one sample's genotype: two alleles' numbers, `MISSING`, or `ABSENT` for the second.

    Returns (called alleles, missing ones, whether it is an unphased heterozygote), for `counted`. Counting into the
    batch here would take four times as long: what writes that much is no longer inlined, and copies the batch.
    """
    found, copies = batch.found, batch.copies
    found[2 * i] = found[2 * i + 1] = 0
    here = batch.n[3] + i
    copies[here] = 0
    if not reading.kept[i]:
        return 0, 0, False
    n_called, n_missing = (first >= 0) + (second >= 0), (first == MISSING) + (second == MISSING)
    if n_called:
        copies[here] = 1 if second == ABSENT else 2
    is_unphased = n_called == 2 and first != second and not is_phased
    if is_unphased:
        if reading.unphased == _RANDOM:
            if draw(reading.seed, reading.streams[i], index, 0) & np.uint64(1):
                first, second = second, first
        elif reading.unphased != _AS_IS:
            first = second = 0
    found[2 * i], found[2 * i + 1] = max(first, 0), max(second, 0)
    return n_called, n_missing, is_unphased


@njit(cache=True, nogil=True)
def counted(counts, genotype, i):
    """Return the counts of a record's genotypes with one more, that of sample `i`.

    They are the alleles called and missing, the unphased heterozygotes, and the first of these or -1.
    """
    n_present, n_missing, n_unphased, unphased = counts
    n_called, n_absent, is_unphased = genotype
    if is_unphased:
        n_unphased += 1
        unphased = i if unphased < 0 else unphased
    return n_present + n_called, n_missing + n_absent, n_unphased, unphased


@njit(cache=True, nogil=True)
def close_calls(batch, counts, has_calls):
    """Keep the counts of a record, which has genotypes or has none."""
    r = batch.n[0]
    batch.has_calls[r] = has_calls
    batch.n_present[r], batch.n_missing[r] = counts[0], counts[1] if has_calls else 0
    batch.n_unphased[r], batch.unphased[r] = counts[2], counts[3]


@njit(cache=True, nogil=True)
def is_even(reading, batch, r):
    """Say of a record that every genotype has two called alleles, phased."""
    batch.has_calls[r] = True
    batch.n_present[r], batch.n_missing[r] = 2 * reading.n_kept, 0
    batch.unphased[r], batch.n_unphased[r] = -1, 0
    batch.copies_at[r] = EVEN


@njit(cache=True, nogil=True)
def close_carriers(batch, c, several, n_alts):
    """Say where the carriers of each allele of a record are: up to `c`, sorted where there are several alleles."""
    v, first = batch.n[1], batch.n[2]
    if several:
        carriers = batch.carriers[first:c]
        sort_by_allele(carriers, batch.found[carriers], n_alts, batch)
    else:
        for k in range(n_alts):
            batch.carriers_at[v + k] = first if k == 0 else c
    batch.carriers_at[v + n_alts] = c


@njit(cache=True, nogil=True)
def carry(reading, batch, n_alts):
    """Append the carriers that `weigh` found in a record, and its copies where not everyone has two."""
    r, v, first = batch.n[0], batch.n[1], batch.n[2]
    found, carriers = batch.found, batch.carriers
    c, several = first, False
    for slot in range(found.size):
        if found[slot]:
            carriers[c] = slot
            several |= found[slot] > 1
            c += 1
    close_carriers(batch, c, several, n_alts)
    batch.n[1], batch.n[2] = v + n_alts, c
    batch.copies_at[r] = EVEN
    here = batch.n[3]
    for i in range(reading.kept.size):
        if reading.kept[i] and batch.copies[here + i] != 2:
            batch.copies_at[r] = here
            batch.n[3] = here + reading.kept.size
            break


@njit(cache=True, nogil=True)
def sort_by_allele(carriers, alleles, n_alts, batch):
    """Order a record's new carriers by allele, and say where each allele's begin; the order within one is kept."""
    v, first = batch.n[1], batch.n[2]
    found, c = carriers.copy(), 0
    for k in range(n_alts):
        batch.carriers_at[v + k] = first + c
        for q in range(found.size):
            if alleles[q] == k + 1:
                carriers[c] = found[q]
                c += 1
