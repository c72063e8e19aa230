"""How many haplotypes a sample has where: what its calls say, place by place.

A run of diploid calls has two haplotypes and a run of haploid ones one; it changes at the border of a pseudo-autosomal
region where one is known between the runs, and in the middle elsewhere. A missing call says nothing, and who has no
call on a contig has two haplotypes there, of Y and of the mitochondrion one. A table of sexes adds to it: a male has
one haplotype of X outside the pseudo-autosomal regions even where a file writes two alleles, and a female none of Y.
Rejected: one number for a sample and a contig, which takes a haplotype for one haploid call, and a list of species'
sex chromosomes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.genome.assembly import canonical_name

__all__ = ["Runs", "absences", "mark_heterozygotes", "pseudo_autosomal", "read_sexes"]

# 0-based, half-open; by the length of the contig, which tells GRCh37, GRCh38 and T2T-CHM13v2.0 apart
_PARS = {
    ("X", 155_270_560): ((60_000, 2_699_520), (154_931_043, 155_260_560)),
    ("X", 156_040_895): ((10_000, 2_781_479), (155_701_382, 156_030_895)),
    ("X", 154_259_566): ((0, 2_394_410), (153_925_834, 154_259_566)),
    ("Y", 59_373_566): ((10_000, 2_649_520), (59_034_049, 59_363_566)),
    ("Y", 57_227_415): ((10_000, 2_781_479), (56_887_902, 57_217_415)),
    ("Y", 62_460_029): ((0, 2_458_320), (62_122_809, 62_460_029)),
}

Stretches = tuple[tuple[int, int], ...]


def pseudo_autosomal(contig: str, length: int, declared: int | None = None) -> Stretches:
    """Return the pseudo-autosomal regions of X or Y of GRCh37, GRCh38 and T2T-CHM13.

    0-based half-open; none of other contigs.

    Parameters
    ----------
    length
        Of the contig here.
    declared
        Of the whole contig, where `length` is that of its beginning: what the header of a VCF says.
    """
    name = canonical_name(contig)
    known = _PARS.get((name, length)) or (_PARS.get((name, declared)) if declared else None) or ()
    return tuple((start, min(end, length)) for start, end in known if start < length)


class Runs:
    """Runs of calls of the same ploidy, sample by sample, as a contig's records pass by.

    Parameters
    ----------
    kept
        Which samples of the file, in the order in which they are numbered here.
    """

    def __init__(self, kept: NDArray[np.int64]):
        self._kept = kept
        self._now = np.zeros(len(kept), np.uint8)
        self._since, self._until = np.zeros(len(kept), np.int64), np.zeros(len(kept), np.int64)
        self._even = np.array([0, len(kept)])  # where the last record of diploid calls alone ends; who is not diploid
        self._closed: list[NDArray[np.int64]] = []

    def follow(self, batch: Any) -> None:
        """Take the next records."""
        closed = _follow(batch, self._kept, self._now, self._since, self._until, self._even)
        if len(closed):
            self._closed.append(closed)

    def rows(self) -> NDArray[np.int64]:
        """Return sample, ploidy, first base (0-based) and end of every run, int64 (n, 4), by sample and place."""
        until = np.where(self._now == 2, np.maximum(self._until, self._even[0]), self._until)
        columns = (np.arange(len(self._kept)), self._now.astype(np.int64), self._since, until)
        going = np.stack(columns, 1)[self._now > 0]
        rows = np.concatenate([*self._closed, going])
        return rows[np.lexsort((rows[:, 2], rows[:, 0]))]


@njit(cache=True, nogil=True)
def _follow(batch, kept, now, since, until, even):
    """Go on with every sample's run; return those that ended, int64 (n, 4)."""
    closed, n = np.empty((64, 4), np.int64), 0
    for r in range(batch.n[0]):
        begin = batch.position[r] - 1
        end = begin + batch.ref_len[r]
        at = batch.copies_at[r]
        if at < 0:
            even[0] = end
            if even[1] == 0:
                continue
        others = 0
        for i in range(kept.size):
            copies = np.uint8(2) if at < 0 else batch.copies[at + kept[i]]
            if copies != 0 and copies == now[i]:
                until[i] = end
            elif copies != 0:
                if now[i] != 0:
                    if n == closed.shape[0]:
                        grown = np.empty((2 * n, 4), np.int64)
                        for row in range(n):  # no slice: the text of its errors takes seconds to compile
                            for column in range(4):
                                grown[row, column] = closed[row, column]
                        closed = grown
                    closed[n, 0], closed[n, 1], closed[n, 2] = i, now[i], since[i]
                    closed[n, 3] = min(begin, max(until[i], even[0]) if now[i] == 2 else until[i])
                    n += 1
                now[i], since[i], until[i] = copies, begin, end
            others += now[i] != 2
        even[1] = others
    return closed[:n]


