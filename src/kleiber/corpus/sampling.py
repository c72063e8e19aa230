"""The three strategies, exactly: ``corpus[i]`` is a pure function of (seed, i).

U is the set of all (slot, contig, start) with a valid window. ``reference`` draws uniformly from the starts of the
reference, ``pangenome`` from U, ``variant`` from A, the members of U whose window holds an accepted edit. All are drawn
by rejection with a counter for each try, which is exactly uniform; sizes are counted by interval arithmetic. Windows
are weighted by how many haplotypes carry them, so ``variant`` weights variants by frequency. Rejected: lists of
windows on disk, which for 10^8 windows are 70 GB that say nothing the seed does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import asdict
from functools import cached_property
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber import counter
from kleiber.corpus import draws
from kleiber.corpus.config import CorpusConfig
from kleiber.corpus.parts import Ints, Part, records_in
from kleiber.corpus.regions import as_array, territory, unique_part
from kleiber.corpus.strategies import STRATEGIES, Candidates
from kleiber.errors import ConfigError
from kleiber.genome.assembly import Region, assembled, left_out
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.store import Store, empty_store
from kleiber.storage import digest

__all__ = ["COMPLEMENT", "Corpus", "CorpusConfig", "open_corpus"]

WINDOWS = np.uint64(counter.stream_id("windows"))
STRANDS = np.uint64(counter.stream_id("strands"))
GROUPS = np.uint64(counter.stream_id("groups"))
PATIENCE = 50  # rounds of rejection after which a corpus looks whether there is any window at all
ENDLESS = 100_000  # rounds after which a corpus gives up, where windows that a strategy keeps cannot be counted
CHUNK = 8192  # windows: what drawing them read of the store is still in the cache when they are copied


def open_corpus(reference: Reference, panel: Panel | None, config: CorpusConfig, seed: int) -> Corpus:
    """Open a corpus: count its windows, write nothing.

    Raises
    ------
    ConfigError
        When the strategy needs a panel and there is none, or no window fits.
    UnknownSample, UnknownContig
        When one of the configuration is not there.
    """
    if config.reads_haplotypes and panel is None:
        raise ConfigError(f"The strategy {config.strategy!r} samples haplotypes and needs a panel.")
    return Corpus(reference, panel if config.reads_haplotypes else None, config, seed)


class Corpus:
    """An endless, deterministic list of windows; open it with `open_corpus`.

    Attributes
    ----------
    territory
        The regions that it may read.
    """

    def __init__(self, reference: Reference, panel: Panel | None, config: CorpusConfig, seed: int):
        self.reference, self.panel, self.config, self.seed = reference, panel, config, seed
        self._territory_seed = seed
        names = {contig.name for contig in panel.contigs} if panel else {contig.name for contig in reference.contigs}
        if config.contigs:
            names &= {reference.resolve(contig) for contig in config.contigs}
        elif config.split == "train" and not config.include:
            names = names & assembled(reference.contigs) or names
        cut = territory(
            reference, config.holdout, config.split, names, config.include, config.exclude, config.with_n,
            config.soft_masked,
        )  # fmt: skip
        self.territory = unique_part(cut, config.unique, seed)
        self._names = names
        by_group = [list(self._cut_into_parts(chosen)) for chosen in self._chosen()]
        self._parts = [part for parts in by_group for part in parts]
        spans = [part.n_valid[:, 0] * len(part.slots) for part in self._parts]
        self._ends = np.cumsum(np.concatenate([[0], *spans])).astype(np.int64)
        if self._ends[-1] == 0:
            raise ConfigError(
                f"No window of {config.readable:,} bases fits into the {config.split} territory "
                f"({sum(r.end - r.start for r in self.territory):,} bases in {len(self.territory)} stretches)."
            )
        nothing = [np.zeros(0, np.int64)]
        self._begins = np.concatenate([part.regions[:, 0] for part in self._parts] + nothing)
        self._stops = np.concatenate([part.regions[:, 1] for part in self._parts] + nothing)
        self._spans = np.maximum(1, np.concatenate([part.n_valid[:, 0] for part in self._parts] + nothing))
        self._last = np.concatenate([part.last for part in self._parts] + nothing)
        self._part_ends = np.cumsum([len(part.regions) for part in self._parts])
        self._groups = np.array([0, len(self._begins)])
        if config.chromosome_uniform:
            sizes = [part.n_valid[:, 1].sum() for part in self._parts]
            self._groups = np.array([0, *[end for end, size in zip(self._part_ends, sizes, strict=True) if size]])
        if config.groups:
            n_regions = [sum(len(part.regions) for part in parts) for parts in by_group]
            self._groups = np.cumsum([0, *n_regions])
            empty = [i for i, end in enumerate(self._groups[1:]) if self._ends[end] == self._ends[self._groups[i]]]
            if empty:
                raise ConfigError(f"The group of {config.groups[empty[0]][0]} has no window in the territory.")

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return window `index` (any from 0): uint8 ASCII, shape (window,), or of its own length in span mode."""
        if self.config.mode == "anchored":
            return self.rows(np.array([index]), self.config.window).reshape(-1)
        indices = np.array([index], np.int64)
        region, rank, start = self._draw(indices)
        part = self._part_of(int(region[0]))
        slot, end = int(part.slots[rank[0]]), int(start[0]) + self.config.window
        length = draws.span_length(part.store, part.n_slots, slot, int(start[0]), end)
        out = np.empty((1, length), np.uint8)
        draws.fill(part.bases, part.store, part.n_slots, part.slots, np.zeros(1, np.int64), rank, start, out)
        self._turn(indices, out)
        return out.reshape(-1)

    def batch(self, indices: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return many windows, shape (n, window)."""
        return self.rows(indices, self.config.window)

    def rows(self, indices: NDArray[np.integer], n_bases: int) -> NDArray[np.uint8]:
        """Return the windows with those numbers, each read on along its haplotype.

        Shape (n, n_bases).

        Raises
        ------
        ConfigError
            When `n_bases` is more than the corpus's reach, or windows vary in length.
        """
        if n_bases > self.config.readable:
            raise ConfigError(f"{n_bases:,} bases are wanted of windows that reach {self.config.readable:,}.")
        if self.config.mode == "span":
            raise ConfigError("Windows of mode 'span' vary in length; take them one by one.")
        numbers = np.asarray(indices, np.int64)
        out = np.empty((len(numbers), n_bases), np.uint8)
        for at in range(0, len(numbers), CHUNK):
            some, rows = numbers[at : at + CHUNK], out[at : at + CHUNK]
            region, rank, start = self._draw(some)
            for part, which in self._by_part(region, np.arange(len(some))):
                draws.fill(part.bases, part.store, part.n_slots, part.slots, which, rank, start, rows)
            self._turn(some, rows)
        return out

    def drawn_by(self, seed: int) -> Corpus:
        """Return the same windows of the same territory in the order of another seed."""
        other = copy(self)
        other.seed = seed
        return other

    def tiles(self, stride: int) -> list[tuple[str, int]]:
        """Return (contig, start) of reference windows every `stride` bases of the territory, in order.

        All can be read as far as the corpus reaches.
        """
        return [
            (region.contig, start)
            for region in self.territory
            for start in range(region.start, region.end - self.config.readable + 1, stride)
        ]

    def tile_rows(self, tiles: list[tuple[str, int]], n_bases: int) -> NDArray[np.uint8]:
        """Return the reference from each tile's start on, shape (n, n_bases)."""
        return np.stack([self.reference.bases(contig)[start : start + n_bases] for contig, start in tiles])

    def explain(self, index: int) -> dict[str, Any]:
        """Return where window `index` comes from.

        Sample, slot, contig, start (1-based) and the records applied.
        """
        region, rank, starts = self._draw(np.array([index]))
        part, start = self._part_of(int(region[0])), int(starts[0])
        where: dict[str, Any] = {"contig": part.contig, "start": start + 1, "sample": None, "slot": None, "records": []}
        where["strand"] = "-" if self._is_turned(np.array([index]))[0] else "+"
        if self.panel:
            slot = int(part.slots[rank[0]])
            where |= {"sample": self.panel.samples[slot // 2], "slot": slot % 2}
            where["records"] = records_in(part, slot, start, self.config.window)
        return where

    def places(self, indices: NDArray[np.integer]) -> dict[str, list[Any]]:
        """Return where the windows `indices`, (n,), come from, as columns of n values.

        Contig, start (1-based), strand, sample, slot.
        """
        numbers = np.asarray(indices, np.int64)
        region, rank, start = self._draw(numbers)
        n = len(numbers)
        contig, slot = np.empty(n, object), np.full(n, -1, np.int64)
        for part, which in self._by_part(region, np.arange(n)):
            contig[which] = part.contig
            slot[which] = part.slots[rank[which]]
        samples = self.panel.samples if self.panel else None
        return {
            "contig": contig.tolist(),
            "start": (start + 1).tolist(),
            "strand": ["-" if turned else "+" for turned in self._is_turned(numbers)],
            "sample": [samples[h // 2] if samples else None for h in slot],
            "slot": [int(h % 2) if samples else None for h in slot],
        }

    def describe(self) -> dict[str, Any]:
        """Return what the corpus is, as JSON: sizes of U and A, bases, GC, N, haplotypes, shares by contig."""
        letters = np.zeros(256, np.int64)
        for region in self.territory:
            letters += np.bincount(self.reference.bases(region.contig)[region.start : region.end], minlength=256)
        size = int(letters.sum())
        valid = sum(int(part.n_valid[:, 1].sum()) for part in self._parts)
        holding = self.n_variant_windows
        acgt = letters[[ord(letter) for letter in "ACGT"]]
        by_contig: dict[str, int] = {}
        for part in self._parts:
            by_contig[part.contig] = by_contig.get(part.contig, 0) + int(part.n_valid[:, 1].sum())
        return {
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.config).items()},
            "territory": [str(region) for region in self.territory],
            "n_unique_bases": size,
            "n_haplotypes": len(np.unique(np.concatenate([part.slots for part in self._parts]))),
            "n_windows": valid,
            "n_variant_windows": holding,
            "variant_share": holding / valid,
            "gc": float((acgt[1] + acgt[2]) / max(1, acgt.sum())),
            "n": int(size - acgt.sum()),
            "reference_changes": {
                f"{name} {kind}": n
                for name, counts in self.reference.changes.items()
                if name in by_contig
                for kind, n in counts.items()
            },
            "windows_by_contig": by_contig,
            "left_out": {
                role: {"n_contigs": n, "n_bases": bases}
                for role, (n, bases) in left_out(self.reference.contigs, self._names).items()
            },
        }

    @cached_property
    def n_variant_windows(self) -> int:
        """The size of A: members of U whose window holds an accepted edit."""
        return sum(self._n_holding(part) for part in self._parts if self.panel)

    def _n_holding(self, part: Part) -> int:
        config = self.config
        return int(
            draws.count_holding(
                part.store, part.n_slots, part.slots, part.regions, config.readable, config.window, self._is_span
            )
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the windows."""
        panel = self.panel.fingerprint if self.panel else None
        seeds = [self.seed] if self.seed == self._territory_seed else [self.seed, self._territory_seed]
        return digest([self.reference.fingerprint, panel, asdict(self.config), *seeds])

    @property
    def _is_span(self) -> bool:
        return self.config.mode == "span"

    def _chosen(self) -> list[NDArray[np.bool_]]:
        """Return which slots the corpus reads, (slots,), or each of its groups."""
        if self.panel is None:
            return [np.ones(1, bool)]
        groups = self.config.groups or (self.config.samples or self.panel.samples,)
        masks = [np.zeros(2 * len(self.panel.samples), bool) for _ in groups]
        for mask, samples in zip(masks, groups, strict=True):
            for sample in samples:
                mask[self.panel.slot(sample, 0) : self.panel.slot(sample, 1) + 1] = True
        return masks

    def _cut_into_parts(self, chosen: NDArray[np.bool_]) -> Iterator[Part]:
        """Cut the territory into parts: one contig each, and the same slots of the chosen throughout."""
        by_contig: dict[str, list[Region]] = {}
        for region in self.territory:
            by_contig.setdefault(region.contig, []).append(region)
        for contig, stretches in by_contig.items():
            by_slots: dict[bytes, list[Region]] = {}
            for region in stretches:
                for pieces, exists in self._stretches(region):
                    by_slots.setdefault((chosen & exists).tobytes(), []).extend(pieces)
            store = self.panel.store(contig) if self.panel else empty_store(self.reference.length(contig))
            for key, regions in by_slots.items():
                slots = np.flatnonzero(np.frombuffer(key, bool))
                if len(slots):
                    yield self._part(contig, store, len(chosen), slots, as_array(regions))

    def _stretches(self, region: Region) -> Iterator[tuple[list[Region], NDArray[np.bool_]]]:
        """Yield stretches of a region and the slots that there are on them; each slot once, with all its stretches."""
        if self.panel is None:
            yield [region], np.ones(1, bool)
            return
        for stretches, exists in self.panel.stretches(region.contig, region.start, region.end):
            yield [Region(region.contig, start, end) for start, end in stretches], exists

    def _part(self, contig: str, store: Store, n_slots: int, slots: Ints, regions: Ints) -> Part:
        last, n_valid = np.empty(len(regions), np.int64), np.empty((len(regions), 2), np.int64)
        draws.count_valid(store, n_slots, slots, regions, self.config.readable, self._is_span, last, n_valid)
        return Part(contig, self.reference.bases(contig), store, n_slots, slots, regions, last, n_valid)

    def _part_of(self, region: int) -> Part:
        return self._parts[int(np.searchsorted(self._part_ends, region, side="right"))]

    def _by_part(self, region: Ints, which: Ints) -> Iterator[tuple[Part, Ints]]:
        """Yield each part with those of the numbers `which` whose region is in it."""
        if len(self._parts) == 1:
            yield self._parts[0], which
            return
        owner = np.searchsorted(self._part_ends, region[which], side="right")
        for number in np.unique(owner):
            yield self._parts[number], which[owner == number]

    def _draw(self, indices: Ints) -> tuple[Ints, Ints, Ints]:
        """Return (region, rank of the slot in its part, start) of each window."""
        n = len(indices)
        used = np.zeros(n, np.uint64)
        region, rank, start = (np.empty(n, np.int64) for _ in range(3))
        accepted = np.zeros(n, bool)
        waiting = np.arange(n)
        seed = np.uint64(self.seed)
        config, keeps = self.config, STRATEGIES[self.config.strategy].keeps
        group = np.full(n, -1, np.int64)
        if config.groups:
            draws.groups_of(seed, GROUPS, indices, np.cumsum(config.shares), group)
        for round_ in count():
            if not len(waiting):
                break
            if round_ == PATIENCE and config.strategy == "variant":
                self._refuse_endless()
            if round_ == ENDLESS and config.strategy != "variant":
                raise ConfigError(f"{ENDLESS:,} windows were drawn, and the strategy {config.strategy!r} keeps none.")
            several = len(waiting) < n
            columns = [used, region, rank, start, group]
            mine = [column[waiting] for column in columns] if several else columns
            draws.draw(
                seed, WINDOWS, indices[waiting] if several else indices, mine[0], self._ends, self._groups,
                self._begins, self._spans, mine[1], mine[2], mine[3], mine[4],
            )  # fmt: skip
            if several:
                for column, values in zip(columns, mine, strict=True):
                    column[waiting] = values
            for part, which in self._by_part(region, waiting):
                draws.accept(
                    part.store, part.n_slots, part.slots, which, region, rank, start, self._stops, self._last,
                    config.readable, self._is_span, accepted,
                )  # fmt: skip
                if keeps is not None:
                    valid = which[accepted[which]]
                    slots, starts = part.slots[rank[valid]], start[valid]
                    drawn = Candidates(
                        part.bases, part.store, part.n_slots, slots, starts, config.window, self._is_span
                    )
                    accepted[valid] = keeps(drawn)
            waiting = waiting[~accepted[waiting]]
        return region, rank, start

    def _refuse_endless(self) -> None:
        """Raise where no window holds a variant: drawing would never end."""
        edges = self._groups if self.config.groups else np.array([0, len(self._begins)])
        for begin, end in pairwise(edges):
            first, last = np.searchsorted(self._part_ends, [begin, end - 1], side="right")
            if not sum(self._n_holding(part) for part in self._parts[first : last + 1]):
                raise ConfigError("No window of the territory holds a variant of the chosen samples.")

    def _turn(self, indices: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        if self.config.reverse_complement:
            draws.strands(np.uint64(self.seed), STRANDS, indices, self.config.reverse_complement, COMPLEMENT, out)

    def _is_turned(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        probe = np.full((len(indices), 1), ord("A"), np.uint8)
        self._turn(indices, probe)
        turned: NDArray[np.bool_] = probe[:, 0] != ord("A")
        return turned


COMPLEMENT = np.arange(256, dtype=np.uint8)
"""What stands on the other strand for each letter; others than A, C, G and T stay."""
for _a, _b in ("AT", "CG"):
    COMPLEMENT[ord(_a)], COMPLEMENT[ord(_b)] = ord(_b), ord(_a)
