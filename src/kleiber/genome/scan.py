"""Lines of VCF become arrays of carriers, compiled.

Where FORMAT is GT alone and every genotype is ``a|b`` of one-digit alleles, checked byte by byte, a line is scanned
four bytes a sample; other genotypes, and those among other fields, letter by letter. The scan stops at the first line
that it does not understand, and the caller reads that one in Python: what is symbolic, and what is wrong. What comes
out is the same: records, their ALT alleles, and for each allele the slots that carry it, in increasing order.
Rejected: htslib for the genotypes, which makes 6,404 Python objects of a record of 3,202 samples.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kleiber.genome.calls import (
    ABSENT,
    MISSING,
    carry,
    close_calls,
    coin_index,
    counted,
    is_even,
    sort_by_allele,
    weigh,
)
from kleiber.genome.rules import UNPHASED

__all__ = ["ALL", "FULL", "IRREGULAR", "OTHER_CONTIG", "any_genotypes", "is_full", "scan_text"]

ALL, IRREGULAR, OTHER_CONTIG, FULL, PLOIDY, NO_ALLELE = range(6)  # why a scan stopped
FINE, NO_GENOTYPE, FEW, MANY = range(10, 14)  # how the genotypes of a line ended, beside PLOIDY and NO_ALLELE
FARTHEST = 4_000_000_000  # position
LONGEST = 1 << 27  # bytes of a line or record
MOST_ALTS = 255

TAB, NEWLINE, COMMA, BAR, DOT, ZERO, SLASH, COLON, RETURN = (np.uint8(ord(c)) for c in "\t\n,|.0/:\r")
REFERENCE_CALL = np.uint32(int.from_bytes(b"0|0\t", "little"))
_RANDOM = UNPHASED.index("random")


@njit(cache=True, nogil=True)
def is_full(batch, n_alts, n_samples):
    """Say whether one more record might not fit into a batch."""
    r, v, c, k = batch.n[0], batch.n[1], batch.n[2], batch.n[3]
    too_many = r + 1 > batch.position.size or v + n_alts + 1 > batch.record.size
    return too_many or c + 2 * n_samples > batch.carriers.size or k + n_samples > batch.copies.size


@njit(cache=True, nogil=True)
def scan_text(text, at, contig, reading, batch):
    """Scan regular lines of `contig` from byte `at`; return where it stopped and why.

    ``text`` ends with a newline. IRREGULAR is also what a line without the expected columns is.
    """
    n_samples = reading.kept.size
    while at < text.size:
        r, v = batch.n[0], batch.n[1]
        if is_full(batch, MOST_ALTS + 1, n_samples):
            return at, FULL
        if contig.size >= text.size - at:
            return at, OTHER_CONTIG
        for i in range(contig.size):
            if text[at + i] != contig[i]:
                return at, OTHER_CONTIG
        p = at + contig.size
        if text[p] != TAB:
            return at, OTHER_CONTIG
        p += 1
        position = np.int64(0)
        while p < text.size and text[p] - ZERO <= 9 and position <= FARTHEST:
            position = position * 10 + np.int64(text[p] - ZERO)
            p += 1
        if p >= text.size or text[p] != TAB or position < 1 or position > FARTHEST:
            return at, IRREGULAR
        ref = _column(text, p + 1)  # behind ID
        alt = _column(text, ref)
        filter_ = _column(text, _column(text, alt))  # behind QUAL
        info = _column(text, filter_)
        keys = _column(text, info)
        calls = _column(text, keys)
        if calls < 0 or alt - ref < 2:
            return at, IRREGULAR
        ref_len = alt - 1 - ref
        n_alts = 0
        start = alt
        for q in range(alt, filter_):
            if text[q] == COMMA or text[q] == TAB:
                if n_alts == MOST_ALTS or q == start or text[start] == 60:  # a symbolic allele ends where INFO says
                    return at, IRREGULAR
                batch.record[v + n_alts] = r
                batch.allele[v + n_alts] = n_alts + 1
                batch.alt_at[v + n_alts] = start
                batch.alt_len[v + n_alts] = q - start
                batch.stop[v + n_alts] = position + ref_len - 1
                n_alts += 1
                start = q + 1
                if text[q] == TAB:
                    break
        if text[alt] == 46 and batch.alt_len[v] == 1:  # "."
            n_alts = 0
        batch.position[r], batch.ref_at[r], batch.ref_len[r] = position, ref, ref_len
        batch.passes[r] = _passes(text[filter_ : info - 1])
        end = calls + 4 * n_samples - 1
        is_strict = calls - keys == 3 and text[keys] == 71 and text[keys + 1] == 84 and n_alts < 10
        if (
            is_strict
            and end < text.size
            and text[end] == NEWLINE
            and _genotypes(text, calls, n_samples, n_alts, reading, batch)
        ):
            at = end + 1
        else:
            index = np.uint64(0)
            if reading.unphased == _RANDOM:
                first = batch.alt_len[v] if n_alts else 0
                index = coin_index(text, contig, position, ref, ref_len, alt, first)
            field = genotype_field(text, keys, calls - 1)
            end, why, _ = any_genotypes(text, calls, field, n_alts, reading, index, batch)
            if why != FINE:
                return at, IRREGULAR
            at = end
        batch.n[0] = r + 1
    return at, ALL


@njit(cache=True, nogil=True)
def _column(text, at):
    """Return where the column after the one at `at` begins, or -1 where the line ends first."""
    if at < 0:
        return -1
    while at < text.size:
        if text[at] == TAB:
            return at + 1
        if text[at] == NEWLINE:
            return -1
        at += 1
    return -1


@njit(cache=True, nogil=True)
def _passes(name):
    """Say whether a FILTER is missing or PASS."""
    if name.size == 1:
        return name[0] == 46
    return name.size == 4 and name[0] == 80 and name[1] == 65 and name[2] == 83 and name[3] == 83


@njit(cache=True, nogil=True)
def genotype_field(text, at, end):
    """Return which of the keys of a FORMAT is GT, from 0; -1 where none is."""
    field = 0
    while at < end:
        stop = at
        while stop < end and text[stop] != COLON:
            stop += 1
        if stop - at == 2 and text[at] == 71 and text[at + 1] == 84:
            return field
        field += 1
        at = stop + 1
    return -1


@njit(cache=True, nogil=True)
def _genotypes(text, calls, n_samples, n_alts, reading, batch):
    """Append the carriers of each ALT allele; false, with nothing appended, where a genotype is not ``a|b``."""
    r, v, c = batch.n[0], batch.n[1], batch.n[2]
    words = text[calls : calls + 4 * n_samples].view(np.uint32)
    carriers = batch.carriers
    first = c
    several = False
    for i in range(n_samples):
        word = words[i]
        if word == REFERENCE_CALL:
            continue
        left, right = (word & 0xFF) - 48, ((word >> 16) & 0xFF) - 48
        if ((word >> 8) & 0xFF) != BAR or ((word >> 24) != TAB and i + 1 < n_samples):
            return False
        if left < 0 or right < 0 or left > n_alts or right > n_alts:
            return False
        several |= left > 1 or right > 1
        if left:
            carriers[c] = 2 * i
            c += 1
        if right:
            carriers[c] = 2 * i + 1
            c += 1
    if several:
        sort_by_allele(carriers[first:c], text[calls + 2 * carriers[first:c].astype(np.int64)] - ZERO, n_alts, batch)
    else:
        for k in range(n_alts):
            batch.carriers_at[v + k] = first if k == 0 else c
    batch.carriers_at[v + n_alts] = c
    batch.n[1] = v + n_alts
    batch.n[2] = c
    is_even(reading, batch, r)
    return True


@njit(cache=True, nogil=True)
def any_genotypes(text, at, field, n_alts, reading, index, batch):
    """Append the carriers of a line whose samples begin at byte `at`.

    GT is the `field`-th of their fields, from 0; -1 says that there is none. Returns where the next line begins, how it
    went, and the sample at which it went wrong; nothing is appended then.
    """
    n_samples = reading.kept.size
    counts, n_plain = (0, 0, 0, -1), 0
    p = at
    found, copies, here = batch.found, batch.copies, batch.n[3]
    for i in range(n_samples):
        if field == 0 and p + 4 <= text.size and reading.kept[i]:  # most are `a` or `a|b`
            end = TAB if i + 1 < n_samples else NEWLINE
            left, right = np.int64(text[p]) - 48, np.int64(text[p + 2]) - 48
            is_known = 0 <= left <= 9 and left <= n_alts
            if is_known and text[p + 1] == end:
                found[2 * i], found[2 * i + 1], copies[here + i] = left, 0, 1
                n_plain += 1
                p += 2
                continue
            is_known = is_known and text[p + 1] == BAR and 0 <= right <= 9 and right <= n_alts
            if is_known and text[p + 3] == end:
                found[2 * i], found[2 * i + 1], copies[here + i] = left, right, 2
                n_plain += 2
                p += 4
                continue
        first, second, is_phased = np.int64(MISSING), np.int64(ABSENT), True
        left = field
        while left > 0 and text[p] != TAB and text[p] != NEWLINE:
            left -= text[p] == COLON
            p += 1
        if left == 0:
            if text[p] == BAR or text[p] == SLASH:  # VCF 4.4: the phase of the first allele
                p += 1
            n = 0
            while True:
                allele, begin = np.int64(0), p
                if text[p] == DOT:
                    allele = np.int64(MISSING)
                    p += 1
                else:
                    while text[p] >= ZERO and text[p] <= ZERO + 9 and p - begin < 4:
                        allele = 10 * allele + np.int64(text[p] - ZERO)
                        p += 1
                    if p == begin or p - begin == 4:
                        return at, NO_GENOTYPE, i
                    if allele > n_alts:
                        return at, NO_ALLELE, i
                if n == 0:
                    first = allele
                elif n == 1:
                    second = allele
                else:
                    return at, PLOIDY, i
                n += 1
                if text[p] != BAR and text[p] != SLASH:
                    break
                is_phased &= text[p] == BAR
                p += 1
            if text[p] == RETURN and text[p + 1] == NEWLINE:
                p += 1
            if text[p] != COLON and text[p] != TAB and text[p] != NEWLINE:
                return at, NO_GENOTYPE, i
        while text[p] != TAB and text[p] != NEWLINE:
            p += 1
        if text[p] != (TAB if i + 1 < n_samples else NEWLINE):
            return at, FEW if text[p] == NEWLINE else MANY, i
        p += 1
        counts = counted(counts, weigh(reading, batch, i, index, first, second, is_phased), i)
    carry(reading, batch, n_alts)
    close_calls(batch, counted(counts, (n_plain, 0, False), -1), field >= 0)
    return p, FINE, 0
