"""The haplotype store: every phased genome of a panel as edits of the reference, memory-mapped.

A panel is one folder that needs nothing else: the reference (hard links where that is possible), a part for each file
it was built from, and the manifest, written last. A window costs a search and a copy. Rejected: writing the haplotypes
out, which is 6 GB for each genome.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kleiber.errors import ConfigError, StateError, UnknownSample
from kleiber.genome.assembly import Contig, Region
from kleiber.genome.build import SCHEMA, Task, build_parts, few, refuse_foreign
from kleiber.genome.haplotypes import ROOM, carried, copy_window, first_at, measured
from kleiber.genome.join import join
from kleiber.genome.manifests import (
    ABSENT,
    arrays_of,
    difference,
    is_inside,
    refuse_damaged,
    refuse_nothing,
    silent_samples,
    totals,
)
from kleiber.genome.reference import Reference
from kleiber.genome.rules import PanelRules
from kleiber.genome.store import Store, empty_store, open_store
from kleiber.genome.vcf import VcfFile
from kleiber.storage import MANIFEST, digest, file_digest, link_or_copy, read_manifest, staged_folder, write_manifest

__all__ = ["Panel", "PanelRules"]


class Panel:
    """The haplotypes of a phased panel; make it with `build` and read it with `open`.

    Attributes
    ----------
    samples
        In the order of the files, each once, or as they were asked for.
    contigs
        Those with records.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], reference: Reference):
        self.path, self.manifest, self.reference = Path(path), manifest, reference
        self.samples = tuple(manifest["samples"])
        self.contigs = tuple(Contig(entry["name"], entry["length"]) for entry in manifest["contigs"])
        self._opened: dict[str, Store] = {}

    @classmethod
    def build(
        cls,
        reference: Reference,
        files: Sequence[str | Path],
        out: str | Path,
        rules: PanelRules | None = None,
        *,
        samples: Sequence[str] | None = None,
        sexes: Mapping[str, str] | None = None,
        workers: int = 1,
        progress: Callable[[str], None] = lambda text: None,
    ) -> Panel:
        """Read phased VCF or BCF files into a store: contigs together or apart, in shards, samples by file.

        It can be killed at any moment; the next call goes on with the files that are not done. Files that the store
        in `out` was built from, and that are the same, are not read again.

        Parameters
        ----------
        samples
            Keep these, in this order; all when None.
        sexes
            ``"male"`` or ``"female"`` by sample, for X and Y; see `kleiber.genome.ploidy`.
        workers
            Processes that read files side by side; what is written does not depend on it.
        progress
            Told a line for each file that is done.

        Raises
        ------
        DataError
            When a file cannot be used; names the file, the position and both values.
        UnknownSample
            When a sample is not in the files.
        ConfigError
            When no file is named.
        """
        if not files:
            raise ConfigError("A panel needs at least one VCF or BCF file.")
        sources = [VcfFile(Path(file)) for file in files]
        known = tuple(dict.fromkeys(sample for source in sources for sample in source.samples))
        for sample in samples or ():
            if sample not in known:
                raise UnknownSample(sample, known, few([str(source.path) for source in sources]))
        refuse_foreign(sources, reference)
        chosen = tuple(dict.fromkeys(samples)) if samples else known
        rules = rules or PanelRules()
        with staged_folder(out, keep_partial=True) as folder:
            tasks: list[Task] = []
            for source in sources:
                theirs = set(source.samples)
                if kept := tuple(sample for sample in chosen if sample in theirs):
                    part = f"part-{len(tasks)}"
                    store = Path(out).resolve() / part
                    tasks.append(Task(source.path, folder / part, store, reference.path, rules, kept))
            parts = build_parts(tasks, workers, progress)
            contigs = join(tasks, parts, folder, reference, rules, chosen, sexes)
            foreign = totals(part["foreign"] for part in parts)
            refuse_nothing(contigs, foreign, reference, few([str(source.path) for source in sources]))
            names = [f"part-{i}" for i in range(len(tasks))]
            names += [name for name in [f"part-{len(tasks)}"] if any(entry["part"] == len(tasks) for entry in contigs)]
            for stale in {*folder.glob("part-*"), *folder.glob(".part-*")} - {folder / name for name in names}:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            shutil.rmtree(folder / "reference", ignore_errors=True)
            shutil.copytree(reference.path, folder / "reference", copy_function=link_or_copy)
            manifests = [*(f"{name}/{MANIFEST}" for name in names), f"reference/{MANIFEST}"]
            manifest = {
                "schema": SCHEMA,
                "samples": list(chosen),
                "sources": [part["source"] for part in parts],
                "reference": reference.fingerprint,
                "rules": parts[0]["decides"]["rules"],
                "contigs": contigs,
                "silent": silent_samples(reference, contigs, chosen, sexes),
                "foreign": foreign,
                "sha256": {name: file_digest(folder / name) for name in manifests},
            }
            write_manifest(folder, {**manifest, "checksum": digest(manifest)})
        return cls.open(out)

    @classmethod
    def open(cls, path: str | Path, reference: Reference | None = None) -> Panel:
        """Open a store; with `reference`, see that it is the one it was built on.

        Raises
        ------
        StateError
            When there is no complete store, it is of another version, or belongs to another reference.
        DataError
            When a manifest is not as it was written, or names a file outside of the store.
        """
        manifest = read_manifest(path)
        if manifest is None or "samples" not in manifest:
            raise StateError(f"{path} holds no complete panel.\n  Build it: kleiber panel build --out {path} …")
        if manifest.get("schema") != SCHEMA:
            raise StateError(
                f"{path} has the schema {manifest.get('schema')}, and {SCHEMA} is read.\n  Build it again."
            )
        refuse_damaged(Path(path), manifest)
        own = Reference.open(Path(path) / "reference")
        for other in (own, reference):
            if other is not None and manifest["reference"] != other.fingerprint:
                raise StateError(f"The panel {path} was built on another reference than {other.path}.")
        return cls(Path(path), manifest, own)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of samples, reference, rules and edits."""
        edits = [[entry["name"], entry["sha256"], entry["absent"]] for entry in self.manifest["contigs"]]
        return digest([*(self.manifest[key] for key in ("samples", "reference", "rules")), edits])

    @property
    def n_slots(self) -> int:
        """Haplotypes, two a sample, whether or not both exist on a contig."""
        return 2 * len(self.samples)

    def store(self, contig: str) -> Store:
        """Return the edits of one contig, memory-mapped; none where the panel has no record.

        Raises
        ------
        UnknownContig
            When the reference has no such contig.
        """
        name = self.reference.resolve(contig)
        if name not in self._opened:
            entry = next((entry for entry in self.manifest["contigs"] if entry["name"] == name), None)
            if entry is None:
                return empty_store(self.reference.length(name))
            size = (self.reference.length(name), entry["n_edits"], self.n_slots)
            self._opened[name] = open_store(self.path / f"part-{entry['part']}", entry["number"], *size)
        return self._opened[name]

    def exists(self, contig: str, start: int, end: int) -> NDArray[np.bool_]:
        """Say which slots there are on the whole of a region, 0-based half-open, (slots,)."""
        found = np.ones(self.n_slots, bool)
        for stretches, slots in self._absent.get(self.reference.resolve(contig), ()):
            if ((stretches[:, 0] < end) & (stretches[:, 1] > start)).any():
                found[slots] = False
        return found

    def stretches(self, contig: str, start: int, end: int) -> Iterator[tuple[list[tuple[int, int]], NDArray[np.bool_]]]:
        """Yield, for the region, the stretches on which the same slots exist, and those slots, bool (slots,).

        A slot is in one of them, with all its stretches; or in none, where it does not exist.
        """
        whole = self.exists(contig, start, end)
        yield [(start, end)], whole
        by_stretches: dict[tuple[tuple[int, int], ...], NDArray[np.bool_]] = {}
        for absent, slots in self._absent.get(self.reference.resolve(contig), ()):
            if whole[slots[0]]:
                continue
            edges = [start, *np.clip(absent.ravel(), start, end).tolist(), end]
            there = tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
            by_stretches.setdefault(there, np.zeros(self.n_slots, bool))[slots] = True
        for there, which in by_stretches.items():
            if there:
                yield list(there), which

    def slot(self, sample: str, slot: int) -> int:
        """Return the number of a haplotype: two a sample, in the order of the samples.

        Raises
        ------
        UnknownSample
            With the nearest known names.
        ConfigError
            When `slot` is neither 0 nor 1.
        """
        if sample not in self._slots:
            raise UnknownSample(sample, self.samples, "the panel")
        if slot not in (0, 1):
            raise ConfigError(f"A sample has the slots 0 and 1, not {slot}.")
        return self._slots[sample] + slot

    def sequence(self, sample: str, slot: int, region: Region, mode: str = "anchored") -> NDArray[np.uint8]:
        """Return the bases of one haplotype over a region.

        Parameters
        ----------
        slot
            0 (left of the bar in ``0|1``) or 1. Where a sample's calls are haploid it has only slot 0.
        region
            0-based half-open, of the reference.
        mode
            ``"anchored"``: as many bases as the region is long, from the first whose coordinate is at or after its
            start. ``"span"``: the bases whose coordinates lie in the region, so that the length varies.

        Returns
        -------
        uint8 ASCII A C G T N, shape (length,).

        Raises
        ------
        UnknownSample, UnknownContig
            With the nearest known names.
        ConfigError
            When the region leaves the contig, the haplotype ends first, or the sample has no such slot there.
        """
        name = self.reference.resolve(region.contig)
        bases = self.reference.bases(name)
        if mode not in ("anchored", "span"):
            raise ConfigError(f"There is no mode {mode!r}; choose anchored or span.")
        if not 0 <= region.start <= region.end <= len(bases):
            raise ConfigError(f"{region} lies outside the contig, which is {len(bases):,} bases long.")
        number = self.slot(sample, slot)
        if not self.exists(name, region.start, region.end)[number]:
            ((stretch, _),) = [
                (each, slots)
                for stretches, slots in self._absent[name]
                for each in stretches.tolist()
                if number in slots and each[0] < region.end and each[1] > region.start
            ][:1]
            where = Region(name, max(region.start, stretch[0]), min(region.end, stretch[1]))
            raise ConfigError(f"{sample} has no slot {slot} on {where}.")
        store = self.store(name)
        wanted = region.end - region.start
        if mode == "span":
            wanted = _remaining(store, self.n_slots, number, region.start, region.end)
        out = np.empty(wanted, np.uint8)
        got = copy_window(bases, store, self.n_slots, number, region.start, out, np.empty(ROOM, np.int64))
        if got < wanted:
            raise ConfigError(f"{sample} slot {slot} has {got:,} bases from {region} on, and {wanted:,} are wanted.")
        return out

    def windows(
        self, contig: str, slots: NDArray[np.integer], starts: NDArray[np.integer], out: NDArray[np.uint8]
    ) -> None:
        """Fill each row of `out` (n, length) with the anchored window of a slot from a 0-based start.

        Raises
        ------
        ConfigError
            When a haplotype ends before its row is full; names the first.
        """
        store, bases = self.store(contig), self.reference.bases(contig)
        row = fill_windows(bases, store, self.n_slots, np.asarray(slots, np.int64), np.asarray(starts, np.int64), out)
        if row >= 0:
            sample, slot = self.samples[int(slots[row]) // 2], int(slots[row]) % 2
            raise ConfigError(
                f"{sample} slot {slot} has fewer than {out.shape[1]:,} bases from {contig}:{starts[row] + 1:,} on."
            )

    def damage(self) -> list[str]:
        """Compare every file with its checksum; return what is missing or has changed."""
        expected = {**self.manifest.get("sha256", {}), **arrays_of(self.manifest)}
        for name in [name for name in expected if name.startswith("part-") and name.endswith(MANIFEST)]:
            part = read_manifest((self.path / name).parent) or {"contigs": []}
            sums = [entry["sha256"] for entry in part["contigs"]]
            named = {file: value for each in sums for file, value in each.items() if is_inside(file)}
            expected |= {f"{Path(name).parent}/{file}": value for file, value in named.items()}
        expected |= {f"reference/{name}": value for name, value in self.reference.checksums.items()}
        problems = [difference(self.path / name, value) for name, value in expected.items()]
        unchecked = {str(path.relative_to(self.path)) for path in self.path.rglob("*.npy")} - set(expected)
        problems += [f"{self.path / name}: has no checksum; it is of an older build" for name in sorted(unchecked)]
        return [problem for problem in problems if problem]

    @cached_property
    def _absent(self) -> dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """Which slots lack which stretches, by contig: (n, 2), 0-based half-open, and the slots."""
        return {
            entry["name"]: [(np.array(stretches), np.array(slots)) for stretches, slots in entry["absent"]]
            for key in ABSENT
            for entry in self.manifest[key]
        }

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {sample: 2 * i for i, sample in enumerate(self.samples)}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "reference": self.reference}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["manifest"], state["reference"])  # type: ignore[misc]


@njit(cache=True, nogil=True)
def fill_windows(bases, store, n_slots, slots, starts, out):
    """Fill each row of `out` with a window; return the first row that could not be filled, or -1."""
    edits = np.empty(ROOM, np.int64)
    for i in range(slots.size):
        if copy_window(bases, store, n_slots, slots[i], starts[i], out[i], edits) < out.shape[1]:
            return i
    return -1


def _remaining(store: Store, n_slots: int, slot: int, start: int, end: int) -> int:
    """Return how many haplotype bases have coordinates in [start, end)."""
    haplotype = measured(store, carried(store, n_slots, slot, start, end, np.empty(ROOM, np.int64)))
    return int(first_at(haplotype, end) - first_at(haplotype, start))
