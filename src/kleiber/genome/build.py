"""From VCF and BCF files to the stores of their contigs: one file is one unit of work.

Files are read side by side when there are several and more than one worker; what is written does not depend on it. A
file whose part is complete, and still the same, is not read again; of a file that holds many contigs those that were
finished are kept, and it is read from the first other one on. Rejected: a contig as the unit of work, which needs an
index, or reads a file once for each of its contigs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.errors import ConfigError, DataError, UnknownContig
from kleiber.genome.assembly import canonical_name
from kleiber.genome.edits import (
    BEYOND_END,
    COUNTS,
    MISMATCH,
    NOT_PHASED,
    POLICIES,
    UNSORTED,
    Rules,
    accept,
    new_edits,
    new_state,
)
from kleiber.genome.ploidy import slots_of_samples
from kleiber.genome.reference import Reference, save_array
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

__all__ = ["PanelRules", "build_parts"]

PROGRESS = "progress.json"  # of a part that is not complete: its contigs that are


@dataclass(frozen=True)
class PanelRules:
    """What a panel keeps of its records.

    Attributes
    ----------
    policy
        Which of two conflicting edits of a haplotype wins, ``"bcftools"`` or ``"edits"`` (see `kleiber.genome.edits`).
    min_af, min_ac
        ALT alleles rarer than this among the panel's own haplotypes are dropped.
    only_pass
        Drop records whose FILTER is neither PASS nor missing.
    unphased
        Heterozygotes written with ``/``: ``"error"``, ``"skip"`` or ``"as-is"``.
    ref_mismatch
        Records whose REF is not the reference's: ``"error"`` or ``"skip"``.
    sv
        ``"skip"`` drops symbolic alleles; ``"del"`` takes ``<DEL>`` as the deletion that it is.
    """

    policy: str = "bcftools"
    min_af: float = 0.0
    min_ac: int = 0
    only_pass: bool = False
    unphased: str = "error"
    ref_mismatch: str = "error"
    sv: str = "skip"

    def __post_init__(self) -> None:
        choices = {
            "policy": POLICIES,
            "unphased": ("error", "skip", "as-is"),
            "ref_mismatch": ("error", "skip"),
            "sv": ("skip", "del"),
        }
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key} = {getattr(self, key)!r} cannot be; choose one of {', '.join(allowed)}.")
        if not 0 <= self.min_af < 1 or self.min_ac < 0:
            raise ConfigError(f"min_af = {self.min_af} and min_ac = {self.min_ac} cannot be: a share and a count.")

    def compiled(self) -> Rules:
        """Return the rules as kernels take them."""
        return Rules(
            POLICIES.index(self.policy),
            float(self.min_ac),
            float(self.min_af),
            self.only_pass,
            self.ref_mismatch == "skip",
            self.unphased == "error",
            self.sv == "del",
        )


@dataclass(frozen=True)
class _Task:
    """One file to read."""

    file: Path
    folder: Path
    earlier: Path  # its part of the store that will be replaced, if there is one
    reference: Path
    rules: PanelRules
    samples: tuple[str, ...] | None
    sexes: Mapping[str, str] | None


def build_parts(
    files: Sequence[Path],
    folder: Path,
    store: Path,
    reference: Reference,
    rules: PanelRules,
    samples: tuple[str, ...] | None,
    sexes: Mapping[str, str] | None,
    workers: int,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Build ``folder/part-I`` of every file, replacing those of `store`; return their manifests, in order."""
    parts = [f"part-{i}" for i in range(len(files))]
    tasks = [
        _Task(file, folder / part, store / part, reference.path, rules, samples, sexes)
        for file, part in zip(files, parts, strict=True)
    ]
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


def _tell(task: _Task, manifest: dict[str, Any], progress: Callable[[str], None]) -> dict[str, Any]:
    records = sum(contig["counts"]["records"] for contig in manifest["contigs"])
    progress(f"{task.file.name}: {records:,} records")
    return manifest


