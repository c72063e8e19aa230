"""Records of BCF become arrays of carriers, compiled, as lines of VCF do.

BCF states its types, so that every record is scanned here. Every byte is read behind a comparison with the end of its
part of the record: compiled code checks no index. Rejected: pysam's records, one Python object a genotype.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from kleiber.genome.calls import (
    ABSENT,
    MISSING,
    carry,
    close_calls,
    close_carriers,
    coin_index,
    counted,
    is_even,
    weigh,
)
from kleiber.genome.rules import UNPHASED
from kleiber.genome.scan import ALL, FULL, IRREGULAR, LONGEST, MOST_ALTS, NO_ALLELE, OTHER_CONTIG, PLOIDY, is_full

__all__ = ["Keys", "scan_bcf"]

_RANDOM = UNPHASED.index("random")


class Keys(NamedTuple):
    """What a header calls by number; -1 where it does not."""

    gt: int
    end: int
    svlen: int


@njit(cache=True, nogil=True)
def _u32(data, at):
    return (
        np.int64(data[at]) | np.int64(data[at + 1]) << 8 | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
    )


@njit(cache=True, nogil=True)
def _width(kind):
    return 1 if kind == 1 or kind == 7 else 2 if kind == 2 else 4 if kind == 3 or kind == 5 else 0


@njit(cache=True, nogil=True)
def _integer(data, at, width):
    """Read a little-endian integer without a sign."""
    value = np.int64(0)
    for i in range(width):
        value |= np.int64(data[at + i]) << 8 * i
    return value


@njit(cache=True, nogil=True)
def _signed(data, at, width):
    """Read a little-endian integer with a sign."""
    value = _integer(data, at, width)
    return value - (np.int64(1) << 8 * width) if value >> (8 * width - 1) else value


@njit(cache=True, nogil=True)
def _typed(data, at, end):
    """Read a BCF type descriptor before `end`; return (type, how many, where the values begin); -1 where it is cut."""
    if at >= end:
        return 0, np.int64(-1), end
    kind, count = np.int64(data[at] & 15), np.int64(data[at] >> 4)
    at += 1
    if count == 15:
        width = _width(data[at] & 15) if at < end else 0
        if width == 0 or at + 1 + width > end:
            return 0, np.int64(-1), end
        count = _integer(data, at + 1, width)
        at += 1 + width
    return kind, count, at


@njit(cache=True, nogil=True)
def scan_bcf(data, at, contig, name, keys, reading, batch):
    """Scan whole BCF records of contig number `contig` from byte `at`.

    Returns where it stopped, why, and the sample.

    ALL: no further whole record is in `data`. IRREGULAR: the record makes no sense. PLOIDY: the sample has a call of
    more than two alleles. NO_ALLELE: its call names an allele that the record does not have. ``name`` is the contig's.
    """
    n_samples = reading.kept.size
    while at + 8 <= data.size:
        r, v = batch.n[0], batch.n[1]
        shared, own = _u32(data, at), _u32(data, at + 4)
        begin, end = at + 8, at + 8 + shared + own
        if shared < 24 or shared + own > LONGEST:
            return at, IRREGULAR, 0
        if end > data.size:
            return at, ALL, 0
        if _u32(data, begin) != contig:
            return at, OTHER_CONTIG, 0
        n_alts, n_infos = (_u32(data, begin + 16) >> 16) - 1, _u32(data, begin + 16) & 0xFFFF
        n_formats = np.int64(data[begin + 23])
        position = _signed(data, begin + 4, 4) + 1
        if n_alts < 0 or n_alts > MOST_ALTS or position < 0 or (_u32(data, begin + 20) & 0xFFFFFF) != n_samples:
            return at, IRREGULAR, 0
        if is_full(batch, n_alts, n_samples):
            return at, FULL, 0
        middle = begin + shared
        kind, count, p = _typed(data, begin + 24, middle)  # ID
        if count < 0:
            return at, IRREGULAR, 0
        p += _width(kind) * count
        is_symbolic = False
        for k in range(n_alts + 1):
            kind, count, p = _typed(data, p, middle)
            if kind != 7 or count < 1 or p + count > middle:
                return at, IRREGULAR, 0
            if k == 0:
                batch.ref_at[r], batch.ref_len[r] = p, count
            else:
                batch.record[v + k - 1], batch.allele[v + k - 1] = r, k
                batch.alt_at[v + k - 1], batch.alt_len[v + k - 1] = p, count
                batch.stop[v + k - 1] = position + batch.ref_len[r] - 1
                is_symbolic |= data[p] == 60
            p += count
        kind, count, p = _typed(data, p, middle)  # FILTER: none, or PASS alone
        width = _width(kind)
        if count < 0 or p + width * count > middle:
            return at, IRREGULAR, 0
        batch.passes[r] = count == 0 or (count == 1 and width > 0 and _integer(data, p, width) == 0)
        p += width * count
        if is_symbolic and not _find_ends(data, p, middle, n_infos, n_alts, position, keys, batch):
            return at, IRREGULAR, 0
        batch.position[r] = position
        p, kind, count = _find_genotypes(data, middle, end, n_formats, n_samples, keys.gt)
        if count < 0:
            return at, IRREGULAR, 0
        index = np.uint64(0)
        if reading.unphased == _RANDOM:
            first, size = (batch.alt_at[v], batch.alt_len[v]) if n_alts else (np.int64(0), np.int64(0))
            index = coin_index(data, name, position, batch.ref_at[r], batch.ref_len[r], first, size)
        if kind != 1 or count != 2 or not _even_genotypes(data, p, n_alts, reading, batch):
            why, sample = _genotypes(data, p, _width(kind), count, n_alts, reading, index, batch)
            if why != ALL:
                return at, why, sample
        batch.n[0] = r + 1
        at = end
    return at, ALL, 0


@njit(cache=True, nogil=True)
def _find_ends(data, p, middle, n_infos, n_alts, position, keys, batch):
    """Set where symbolic alleles end, by END or else SVLEN of INFO; false where INFO makes no sense."""
    v = batch.n[1]
    end = np.int64(0)
    for _ in range(n_infos):
        kind, count, p = _typed(data, p, middle)
        width = _width(kind)
        if count != 1 or width == 0 or p + width > middle:
            return False
        key = _integer(data, p, width)
        kind, count, p = _typed(data, p + width, middle)
        width = _width(kind)
        if count < 0 or p + width * count > middle:
            return False
        is_whole = width > 0 and kind <= 3
        if key == keys.end and is_whole and count > 0:
            end = _signed(data, p, width)
        elif key == keys.svlen and is_whole and end == 0 and count in (1, n_alts):
            for k in range(n_alts):
                length = abs(_signed(data, p + width * (k if count > 1 else 0), width))
                if length < np.int64(1) << (8 * width - 1):  # else it is missing
                    batch.stop[v + k] = position + length
        p += width * count
    if end > 0:
        batch.stop[v : v + n_alts] = end
    return True


@njit(cache=True, nogil=True)
def _find_genotypes(data, p, end, n_formats, n_samples, gt_key):
    """Return where GT stands, its type, and how many alleles a sample has; 0 where there is none, -1 for no sense."""
    for _ in range(n_formats):
        kind, count, p = _typed(data, p, end)
        width = _width(kind)
        if count != 1 or width == 0 or p + width > end:
            return p, kind, np.int64(-1)
        key = _integer(data, p, width)
        kind, count, p = _typed(data, p + width, end)
        if (_width(kind) == 0 and count > 0) or count < 0 or p + _width(kind) * count * n_samples > end:
            return p, kind, np.int64(-1)
        if key == gt_key:
            return p, kind, np.int64(-1) if kind < 1 or kind > 3 else count
        p += _width(kind) * count * n_samples
    return p, np.int64(1), np.int64(0)


@njit(cache=True, nogil=True)
def _even_genotypes(data, p, n_alts, reading, batch):
    """Append the carriers of each allele; false, with nothing appended, where a genotype is not ``a|b``."""
    v, first = batch.n[1], batch.n[2]
    carriers, found = batch.carriers, batch.found
    c, several = first, False
    if n_alts > 60:
        return False
    for i in range(reading.kept.size):
        left, right = data[p + 2 * i], data[p + 2 * i + 1]
        if left | 1 == 3 and right == 3:
            continue
        one, two = np.int64(left >> 1) - 1, np.int64(right >> 1) - 1
        if one < 0 or two < 0 or one > n_alts or two > n_alts or (right & 1 == 0 and one != two):
            return False
        several |= bool(one > 1 or two > 1)
        if one:
            found[2 * i] = one
            carriers[c] = 2 * i
            c += 1
        if two:
            found[2 * i + 1] = two
            carriers[c] = 2 * i + 1
            c += 1
    close_carriers(batch, c, several, n_alts)
    batch.n[1], batch.n[2] = v + n_alts, c
    is_even(reading, batch, batch.n[0])
    return True


@njit(cache=True, nogil=True)
def _genotypes(data, p, width, ploidy, n_alts, reading, index, batch):
    """Append the carriers of each allele of one record; a value is (allele + 1) << 1 | phased.

    Returns ALL, or what is wrong and with which sample; nothing is appended then. A `ploidy` of 0: there is no GT.
    """
    counts = (0, 0, 0, -1)
    missing_value = np.int64(1) << (8 * width - 1)  # of a vector; a missing allele is 0 or 1
    end_of_vector = missing_value + 1
    for i in range(reading.kept.size):
        first, second, is_phased = np.int64(MISSING), np.int64(ABSENT), True
        for k in range(ploidy):
            value = _integer(data, p, width)
            p += width
            if value == end_of_vector:
                continue
            allele = np.int64(MISSING) if value == missing_value else (value >> 1) - 1
            if k > 1:
                return PLOIDY, i
            if allele > n_alts:
                return NO_ALLELE, i
            if k == 0:
                first = allele
            else:
                second, is_phased = allele, value & 1 == 1
        counts = counted(counts, weigh(reading, batch, i, index, first, second, is_phased), i)
    carry(reading, batch, n_alts)
    close_calls(batch, counts, ploidy > 0)
    return ALL, 0
