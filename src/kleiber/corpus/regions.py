"""Which bases a corpus may read: held-out blocks, N, and how much of the rest.

Splits are by region and the same for every strategy and haplotype: no training window reads a base with a held-out
coordinate. N cuts regions, so that no window holds one. Rejected: splitting windows at random, which puts every
held-out base into a neighbour's training window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kleiber import counter
from kleiber.errors import ConfigError, UnknownContig
from kleiber.genome.assembly import Region
from kleiber.genome.reference import Reference

__all__ = ["heldout_regions", "territory", "unique_part"]

UNIQUE = counter.stream_id("unique")
BLOCK = 50_000  # bases: the grain in which a fraction of the territory is chosen


def heldout_regions(reference: Reference, holdout: tuple[str, ...]) -> list[Region]:
    """Read the held-out regions, contigs by their names in the reference.

    Raises
    ------
    ConfigError, UnknownContig
        When one is no region, or lies outside its contig.
    """
    regions = []
    for text in holdout:
        name = text.rsplit(":", 1)[0] if ":" in text else text
        try:
            length = reference.length(name)
        except UnknownContig as error:
            raise ConfigError(f"holdout {text!r}: {error}") from None
        region = Region.parse(text, length)
        if region.end > length:
            raise ConfigError(f"holdout {text!r} ends at {region.end:,}, and {name} is {length:,} bases long.")
        regions.append(Region(reference.resolve(name), region.start, region.end))
    return regions


def territory(reference: Reference, holdout: tuple[str, ...], split: str, contigs: set[str] | None) -> list[Region]:
    """Return the N-free stretches of one side of the split, in the order of the reference.

    Parameters
    ----------
    split
        ``"train"`` or ``"heldout"``.
    contigs
        Contigs to look at; all when None.
    """
    heldout = heldout_regions(reference, holdout)
    stretches = []
    for contig in reference.contigs:
        if contigs is not None and contig.name not in contigs:
            continue
        wanted = np.full(contig.length, split == "train")
        for region in heldout:
            if region.contig == contig.name:
                wanted[region.start : region.end] = split == "heldout"
        wanted &= np.asarray(reference.bases(contig.name)) != ord("N")
        edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8))).reshape(-1, 2)
        stretches += [Region(contig.name, int(a), int(b)) for a, b in edges]
    return stretches


def unique_part(stretches: list[Region], fraction: float, seed: int) -> list[Region]:
    """Return about `fraction` of a territory: whole blocks, drawn once, smaller fractions inside larger ones."""
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


def as_array(stretches: list[Region]) -> NDArray[np.int64]:
    """Return regions of one contig as int64 (n, 2)."""
    return np.array([[r.start, r.end] for r in stretches], np.int64).reshape(-1, 2)