def _build_part(task: _Task) -> dict[str, Any]:
    """Read one file, unless there is a complete part already, here or in the earlier store, from the same input."""
    reference = Reference.open(task.reference)
    decides = {
        "rules": asdict(task.rules),
        "reference": reference.fingerprint,
        "samples": list(task.samples) if task.samples else None,
        "sexes": dict(task.sexes) if task.sexes else None,
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
    refuse_foreign(source, reference)
    with staged_folder(task.folder, keep_partial=True) as folder:
        manifest: dict[str, Any] = {"decides": decides, "source": fingerprint(task.file)}
        contigs = _Contigs(source, reference, folder, task, _Progress(folder, digest(manifest))).read()
        if not contigs:
            raise DataError(f"{source.path}: there is no record at all.")
        manifest["contigs"] = contigs
        write_manifest(folder, manifest)
    return manifest


class _Progress:
    """Which contigs of a file are finished, and where in the file what is behind them begins."""

    def __init__(self, folder: Path, made_from: str):
        """Find what an earlier build, of the same file by the same rules, left whole; remove the rest."""
        self.path, self.made_from = folder / PROGRESS, made_from
        self.entries: list[dict[str, Any]] = []
        self.begins = 0, 1
        try:
            found = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            found = {}
        if found.get("made_from") == made_from and _are_whole(folder, found["entries"]):
            self.entries = found["entries"]
            self.begins = found["begins"][0], found["begins"][1]
        kept = {PROGRESS, *(name for entry in self.entries for name in entry["sha256"])}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def save(self, begins: list[int]) -> None:
        """Record the entries; `begins` is the place of the first record that belongs to none of them."""
        state = {"made_from": self.made_from, "entries": self.entries, "begins": begins}
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

    def __init__(self, source: VcfFile, reference: Reference, folder: Path, task: _Task, progress: _Progress):
        self.source, self.reference, self.folder, self.task = source, reference, folder, task
        self.progress, self.entries = progress, progress.entries
        self.rules = task.rules.compiled()
        chosen = task.samples or source.samples
        numbers = {sample: i for i, sample in enumerate(source.samples)}
        # slots of samples that are left out lead nowhere
        self.slots = np.full(2 * len(source.samples), -1, np.int32)
        for i, sample in enumerate(chosen):
            self.slots[2 * numbers[sample] : 2 * numbers[sample] + 2] = 2 * i, 2 * i + 1
        self.samples = chosen
        self.kept = np.array([numbers[sample] for sample in chosen])
        self.is_part = task.samples is not None

    def read(self) -> list[dict[str, Any]]:
        """Write every contig of the file; return their entries for the manifest."""
        at: str | None = None
        try:
            keep_unphased = self.task.rules.unphased == "as-is"
            for theirs, text, batch in self.source.batches(keep_unphased, self.progress.begins):
                if theirs != at:
                    if at is not None:
                        self._finish()
                        self.progress.save(batch.begins.tolist())
                    self._begin(theirs)
                    at = theirs
                self._add(text, batch)
            if at is not None:
                self._finish()
            self.progress.end()
        finally:
            if at is not None:
                self.writer.release()
        return self.entries

    def _begin(self, theirs: str) -> None:
        try:
            self.name = self.reference.resolve(theirs)
        except UnknownContig as error:
            raise DataError(f"{self.source.path}: {error}") from None
        if any(entry["name"] == self.name for entry in self.entries):
            raise DataError(f"{self.source.path}: records of {theirs} do not stand together; sort the file.")
        self.theirs = theirs
        self.bases = self.reference.bases(self.name)
        self.counts = np.zeros(len(COUNTS), np.int64)
        self.state = new_state(2 * len(self.samples))
        self.haploid = np.zeros(len(self.source.samples), bool)
        self.writer = StoreWriter(self.folder, len(self.entries), len(self.bases), 2 * len(self.samples))

    def _add(self, text: Any, batch: Any) -> None:
        self.haploid |= batch.haploid
        if self.is_part:
            batch = _restrict(batch, self.slots)
        out = new_edits(batch, len(text) + int(batch.n[1]))
        error, record = accept(text, batch, self.bases, self.rules, self.state, self.counts, out)
        if error:
            raise self._wrong(error, record, text, batch)
        try:
            self.writer.add(out)
        except OverflowError as problem:
            raise DataError(f"{self.source.path}, contig {self.theirs}: {problem}.") from None

    def _finish(self) -> None:
        self.writer.close()
        number = len(self.entries)
        single, warning = slots_of_samples(self.name, self.samples, self.haploid[self.kept], self.task.sexes)
        save_array(self.folder / f"{number}.slots.npy", single)
        files = [f"{number}.{name}" for name in ARRAYS] + [f"{number}.slots.npy"]
        self.entries.append(
            {
                "name": self.name,
                "length": len(self.bases),
                "n_edits": self.writer.n_edits,
                "counts": {name: int(n) for name, n in zip(COUNTS, self.counts, strict=True)},
                "warning": warning,
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
        length, at = int(batch.ref_len[r]), int(batch.ref_at[r])
        if error == BEYOND_END:
            end = position - 1 + length
            return DataError(f"{where}: it ends at {end:,}, and the reference is {len(self.bases):,} bases long.")
        if error == NOT_PHASED:
            sample = self.source.samples[int(batch.unphased[r])]
            return DataError(
                f"{where}: the genotype of {sample} is not phased (0/1).\n"
                '  Phase the panel first, or drop such calls (unphased = "skip").'
            )
        assert error == MISMATCH
        theirs = text[at : at + length].tobytes().decode("utf-8", "replace").upper()
        ours = np.asarray(self.bases[position - 1 : position - 1 + length]).tobytes().decode()
        return DataError(
            f"REF allele disagrees with the reference at {self.name}:{position:,} ({self.source.path}).\n"
            f'  VCF has "{theirs[:40]}", reference has "{ours[:40]}".\n'
            "  Pass the FASTA named in the VCF header (##reference=...), or skip such records "
            '(ref_mismatch = "skip").'
        )


def _restrict(batch: Any, slots: Any) -> Any:
    """Return a batch with the carriers of chosen samples only, renumbered in their order; all count as called."""
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
    present = np.full_like(batch.n_present, (slots >= 0).sum())
    return batch._replace(n=n, carriers_at=carriers_at, carriers=carriers.astype(np.int32), n_present=present)


def refuse_foreign(source: VcfFile, reference: Reference) -> None:
    """Refuse a file none of whose contigs, or longer contigs, are the reference's."""
    ours = {canonical_name(contig.name): contig for contig in reference.contigs}
    named = {canonical_name(name): (name, length) for name, length in source.lengths.items()}
    if named and not set(named) & set(ours):
        raise DataError(
            f"{source.path} and the reference {reference.manifest['source']} have no contig in common.\n"
            f"  The panel names {_few([name for name, _ in named.values()])}; "
            f"the reference {_few([contig.name for contig in ours.values()])}.\n"
            "  Pass the FASTA that the panel was called on."
        )
    for key, (name, length) in named.items():
        if length is not None and key in ours and ours[key].length > length:
            raise DataError(
                f"{source.path} says that {name} is {length:,} bases long; the reference has {ours[key].length:,}.\n"
                "  The panel was called on another assembly; pass the FASTA named in its header (##reference=...)."
            )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
