"""Which bases a corpus may read: held-out blocks, BED files, N, and how much of the rest.

Splits are by region and the same for every strategy and haplotype: no training window reads a base with a held-out
coordinate. N cuts regions, so that no window holds one. Rejected: splitting windows at random, which puts every
held-out base into a neighbour's training window.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kleiber import counter
from kleiber.errors import ConfigError, DataError, UnknownContig
from kleiber.genome.assembly import Region, canonical_name
from kleiber.genome.ploidy import pseudo_autosomal
from kleiber.genome.reference import Reference, intervals, open_text

__all__ = ["as_array", "bed_regions", "is_bed", "read_bed", "regions_of", "regions_or_bed", "territory", "unique_part"]

UNIQUE = counter.stream_id("unique")
BLOCK = 50_000  # bases: the grain in which a fraction of the territory is chosen


def regions_of(reference: Reference, texts: Sequence[str], what: str) -> list[Region]:
    """Read regions such as ``"chr8"`` and ``"20:1,000-2,000"``, contigs by their names in the reference.

    Raises
    ------
    ConfigError
        When one is no region, or lies outside its contig; `what` says whose it is.
    """
    regions = []
    for text in texts:
        whole, part = _resolved(reference, text), _resolved(reference, _contig_of(text))
        if whole and part and text != _contig_of(text):
            raise ConfigError(
                f"{what} {text!r} is a contig of {reference.manifest['source']}, and a region of {part}, too.\n"
                f"  Write {text}:1-{reference.length(whole)} for the contig, or name the region in a BED file."
            )
        try:
            name = whole or reference.resolve(_contig_of(text))
        except UnknownContig as error:
            raise ConfigError(f"{what} {text!r}: {error}") from None
        length = reference.length(name)
        region = Region(name, 0, length) if whole else Region.parse(text)
        if region.end > length:
            raise ConfigError(f"{what} {text!r} ends at {region.end:,}, and {name} is {length:,} bases long.")
        regions.append(Region(name, region.start, region.end))
    return regions


def _contig_of(text: str) -> str:
    """Return what stands before a region's last colon; the text itself where no region stands there."""
    match = re.fullmatch(r"(.+):[0-9,]+-[0-9,]+", text)
    return match[1] if match else text


def _resolved(reference: Reference, name: str) -> str:
    """Return the name of a contig in the reference, or nothing where it has none."""
    try:
        return reference.resolve(name)
    except UnknownContig:
        return ""


def read_bed(path: str | Path) -> list[list[str]]:
    """Return the fields of a BED file's lines: contig, start (0-based), end, and what follows.

    Raises
    ------
    DataError
        When the file is missing, or a line is no interval; names the line.
    """
    try:
        with open_text(Path(path)) as handle:
            lines = handle.read().decode("utf-8-sig").split("\n")
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is no BED file: {error}.") from None
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.startswith("#") or words[0] in ("track", "browser"):
            continue
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else words
        if not rows and [field.lower() for field in fields[1:3]] in (["start", "end"], ["chromstart", "chromend"]):
            continue
        is_whole = len(fields) >= 3 and all(re.fullmatch("[0-9]{1,15}", field) for field in fields[1:3])
        if not is_whole or not fields[0] or int(fields[1]) > int(fields[2]):
            raise DataError(
                f"{path}, line {number}: no interval: {line[:80]!r}.\n  A line is contig, start (from 0), end."
            )
        if int(fields[1]) < int(fields[2]):  # an insertion point has no bases
            rows.append(fields)
    return rows


def bed_regions(path: str | Path, reference: Reference) -> tuple[tuple[str, ...], str]:
    """Return the intervals of a BED file on the contigs of a reference, and what else it has.

    Intervals on other contigs are passed over: a list of the whole genome fits the FASTA of a chromosome.

    Returns
    -------
    The regions, and a sentence on how many intervals were passed over, or nothing.

    Raises
    ------
    DataError
        As `read_bed` does, and when no contig of the file is one of the reference, or an interval leaves its contig.
    """
    rows = read_bed(path)
    names = {contig: _resolved(reference, contig) for contig in dict.fromkeys(row[0] for row in rows)}
    source = reference.manifest["source"]
    if not any(names.values()):
        have = ", ".join([contig.name for contig in reference.contigs][:3])
        raise DataError(
            f"{path} has no interval on a contig of {source}: it names {', '.join(list(names)[:3]) or 'none'}, "
            f"and {source} {have}.\n  Name a BED file of this assembly."
        )
    regions = [Region(names[row[0]], int(row[1]), int(row[2])) for row in rows if names[row[0]]]
    for region in regions:
        if region.end > (length := reference.length(region.contig)):
            raise DataError(
                f"{path}: {region} ends behind the contig, which is {length:,} bases long in {source}.\n"
                "  Name a BED file of this assembly."
            )
    strange = [name for name, known in names.items() if not known]
    told = f"{path}: {len(rows) - len(regions):,} of {len(rows):,} intervals are on contigs that {source} lacks"
    few = ", ".join(strange[:3]) + (" …" if len(strange) > 3 else "")
    return tuple(map(str, regions)), f"{told} ({few})" if strange else ""


