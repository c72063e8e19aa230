"""Which bases a corpus may read: held-out blocks, BED files, N, and how much of the rest.

Splits are by region and the same for every strategy and haplotype: no training window reads a base with a held-out
coordinate. N cuts regions, so that no window holds one. Rejected: splitting windows at random, which puts every
held-out base into a neighbour's training window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kleiber import counter
from kleiber.errors import ConfigError, DataError, UnknownContig
from kleiber.genome.assembly import Region, canonical_name
from kleiber.genome.ploidy import pseudo_autosomal
from kleiber.genome.reference import Reference, intervals

__all__ = ["as_array", "read_bed", "regions_of", "territory", "unique_part"]

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
        name = text.rsplit(":", 1)[0] if ":" in text else text
        try:
            length = reference.length(name)
        except UnknownContig as error:
            raise ConfigError(f"{what} {text!r}: {error}") from None
        region = Region.parse(text, length)
        if region.end > length:
            raise ConfigError(f"{what} {text!r} ends at {region.end:,}, and {name} is {length:,} bases long.")
        regions.append(Region(reference.resolve(name), region.start, region.end))
    return regions


def read_bed(path: str | Path) -> list[list[str]]:
    """Return the fields of a BED file's lines: contig, start (0-based), end, and what follows.

    Raises
    ------
    DataError
        When the file is missing, or a line is no interval; names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no BED file: {error}.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or line.startswith("#") or words[0] in ("track", "browser"):
            continue
        fields = line.split("\t") if "\t" in line else words
        is_whole = len(fields) >= 3 and all(re.fullmatch("[0-9]{1,15}", field) for field in fields[1:3])
        if not is_whole or not fields[0] or int(fields[1]) >= int(fields[2]):
            raise DataError(
                f"{path}, line {number}: no interval: {line[:80]!r}.\n  A line is contig, start (from 0), end."
            )
        rows.append(fields)
    return rows


def territory(
    reference: Reference,
    holdout: tuple[str, ...],
    split: str,
    contigs: set[str] | None,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    with_n: bool = False,
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
    """
    heldout = regions_of(reference, holdout, "holdout")
    included, excluded = regions_of(reference, include, "include"), regions_of(reference, exclude, "exclude")
    stretches = []
    for contig in reference.contigs:
        if contigs is not None and contig.name not in contigs:
            continue
        wanted = np.full(contig.length, not include)
        _mark(wanted, included, contig.name, True)
        _mark(wanted, excluded, contig.name, False)
        side = np.full(contig.length, split == "train")
        _mark(side, heldout, contig.name, split == "heldout")
        wanted &= side
        if not with_n:
            wanted &= np.asarray(reference.bases(contig.name)) != ord("N")
        if canonical_name(contig.name) == "Y":
            for start, end in pseudo_autosomal(contig.name, contig.length):
                wanted[start:end] = False
        stretches += [Region(contig.name, int(a), int(b)) for a, b in intervals(wanted)]
    return stretches


def _mark(wanted: NDArray[np.bool_], regions: list[Region], contig: str, value: bool) -> None:
    for region in regions:
        if region.contig == contig:
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