@njit(cache=True, nogil=True)
def mark_heterozygotes(batch, starts, ends, alleles, marked):
    """Mark the samples of a file that have a heterozygous call outside some stretches.

    Stretches are [starts, ends), 0-based, (n,); ``marked`` is bool (samples,).

    ``alleles`` is scratch: zeros, uint8 (slots,).
    """
    v = 0
    for r in range(batch.n[0]):
        first = v
        while v < batch.n[1] and batch.record[v] == r:
            v += 1
        inside = False
        for k in range(starts.size):
            inside |= starts[k] < batch.position[r] <= ends[k]
        if inside:
            continue
        low, high = batch.carriers_at[first], batch.carriers_at[v]
        for k in range(first, v):
            for q in range(batch.carriers_at[k], batch.carriers_at[k + 1]):
                alleles[batch.carriers[q]] = k - first + 1
        for q in range(low, high):
            slot = batch.carriers[q]
            at = batch.copies_at[r]
            if alleles[slot] != alleles[slot ^ 1] and (at < 0 or batch.copies[at + slot // 2] == 2):
                marked[slot // 2] = True
        for q in range(low, high):
            alleles[batch.carriers[q]] = 0


def absences(
    contig: str,
    length: int,
    pars: Stretches,
    samples: Sequence[str],
    rows: NDArray[np.int64],
    without: NDArray[np.bool_],
    heterozygous: NDArray[np.bool_],
    sexes: Mapping[str, str] | None,
) -> tuple[list[tuple[Stretches, list[int]]], str]:
    """Return which stretches of a contig which slots do not have.

    Parameters
    ----------
    pars
        Its pseudo-autosomal regions, as far as they are known.
    rows
        Runs of calls, (n, 4), as `Runs.rows` returns them.
    without
        (samples,): which have no column in the files of the contig: they have no haplotype of it.
    heterozygous
        (samples,): which have heterozygous calls outside `pars`; looked at for X, Y and M.
    sexes
        ``"male"``, ``"female"`` or ``"unknown"`` by sample; None when there is no table.

    Returns
    -------
    Stretches, 0-based half-open, and the slots that lack them, two numbers a sample; and a warning, or nothing.

    Raises
    ------
    DataError
        When X or Y is read by a table of sexes that lacks a sample.
    """
    name, whole = canonical_name(contig), ((0, length),)
    outside = _without(whole, pars)
    sex = _sex_of(samples, sexes) if name in ("X", "Y") else [""] * len(samples)
    firsts = np.searchsorted(rows[:, 0], np.arange(len(samples) + 1))
    is_called, is_haploid = np.diff(firsts) > 0, np.zeros(len(samples), bool)
    is_haploid[rows[rows[:, 1] == 1, 0]] = True
    by_stretches: dict[Stretches, list[int]] = {}
    lost = []  # samples of which a called allele is not read
    for i in range(len(samples)):
        gaps: tuple[Stretches, Stretches] = (), ()
        if is_haploid[i]:
            gaps = (), _haploid_stretches(rows[firsts[i] : firsts[i + 1]], length, pars)
        is_pseudo_diploid = name == "X" and sex[i] == "male" and (bool(pars) or not is_haploid[i])
        has_no_y = sex[i] == "female" or (sex[i] != "male" and not is_called[i] and len(rows) > 0)
        if without[i] or (name == "Y" and has_no_y):
            gaps = whole, whole
        elif name in ("Y", "M") or is_pseudo_diploid:
            gaps = (), _union(gaps[1], outside, length)
            lost += [samples[i]] if heterozygous[i] else []
        for k, stretches in enumerate(gaps):
            if stretches:
                by_stretches.setdefault(stretches, []).append(2 * i + k)
    return list(by_stretches.items()), _warning(contig, name, is_haploid, sexes, lost)


def _sex_of(samples: Sequence[str], sexes: Mapping[str, str] | None) -> list[str]:
    if sexes is None:
        return [""] * len(samples)
    lacking = [sample for sample in samples if sample not in sexes]
    if lacking:
        raise DataError(
            f"The table of sexes lacks {lacking[0]!r} and {len(lacking) - 1} more of {len(samples)} samples."
        )
    return [sexes[sample] for sample in samples]


def _warning(contig: str, name: str, is_haploid: NDArray, sexes: Mapping[str, str] | None, lost: list[str]) -> str:
    if lost:
        return (
            f"{contig}: {len(lost)} samples have heterozygous calls where they have one haplotype, such as {lost[0]}: "
            "what is right of the bar is not read"
        )
    if name == "X" and sexes is None and not is_haploid.any():
        return f"{contig}: no call is haploid and no sexes are given, so that every sample has two haplotypes"
    if name not in ("X", "Y", "M") and is_haploid.any():
        return f"{contig}: {is_haploid.sum():,} samples have haploid calls, and one haplotype around them"
    return ""


def _haploid_stretches(rows: NDArray[np.int64], length: int, pars: Stretches) -> Stretches:
    """Return where one sample has one haplotype: on its runs of haploid calls, and around them as far as they reach."""
    found: list[tuple[int, int]] = []
    begin, reach, behind = -1, 0, -1  # of the haploid run at hand, and where the last diploid one ends
    for _, ploidy, start, end in rows.tolist():
        if ploidy == 1:
            if begin < 0:
                begin = 0 if behind < 0 else _border(behind, start, pars)
            reach = end
        else:
            if begin >= 0:
                found.append((begin, _border(reach, start, pars)))
            begin, behind = -1, end
    if begin >= 0:
        found.append((begin, length))
    haploid = rows[rows[:, 1] == 1]
    both = tuple(par for par in pars if not ((haploid[:, 2] < par[1]) & (haploid[:, 3] > par[0])).any())
    return _without(tuple(each for each in found if each[0] < each[1]), both)


def _border(low: int, high: int, pars: Stretches) -> int:
    """Return where between two runs of calls the ploidy changes: at the border of a region, else in the middle."""
    edges = [edge for par in pars for edge in par if low <= edge <= high]
    return edges[0] if edges else (min(low, high) + high) // 2


def _without(stretches: Stretches, others: Stretches) -> Stretches:
    """Return what of some stretches lies in none of the others."""
    for low, high in others:
        cut = [piece for start, end in stretches for piece in ((start, min(end, low)), (max(start, high), end))]
        stretches = tuple((start, end) for start, end in cut if start < end)
    return stretches


def _union(some: Stretches, others: Stretches, length: int) -> Stretches:
    whole = ((0, length),)
    return _without(whole, _without(_without(whole, some), others))


_SAMPLE = ("iid", "sampleid", "sample name", "individual id", "individualid", "sample", "sample_id", "individual")
_SEX = ("sex", "gender")
_SEXES = {
    **dict.fromkeys(("male", "m", "1"), "male"),
    **dict.fromkeys(("female", "f", "2"), "female"),
    **dict.fromkeys(("0", "-9", "na", "nan"), "unknown"),
}


def read_sexes(path: str | Path) -> dict[str, str]:
    """Read a table of sexes: ``"male"``, ``"female"`` or ``"unknown"`` by sample.

    Columns are found by their names as in the tables of the 1000 Genomes Project and of IGSR, pedigrees and PLINK's
    ``.psam``; a table without names is a ``.fam`` (or ``.ped``), with the sample in column 2 and the sex in column 5,
    or sample and sex alone. Sexes are ``male``/``M``/``1`` and ``female``/``F``/``2``, and ``0``/``-9``/``NA`` in
    tables of PLINK; columns are separated by tabs, spaces or commas.

    Raises
    ------
    DataError
        When the file is missing, or a line says neither; names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no table of sexes: {error}.") from None
    rows = [(number, _fields(line)) for number, line in enumerate(lines, 1) if not line.startswith("##")]
    rows = [(number, fields) for number, fields in rows if any(fields)]
    sample, sex, is_plink = 0, 1, False
    header = [name.lower().lstrip("#") for name in rows[0][1]] if rows else []
    samples, kinds = ([name for name in names if name in header] for names in (_SAMPLE, _SEX))
    if samples and kinds:
        sample, sex, is_plink = header.index(samples[0]), header.index(kinds[0]), True
        del rows[0]
    elif rows and all(len(fields) >= 5 and fields[4].lower() in _SEXES for _, fields in rows):
        sample, sex, is_plink = 1, 4, True
    found: dict[str, str] = {}
    for number, fields in rows:
        word = _SEXES.get(fields[sex].lower(), "") if len(fields) > max(sample, sex) else ""
        if not word or (word == "unknown" and not is_plink):
            raise DataError(f"{path}, line {number}: no sample and sex (male or female, M or F, 1 or 2).")
        if found.setdefault(fields[sample], word) != word:
            raise DataError(
                f"{path}, line {number}: {fields[sample]} is {word} here, and {found[fields[sample]]} above."
            )
    return found


def _fields(line: str) -> list[str]:
    separator = "\t" if "\t" in line else "," if "," in line else None
    return [field.strip().strip('"') for field in line.split(separator)]