def regions_or_bed(texts: Iterable[str], reference: Reference, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Return regions and contigs as they are, and in place of BED files their intervals.

    Parameters
    ----------
    tell
        Told a sentence for each BED file of which intervals were passed over.
    """
    regions: list[str] = []
    for text in texts:
        if not is_bed(text) or _resolved(reference, text):
            regions.append(text)
            continue
        found, more = bed_regions(text, reference)
        if more:
            tell(more)
        regions += found
    return tuple(regions)


def is_bed(text: str, folder: Path = Path()) -> bool:
    """Say whether the text names a BED file, relative to a folder, and not a contig or region."""
    return text.removesuffix(".gz").endswith(".bed") or (folder / text).is_file()


def territory(
    reference: Reference,
    holdout: tuple[str, ...],
    split: str,
    contigs: set[str] | None,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    with_n: bool = False,
    soft_masked: bool = True,
) -> list[Region]:
    """Return the stretches of one side of the split, in the order of the reference.

    The pseudo-autosomal regions of Y are left out: they are copies of X's and would leak across splits.

    Parameters
    ----------
    split
        ``"train"`` or ``"heldout"``.
    contigs
        Contigs to look at; all when None.
    include, exclude
        Read these regions only, and not those.
    with_n
        Whether stretches may hold N.
    soft_masked
        Whether they may hold soft-masked bases, lower-case in the FASTA.

    Raises
    ------
    ConfigError
        When a region is none of the reference, or soft-masked bases are to be left out of a FASTA that has none.
    """
    if not soft_masked and not any(len(reference.soft_masked(contig.name)) for contig in reference.contigs):
        raise ConfigError(
            f"Soft-masked bases are to be left out, and {reference.manifest['source']} has none: all are upper-case.\n"
            "  Name a soft-masked FASTA, or leave soft_masked at true."
        )
    heldout = _by_contig(regions_of(reference, holdout, "holdout"))
    included = _by_contig(regions_of(reference, include, "include"))
    excluded = _by_contig(regions_of(reference, exclude, "exclude"))
    stretches = []
    for contig in reference.contigs:
        if contigs is not None and contig.name not in contigs:
            continue
        wanted = np.full(contig.length, not include)
        _mark(wanted, included.get(contig.name, ()), True)
        _mark(wanted, excluded.get(contig.name, ()), False)
        side = np.full(contig.length, split == "train")
        _mark(side, heldout.get(contig.name, ()), split == "heldout")
        wanted &= side
        if not soft_masked:
            for start, end in reference.soft_masked(contig.name):
                wanted[start:end] = False
        if not with_n:
            wanted &= np.asarray(reference.bases(contig.name)) != ord("N")
        if canonical_name(contig.name) == "Y":
            for start, end in pseudo_autosomal(contig.name, contig.length):
                wanted[start:end] = False
        stretches += [Region(contig.name, int(a), int(b)) for a, b in intervals(wanted)]
    return stretches


def _by_contig(regions: Iterable[Region]) -> dict[str, list[Region]]:
    sorted_by: dict[str, list[Region]] = {}
    for region in regions:
        sorted_by.setdefault(region.contig, []).append(region)
    return sorted_by


def _mark(wanted: NDArray[np.bool_], regions: Iterable[Region], value: bool) -> None:
    for region in regions:
        wanted[region.start : region.end] = value


def unique_part(stretches: list[Region], fraction: float, seed: int) -> list[Region]:
    """Return about `fraction` of a territory.

    Whole blocks, drawn once, smaller fractions inside larger ones.
    """
    if fraction >= 1:
        return stretches
    blocks = [
        Region(r.contig, start, min(start + BLOCK, r.end)) for r in stretches for start in range(r.start, r.end, BLOCK)
    ]
    order = counter.permutation(seed, UNIQUE, 0, len(blocks))
    sizes = np.array([blocks[i].end - blocks[i].start for i in order])
    chosen = np.sort(order[: 1 + int(np.searchsorted(np.cumsum(sizes), fraction * sizes.sum()))])
    merged: list[Region] = []
    for block in (blocks[i] for i in chosen):
        if merged and merged[-1].contig == block.contig and merged[-1].end == block.start:
            block = Region(block.contig, merged.pop().start, block.end)
        merged.append(block)
    return merged


def as_array(stretches: Sequence[Region]) -> NDArray[np.int64]:
    """Return regions of one contig as int64 (n, 2)."""
    return np.array([[r.start, r.end] for r in stretches], np.int64).reshape(-1, 2)
