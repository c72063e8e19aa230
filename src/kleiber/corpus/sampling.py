"""The three strategies, exactly: ``corpus[i]`` is a pure function of (seed, i).

U is the set of all (slot, contig, start) with a valid window. ``reference`` draws uniformly from the starts of the
reference, ``pangenome`` from U, ``variant`` from A, the members of U whose window holds an accepted edit. A is drawn
by rejection from U with a counter for each try, which is exactly uniform; its size is counted by interval arithmetic.
Windows are weighted by how many haplotypes carry them, so ``variant`` weights variants by frequency. Rejected: lists
of windows on disk, which for 10^8 windows are 70 GB that say nothing the seed does not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber import counter
from kleiber.corpus.regions import as_array, territory, unique_part
from kleiber.errors import ConfigError, UnknownName
from kleiber.genome.haplotypes import Haplotypes, copy_window, count_starts, first_at, holds_edit
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.storage import digest

__all__ = ["STRATEGIES", "Corpus", "CorpusConfig", "open_corpus"]

STRATEGIES = ("reference", "pangenome", "variant")
WINDOWS = np.uint64(counter.stream_id("windows"))
STRANDS = np.uint64(counter.stream_id("strands"))


@dataclass(frozen=True)
class CorpusConfig:
    """What a corpus reads.

    Attributes
    ----------
    strategy
        ``"reference"``, ``"pangenome"`` or ``"variant"``.
    window
        Bases of a window; for ``"variant"``, the stretch that has to hold an edit.
    reach
        Bases that have to follow a start inside the territory; `window` when None.
    holdout
        Contigs or blocks (1-based inclusive) that belong to the split ``"heldout"``.
    split
        ``"train"`` or ``"heldout"``.
    unique
        Fraction of the territory that may be read.
    reverse_complement
        Probability that a window is read from the other strand.
    """

    strategy: str
    window: int
    reach: int | None = None
    holdout: tuple[str, ...] = ()
    split: str = "train"
    unique: float = 1.0
    reverse_complement: float = 0.0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UnknownName(self.strategy, STRATEGIES, kind="sampling strategy")
        if self.split not in ("train", "heldout"):
            raise UnknownName(self.split, ("train", "heldout"), kind="split")
        if self.window < 1 or (self.reach is not None and self.reach < self.window):
            raise ConfigError(f"A window of {self.window} bases with a reach of {self.reach} cannot be.")

    @property
    def readable(self) -> int:
        """Bases that follow every start."""
        return self.reach or self.window


def open_corpus(reference: Reference, panel: Panel | None, config: CorpusConfig, seed: int) -> Corpus:
    """Open a corpus: count its windows, write nothing.

    Raises
    ------
    ConfigError
        When the strategy needs a panel and there is none, or no window fits.
    """
    if config.strategy != "reference" and panel is None:
        raise ConfigError(f"The strategy {config.strategy!r} samples haplotypes and needs a panel.")
    return Corpus(reference, panel if config.strategy != "reference" else None, config, seed)


class Corpus:
    """An endless, deterministic list of windows; open it with `open_corpus`.

    Attributes
    ----------
    territory
        The N-free regions that it may read.
    """

    def __init__(self, reference: Reference, panel: Panel | None, config: CorpusConfig, seed: int):
        self.reference, self.panel, self.config, self.seed = reference, panel, config, seed
        names = {contig.name for contig in panel.contigs} if panel else None
        self.territory = unique_part(territory(reference, config.holdout, config.split, names), config.unique, seed)
        self.contigs = tuple(dict.fromkeys(region.contig for region in self.territory))
        self._parts = [self._part(contig) for contig in self.contigs]
        sizes = np.array([part.n_valid for part in self._parts], np.int64)
        self._ends = np.cumsum(sizes)
        if not len(sizes) or self._ends[-1] == 0:
            raise ConfigError(
                f"No window of {config.readable:,} bases fits into the {config.split} territory "
                f"({sum(r.end - r.start for r in self.territory):,} bases in {len(self.territory)} stretches "
                "without N)."
            )

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return window `index` (any from 0): uint8 ASCII, shape (window,)."""
        return self.rows(np.array([index]), self.config.window)[0]

    def batch(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return many windows, shape (n, window)."""
        return self.rows(indices, self.config.window)

    def rows(self, indices: NDArray[np.integer], n_bases: int) -> NDArray[np.uint8]:
        """Return the windows with those numbers, each read on along its haplotype to `n_bases`, shape (n, n_bases).

        Raises
        ------
        ConfigError
            When `n_bases` is more than the corpus's reach.
        """
        if n_bases > self.config.readable:
            raise ConfigError(f"{n_bases:,} bases are wanted of windows that reach {self.config.readable:,}.")
        out = np.empty((len(indices), n_bases), np.uint8)
        for row, index in enumerate(np.asarray(indices, np.int64)):
            part, slot, start = self._draw(int(index))
            copy_window(part.bases, *part.haplotypes.arrays, slot, start, out[row])
        if self.config.reverse_complement:
            strands = np.array([counter.uniform(np.uint64(self.seed), STRANDS, np.uint64(i), 0) for i in indices])
            turned = strands < self.config.reverse_complement
            out[turned] = _COMPLEMENT[out[turned, ::-1]]
        return out

    def tiles(self, stride: int) -> list[tuple[str, int]]:
        """Return (contig, start) of reference windows every `stride` bases of the territory, in order; all can be read
        as far as the corpus reaches."""
        return [
            (region.contig, start)
            for region in self.territory
            for start in range(region.start, region.end - self.config.readable + 1, stride)
        ]

    def tile_rows(self, tiles: list[tuple[str, int]], n_bases: int) -> NDArray[np.uint8]:
        """Return the reference from each tile's start on, shape (n, n_bases)."""
        return np.stack([self.reference.bases(contig)[start : start + n_bases] for contig, start in tiles])

    def explain(self, index: int) -> dict[str, Any]:
        """Return where window `index` comes from: sample, slot, contig, start (1-based) and the records applied."""
        part, slot, start = self._draw(index)
        where: dict[str, Any] = {"contig": part.contig, "start": start + 1, "sample": None, "slot": None, "records": []}
        if self.panel:
            where |= {"sample": self.panel.samples[slot // 2], "slot": slot % 2}
            where["records"] = _records(part.haplotypes, slot, start, self.config.window)
        return where

    def describe(self) -> dict[str, Any]:
        """Return what the corpus is, as JSON: sizes of U and A, bases, GC, haplotypes."""
        bases = np.concatenate([self.reference.bases(r.contig)[r.start : r.end] for r in self.territory])
        letters = np.bincount(bases, minlength=256)
        valid = sum(part.n_valid for part in self._parts)
        holding = sum(part.n_holding for part in self._parts)
        return {
            **asdict(self.config),
            "holdout": list(self.config.holdout),
            "territory": [str(region) for region in self.territory],
            "n_unique_bases": len(bases),
            "n_haplotypes": self._parts[0].haplotypes.n_slots if self.panel else 1,
            "n_windows": valid,
            "n_variant_windows": holding,
            "variant_share": holding / valid,
            "gc": float((letters[ord("G")] + letters[ord("C")]) / len(bases)),
            "windows_by_contig": {part.contig: part.n_valid for part in self._parts},
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the windows."""
        panel = self.panel.fingerprint if self.panel else None
        return digest([self.reference.fingerprint, panel, asdict(self.config), self.seed])

    def _part(self, contig: str) -> _Part:
        regions = as_array([region for region in self.territory if region.contig == contig])
        haplotypes = self.panel.haplotypes(contig) if self.panel else _no_edits()
        shape = haplotypes.n_slots, len(regions)
        valid, holding = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        count_starts(*haplotypes.arrays, regions, self.config.readable, self.config.window, valid, holding)
        return _Part(contig, self.reference.bases(contig), haplotypes, regions, np.cumsum(valid), int(holding.sum()))

    def _draw(self, index: int) -> tuple[_Part, int, int]:
        """Return (part, slot, start) of window `index`."""
        seed, number = np.uint64(self.seed), np.uint64(index)
        total, n = np.uint64(self._ends[-1]), np.uint64(0)
        while True:
            value, n = counter.bounded(seed, WINDOWS, number, n, total)
            n = np.uint64(n)
            which = int(np.searchsorted(self._ends, value, side="right"))
            part = self._parts[which]
            slot, start = part.locate(int(value) - int(self._ends[which] - part.n_valid))
            if self.config.strategy != "variant" or holds_edit(
                *part.haplotypes.arrays, slot, start, self.config.window
            ):
                return part, slot, start


@dataclass(frozen=True)
class _Part:
    """One contig of a corpus; `ends` is the running number of valid starts by slot, then region."""

    contig: str
    bases: NDArray[np.uint8]
    haplotypes: Haplotypes
    regions: NDArray[np.int64]
    ends: NDArray[np.int64]
    n_holding: int

    @property
    def n_valid(self) -> int:
        return int(self.ends[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """Return (slot, start) of a valid start by its number."""
        cell = int(np.searchsorted(self.ends, number, side="right"))
        before = int(self.ends[cell - 1]) if cell else 0
        slot, region = divmod(cell, len(self.regions))
        return slot, int(self.regions[region, 0]) + number - before


def _no_edits() -> Haplotypes:
    nothing = np.empty(0, np.int64)
    return Haplotypes.of([], [], nothing, nothing, 1)


def _records(haplotypes: Haplotypes, slot: int, start: int, window: int) -> list[dict[str, int]]:
    """Return the records whose edits a window holds, by the haplotype's own coordinates."""
    index = int(first_at(*haplotypes.arrays, slot, start))
    held = []
    for place in range(*haplotypes.offsets[slot : slot + 2]):
        edit = int(haplotypes.carried[place])
        begin = int(haplotypes.start[edit]) + int(haplotypes.growth[place])
        size = int(haplotypes.alt_at[edit + 1] - haplotypes.alt_at[edit])
        if begin < index + window and (begin + size > index if size else begin > index):
            position, allele = (int(x) for x in haplotypes.records[edit])
            held.append({"position": position, "allele": allele})
    return held


_COMPLEMENT = np.arange(256, dtype=np.uint8)
for _a, _b in ("AT", "CG"):
    _COMPLEMENT[ord(_a)], _COMPLEMENT[ord(_b)] = ord(_b), ord(_a)
