"""From VCF and BCF files to the stores of their contigs: one file is one unit of work.

Files are read side by side when there are several and more than one worker; what is written does not depend on it. A
file whose part is complete, and still the same, is not read again; of a file that holds many contigs those that were
finished are kept, and it is read from the first other one on. Rejected: a contig as the unit of work, which needs an
index, or reads a file once for each of its contigs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.errors import DataError, UnknownContig
from kleiber.genome.assembly import canonical_name
from kleiber.genome.calls import reading
from kleiber.genome.edits import (
    BEYOND_END,
    COUNTS,
    MISMATCH,
    NOT_PHASED,
    UNSORTED,
    Letters,
    Rules,
    State,
    accept,
    new_edits,
    new_state,
)
from kleiber.genome.ploidy import Runs, mark_heterozygotes, pseudo_autosomal
from kleiber.genome.reference import Reference, save_array
from kleiber.genome.rules import POLICIES, PanelRules
from kleiber.genome.store import ARRAYS, StoreWriter
from kleiber.genome.vcf import VcfFile
from kleiber.signals import end_with_parent
from kleiber.storage import (
    digest,
    file_digest,
    fingerprint,
    is_unchanged,
    link_or_copy,
    read_manifest,
    staged_folder,
    write_atomic,
    write_manifest,
)

__all__ = ["SCHEMA", "PanelRules", "Task", "build_parts", "few", "rebuild", "refuse_foreign"]

SCHEMA = 2  # of a store, and of its parts: those of another are not read
PROGRESS = "progress.json"  # of a part that is not complete: its contigs that are


@dataclass(frozen=True)
class Task:
    """One file to read into one part of a store.

    Attributes
    ----------
    folder, earlier
        Where its part goes, and that of the store that will be replaced, if there is one.
    samples
        Those of its samples that are kept, in the order of the panel's.
    """

    file: Path
    folder: Path
    earlier: Path
    reference: Path
    rules: PanelRules
    samples: tuple[str, ...]


def build_parts(tasks: Sequence[Task], workers: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Build the part of every file; return their manifests, in order."""
    if workers <= 1 or len(tasks) == 1:
        return [_tell(task, _build_part(task), progress) for task in tasks]
    context = get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=end_with_parent) as pool:
        # the longest first: no straggler at the end
        longest = sorted(tasks, key=lambda task: -task.file.stat().st_size)
        futures = {pool.submit(_build_part, task): task for task in longest}
        try:
            for future in as_completed(futures):
                _tell(futures[future], future.result(), progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [manifest for task in tasks if (manifest := read_manifest(task.folder)) is not None]


def _tell(task: Task, manifest: dict[str, Any], progress: Callable[[str], None]) -> dict[str, Any]:
    records = sum(contig["counts"]["records"] for contig in manifest["contigs"])
    text = f"{task.file.name}: {records:,} records"
    if foreign := manifest["foreign"]:
        n = sum(foreign.values())
        text += f", and {n:,} of contigs that the reference lacks, which are not read: {few(list(foreign))}"
    progress(text)
    return manifest


def _build_part(task: Task) -> dict[str, Any]:
    """Read one file, unless there is a complete part already, here or in the earlier store, from the same input."""
    reference = Reference.open(task.reference)
    decides = {
        "schema": SCHEMA,
        "rules": asdict(task.rules),
        "reference": reference.fingerprint,
        "samples": list(task.samples),
    }

    def same(part: Path) -> dict[str, Any] | None:
        made = read_manifest(part)
        is_same = made is not None and made["decides"] == decides and is_unchanged(task.file, made["source"])
        return made if is_same else None

    if done := same(task.folder):
        return done
    if (earlier := same(task.earlier)) and _are_whole(task.earlier, earlier["contigs"]):
        with staged_folder(task.folder) as folder:
            shutil.copytree(task.earlier, folder, copy_function=link_or_copy, dirs_exist_ok=True)
        return earlier
    source = VcfFile(task.file)
    refuse_longer(source, reference)
    with staged_folder(task.folder, keep_partial=True) as folder:
        manifest: dict[str, Any] = {"decides": decides, "source": fingerprint(task.file)}
        contigs = _Contigs(source, reference, folder, task, _Progress(folder, digest(manifest)))
        manifest["contigs"] = contigs.read()
        manifest["foreign"] = contigs.progress.foreign
        write_manifest(folder, manifest)
    return manifest


def rebuild(task: Task, name: str, entry: dict[str, Any], folder: Path, state: State) -> dict[str, Any]:
    """Read a contig of a file again, behind edits of another that reach into it; return its entry."""
    reference = Reference.open(task.reference)
    contigs = _Contigs(VcfFile(task.file), reference, folder, task, _Progress(folder, ""))
    contigs.before = {name: state}
    return contigs.read(tuple(entry["begins"]), name)[0]


class _Progress:
    """Which contigs of a file are finished, and where in the file what is behind them begins."""

    def __init__(self, folder: Path, made_from: str):
        """Find what an earlier build, of the same file by the same rules, left whole; remove the rest."""
        self.path, self.made_from = folder / PROGRESS, made_from
        self.entries: list[dict[str, Any]] = []
        self.foreign: dict[str, int] = {}  # records of contigs that the reference lacks
        self.begins = 0, 1
        try:
            found = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            found = {}
        if found.get("made_from") == made_from and _are_whole(folder, found["entries"]):
            self.entries, self.foreign = found["entries"], found["foreign"]
            self.begins = found["begins"][0], found["begins"][1]
        kept = {PROGRESS, *(name for entry in self.entries for name in entry["sha256"])}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def save(self, begins: list[int]) -> None:
        """Record the entries; `begins` is the place of the first record that belongs to none of them."""
        state = {"made_from": self.made_from, "entries": self.entries, "foreign": self.foreign, "begins": begins}
        write_atomic(self.path, json.dumps(state))

    def end(self) -> None:
        """Forget: the part is complete."""
        self.path.unlink(missing_ok=True)


def _are_whole(folder: Path, entries: list[dict[str, Any]]) -> bool:
    """Say whether all files of some contigs are there, as they were written."""
    return all(
        (folder / name).is_file() and file_digest(folder / name) == expected
        for entry in entries
        for name, expected in entry["sha256"].items()
    )


class _Contigs:
    """The contigs of one file on their way to stores."""

    def __init__(self, source: VcfFile, reference: Reference, folder: Path, task: Task, progress: _Progress):
        self.source, self.reference, self.folder, self.task = source, reference, folder, task
        self.progress, self.entries = progress, progress.entries
        self.rules = _compiled(task.rules)
        self.samples, self.before = task.samples, dict[str, State]()
        numbers = {sample: i for i, sample in enumerate(source.samples)}
        self.kept = np.array([numbers[sample] for sample in self.samples], np.int64)
        # slots of samples that are left out lead nowhere
        self.slots = np.full(2 * len(source.samples), -1, np.int32)
        for i, number in enumerate(self.kept):
            self.slots[2 * number : 2 * number + 2] = 2 * i, 2 * i + 1
        self.is_part = self.samples != source.samples
        is_kept = self.slots[::2] >= 0
        self.how = reading(source.samples, task.rules.unphased, task.rules.seed, is_kept)

    def read(self, begins: tuple[int, int] | None = None, only: str = "") -> list[dict[str, Any]]:
        """Write every contig of the file, or `only` one; return their entries for the manifest."""
        at: str | None = None
        self.writer: StoreWriter | None = None
        try:
            for theirs, text, batch in self.source.batches(self.how, begins or self.progress.begins):
                if theirs != at:
                    if at is not None:
                        self._finish()
                        if only:
                            return self.entries
                        self.progress.save(batch.begins.tolist())
                    self.begins = batch.begins.tolist()
                    self._begin(theirs)
                    at = theirs
                self._add(text, batch)
            if at is not None:
                self._finish()
            self.progress.end()
        finally:
            if self.writer is not None:
                self.writer.release()
        return self.entries

    def _begin(self, theirs: str) -> None:
        self.theirs = theirs
        try:
            self.name = self.reference.resolve(theirs)
        except UnknownContig:
            self.writer = None
            return
        if any(entry["name"] == self.name for entry in self.entries):
            raise DataError(f"{self.source.path}: records of {theirs} do not stand together; sort the file.")
        self.letters = Letters(self.reference.bases(self.name), *self.reference.codes(self.name))
        length = len(self.letters.bases)
        self.counts = np.zeros(len(COUNTS), np.int64)
        self.state = self.before.get(self.name) or new_state(2 * len(self.samples))
        self.runs, self.first = Runs(self.kept), 0
        pars = pseudo_autosomal(self.name, length, self.source.lengths.get(theirs))
        self.pars = np.array(pars, np.int64).reshape(-1, 2)
        self.heterozygous = np.zeros(len(self.source.samples), bool)
        self.writer = StoreWriter(self.folder, len(self.entries), length, 2 * len(self.samples))

    def _add(self, text: Any, batch: Any) -> None:
        if self.writer is None:
            n = int(batch.n[0])
            self.progress.foreign[self.theirs] = self.progress.foreign.get(self.theirs, 0) + n
            return
        self.first = self.first or int(batch.position[0])
        self.runs.follow(batch)
        if canonical_name(self.name) in ("X", "Y", "M"):
            scratch = np.zeros(2 * len(self.heterozygous), np.uint8)
            mark_heterozygotes(batch, self.pars[:, 0], self.pars[:, 1], scratch, self.heterozygous)
        if self.is_part:
            batch = _restrict(batch, self.slots)
        out = new_edits(batch, len(text) + int(batch.n[1]))
        error, record = accept(text, batch, self.letters, self.rules, self.state, self.counts, out)
        if error:
            raise self._wrong(error, record, text, batch)
        try:
            self.writer.add(out)
        except OverflowError as problem:
            raise DataError(f"{self.source.path}, contig {self.theirs}: {problem}.") from None

    def _finish(self) -> None:
        if self.writer is None:
            return
        self.writer.close()
        number = len(self.entries)
        save_array(self.folder / f"{number}.slots.npy", self.runs.rows())
        save_array(self.folder / f"{number}.state.npy", np.concatenate([self.state.used, self.state.inserted]))
        files = [f"{number}.{name}" for name in ARRAYS] + [f"{number}.slots.npy", f"{number}.state.npy"]
        self.entries.append(
            {
                "name": self.name,
                "length": len(self.letters.bases),
                "n_edits": self.writer.n_edits,
                "counts": {name: int(n) for name, n in zip(COUNTS, self.counts, strict=True)},
                "first": self.first,
                "last": int(self.state.position[0]),
                "begins": self.begins,
                "pars": self.pars.tolist(),
                "heterozygous": np.flatnonzero(self.heterozygous[self.kept]).tolist(),
                "sha256": {name: file_digest(self.folder / name) for name in files},
            }
        )

    def _wrong(self, error: int, r: int, text: Any, batch: Any) -> DataError:
        """Return what to say of a record that cannot be used."""
        position = int(batch.position[r])
        where = f"{self.source.path}, record at {self.theirs}:{position:,}"
        if error == UNSORTED:
            last = int(self.state.position[0])
            return DataError(f"{where}: it stands after position {last:,}; sort the file.")
        length, at, bases = int(batch.ref_len[r]), int(batch.ref_at[r]), self.letters.bases
        if error == BEYOND_END:
            end = position - 1 + length
            what = f"it ends at {end:,}" if position > 0 else "it stands before the first base"
            return DataError(f"{where}: {what}, and the reference is {len(bases):,} bases long.")
        if error == NOT_PHASED:
            sample = self.source.samples[int(batch.unphased[r])]
            return DataError(
                f"{where}: the genotype of {sample} is not phased (0/1).\n"
                '  Phase the panel first, or say what becomes of such calls: unphased = "skip", "as-is" or '
                '"random" (--unphased, or in [genome] of a study).'
            )
        assert error == MISMATCH
        theirs = text[at : at + length].tobytes().decode("utf-8", "replace").upper()
        ours = np.asarray(bases[position - 1 : position - 1 + length]).tobytes().decode()
        return DataError(
            f"REF allele disagrees with the reference at {self.name}:{position:,} ({self.source.path}).\n"
            f'  VCF has "{theirs[:40]}", reference has "{ours[:40]}".\n'
            "  Pass the FASTA named in the VCF header (##reference=...), or skip such records: "
            '--ref-mismatch skip, or ref_mismatch = "skip" in [genome] of a study.'
        )


def _compiled(rules: PanelRules) -> Rules:
    """Return the rules as kernels take them."""
    return Rules(
        POLICIES.index(rules.policy),
        float(rules.min_ac),
        float(rules.min_af),
        rules.only_pass,
        rules.ref_mismatch == "skip",
        rules.unphased == "error",
        rules.sv == "del",
    )


def _restrict(batch: Any, slots: Any) -> Any:
    """Return a batch with the carriers of chosen samples only, renumbered in their order."""
    n_alleles, n_carriers = int(batch.n[1]), int(batch.n[2])
    moved = slots[batch.carriers[:n_carriers]]
    keep = moved >= 0
    before = np.concatenate([[0], np.cumsum(keep)])
    carriers_at = before[batch.carriers_at[: n_alleles + 1]]
    carriers = moved[keep]
    # kept in increasing order of the new numbers, within each allele
    allele = np.repeat(np.arange(n_alleles), np.diff(carriers_at))
    carriers = carriers[np.lexsort((carriers, allele))]
    n = batch.n.copy()
    n[2] = len(carriers)
    return batch._replace(n=n, carriers_at=carriers_at, carriers=carriers.astype(np.int32))


def refuse_longer(source: VcfFile, reference: Reference) -> None:
    """Refuse a file whose header says that a contig is shorter than the reference's."""
    ours = {canonical_name(contig.name): contig for contig in reference.contigs}
    for name, length in source.lengths.items():
        contig = ours.get(canonical_name(name))
        if length is not None and contig is not None and contig.length > length:
            raise DataError(
                f"{source.path} says that {name} is {length:,} bases long; the reference has {contig.length:,}.\n"
                "  The panel was called on another assembly; pass the FASTA named in its header (##reference=...)."
            )


def refuse_foreign(sources: Sequence[VcfFile], reference: Reference) -> None:
    """Refuse files whose headers name contigs, and none of the reference's.

    Raises
    ------
    DataError
        When there is none; names contigs of both.
    """
    ours = {canonical_name(contig.name): contig.name for contig in reference.contigs}
    theirs = {canonical_name(name): name for source in sources for name in source.lengths}
    if all(source.lengths for source in sources) and not set(theirs) & set(ours):
        raise DataError(
            f"{sources[0].path} and the reference {reference.manifest['source']} have no contig in common.\n"
            f"  The panel names {few(list(theirs.values()))}; the reference {few(list(ours.values()))}.\n"
            "  Pass the FASTA that the panel was called on."
        )


def few(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
