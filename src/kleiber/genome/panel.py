"""The haplotype store: every phased genome of a panel as edits of the reference, memory-mapped.

Per contig: the table of edits (trimmed, sorted, with the record each came from), and for each slot the numbers of the
edits it carries with the running change in length. A window is a binary search and a copy. Rejected: writing the
haplotypes out, which is 6 GB for each genome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError, StateError, UnknownContig, UnknownSample
from kleiber.genome.assembly import Contig, Region, canonical_name
from kleiber.genome.edits import Acceptance, trim
from kleiber.genome.haplotypes import Haplotypes, copy_window
from kleiber.genome.reference import Reference
from kleiber.genome.vcf import MISSING, Record, VcfFile
from kleiber.storage import digest, file_digest, read_manifest, staged_folder, write_manifest

__all__ = ["Panel"]


class Panel:
    """The haplotypes of a phased panel; make it with `build` and read it with `open`."""

    def __init__(self, path: Path, manifest: dict[str, Any], reference: Reference):
        self.path, self.manifest, self.reference = Path(path), manifest, reference
        self.samples = tuple(manifest["samples"])
        self.contigs = tuple(Contig(c["name"], reference.length(c["name"])) for c in manifest["contigs"])
        self._opened: dict[str, Haplotypes] = {}

    @classmethod
    def build(
        cls,
        reference: Reference,
        files: Sequence[str | Path],
        out: str | Path,
        *,
        policy: str = "bcftools",
        min_af: float = 0.0,
        min_ac: int = 0,
        unphased: str = "error",
        ref_mismatch: str = "error",
    ) -> Panel:
        """Read phased VCF or BCF files into a store.

        Parameters
        ----------
        policy
            Which of two conflicting edits wins, ``"bcftools"`` or ``"edits"`` (see `kleiber.genome.edits`).
        min_af, min_ac
            ALT alleles rarer than this among the panel's own haplotypes are dropped, and counted.
        unphased
            Heterozygotes written with ``/``: ``"error"``, ``"skip"`` or ``"as-is"``.
        ref_mismatch
            Records whose REF is not the reference's: ``"error"`` or ``"skip"``.

        Raises
        ------
        DataError
            When a file cannot be used; names the file, the position and both values.
        """
        sources = [VcfFile(Path(file)) for file in files]
        if not sources:
            raise ConfigError("A panel needs at least one VCF or BCF file.")
        for other in sources[1:]:
            if other.samples != sources[0].samples:
                raise DataError(f"{other.path} and {sources[0].path} do not hold the same samples in the same order.")
        rules = {
            "policy": policy,
            "min_af": min_af,
            "min_ac": min_ac,
            "unphased": unphased,
            "ref_mismatch": ref_mismatch,
        }
        with staged_folder(out) as folder:
            contigs: dict[str, dict[str, Any]] = {}
            for source in sources:
                _refuse_foreign(source, reference)
                for contig, entry in _read_file(source, reference, folder, len(contigs), rules):
                    if contig in contigs:
                        raise DataError(
                            f"{source.path}: records of {contig} stand in two files, or not together in one."
                        )
                    contigs[contig] = entry
            if not contigs:
                raise DataError(f"{', '.join(str(s.path) for s in sources)}: there is no record at all.")
            manifest = {
                "schema": 1,
                "samples": list(sources[0].samples),
                "sources": [source.path.name for source in sources],
                "reference": reference.fingerprint,
                "rules": rules,
                "contigs": list(contigs.values()),
            }
            write_manifest(folder, manifest)
        return cls.open(out, reference)

    @classmethod
    def open(cls, path: str | Path, reference: Reference) -> Panel:
        """Open a store with the reference that it was built on.

        Raises
        ------
        StateError
            When there is no complete store, or it belongs to another reference.
        """
        manifest = read_manifest(path)
        if manifest is None:
            raise StateError(f"{path} holds no complete panel.\n  Build it again.")
        if manifest["reference"] != reference.fingerprint:
            raise StateError(f"The panel {path} was built on another reference than {reference.path}.")
        return cls(Path(path), manifest, reference)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of samples, rules and edits."""
        return digest({key: self.manifest[key] for key in ("samples", "reference", "rules", "contigs")})

    def haplotypes(self, contig: str) -> Haplotypes:
        """Return the edits of one contig, memory-mapped.

        Raises
        ------
        UnknownContig
            When the panel has no record on it.
        """
        name = self.reference.resolve(contig)
        if name not in self._opened:
            numbers = {entry["name"]: i for i, entry in enumerate(self.manifest["contigs"])}
            if name not in numbers:
                raise UnknownContig(contig, numbers, "the panel")
            self._opened[name] = Haplotypes.load(self.path, numbers[name])
        return self._opened[name]

    def slot(self, sample: str, slot: int) -> int:
        """Return the number of a haplotype: two a sample, in the order of the samples."""
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
            0 (left of the bar in ``0|1``) or 1.
        region
            0-based half-open, of the reference.
        mode
            ``"anchored"``: as many bases as the region is long, from the first whose coordinate is at or after its
            start. ``"span"``: the bases whose coordinates lie in the region, so that the length varies.

        Returns
        -------
        uint8 ASCII A C G T N.

        Raises
        ------
        UnknownSample, UnknownContig
            With the nearest known names.
        ConfigError
            When the region leaves the contig or the haplotype ends first.
        """
        bases = self.reference.bases(region.contig)
        if not 0 <= region.start <= region.end <= len(bases):
            raise ConfigError(f"{region} lies outside the contig, which is {len(bases):,} bases long.")
        haplotypes = self.haplotypes(region.contig)
        number = self.slot(sample, slot)
        rest = haplotypes.remaining(number, region.start, len(bases))
        wanted = (
            region.end - region.start
            if mode == "anchored"
            else rest - haplotypes.remaining(number, region.end, len(bases))
        )
        if wanted > rest:
            raise ConfigError(f"{sample} slot {slot} has {rest:,} bases from {region} on, and {wanted:,} are wanted.")
        out = np.empty(wanted, np.uint8)
        copy_window(bases, *haplotypes.arrays, number, region.start, out)
        return out

    @cached_property
    def _slots(self) -> dict[str, int]:
        return {sample: 2 * i for i, sample in enumerate(self.samples)}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest, "reference": self.reference}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["manifest"], state["reference"])  # type: ignore[misc]


def _refuse_foreign(source: VcfFile, reference: Reference) -> None:
    """Refuse a file none of whose contigs, or longer contigs, are the reference's."""
    ours = {canonical_name(contig.name): contig for contig in reference.contigs}
    named = {canonical_name(name): (name, length) for name, length in source.lengths.items()}
    if named and not set(named) & set(ours):
        raise DataError(
            f"{source.path} and the reference {reference.manifest['source']} have no contig in common.\n"
            f"  The panel names {_few(name for name, _ in named.values())}; "
            f"the reference {_few(c.name for c in ours.values())}.\n"
            "  Pass the FASTA that the panel was called on."
        )
    for key, (name, length) in named.items():
        if length is not None and key in ours and ours[key].length > length:
            raise DataError(
                f"{source.path} says that {name} is {length:,} bases long; the reference has {ours[key].length:,}.\n"
                "  The panel was called on another assembly; pass the FASTA named in its header (##reference=...)."
            )


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _read_file(source: VcfFile, reference: Reference, folder: Path, first: int, rules: dict[str, Any]) -> Any:
    """Yield (contig, manifest entry) of each contig of a file, writing its haplotypes."""
    reader: _ContigReader | None = None
    number = first
    for record in source.records():
        if reader is None or record.contig != reader.theirs:
            if reader is not None:
                yield reader.name, reader.finish(folder, number)
                number += 1
            reader = _ContigReader(source, record.contig, reference, rules)
        reader.add(record)
    if reader is not None:
        yield reader.name, reader.finish(folder, number)


class _ContigReader:
    """The records of one contig on their way to haplotypes, with a count of everything that is dropped."""

    def __init__(self, source: VcfFile, theirs: str, reference: Reference, rules: dict[str, Any]):
        self.source, self.theirs, self.rules = source, theirs, rules
        try:
            self.name = reference.resolve(theirs)
        except UnknownContig as error:
            raise DataError(f"{source.path}: {error}") from None
        self.bases = reference.bases(self.name)
        self.n_slots = 2 * len(source.samples)
        self.acceptance = Acceptance(rules["policy"], self.n_slots)
        self.counts: Counter[str] = Counter()
        self.edits: list[tuple[int, int, str]] = []
        self.records: list[tuple[int, int]] = []
        self.edit_of: list[NDArray[np.int64]] = []
        self.slot_of: list[NDArray[np.int64]] = []
        self.position = 0

    def add(self, record: Record) -> None:
        """Take the edits of one record."""
        self.counts["records"] += 1
        if record.position < self.position:
            raise self._wrong(record, f"it stands after position {self.position:,}; sort the file")
        self.position = record.position
        if not self._matches_reference(record):
            return
        slots = record.alleles.ravel()
        if record.unphased.any():
            self._unphased(record, slots)
        self.counts["missing"] += int((slots == MISSING).sum())
        present = int((slots >= 0).sum())
        for allele, alt in enumerate(record.alts, 1):
            carriers = np.flatnonzero(slots == allele)
            reason = _unusable(alt)
            rare = len(carriers) < self.rules["min_ac"] or len(carriers) < self.rules["min_af"] * max(1, present)
            if reason or not len(carriers) or rare or alt == record.ref:
                self.counts[reason or ("rare" if len(carriers) and rare else "monomorphic")] += 1
                continue
            taken = carriers[self.acceptance.accept(carriers, record.position, record.ref, alt)]
            self.counts["calls"] += len(carriers)
            self.counts["conflicts"] += len(carriers) - len(taken)
            if len(taken):
                self.edit_of.append(np.full(len(taken), len(self.edits), np.int64))
                self.slot_of.append(taken)
                self.edits.append(trim(record.position, record.ref, alt))
                self.records.append((record.position, allele))

    def finish(self, folder: Path, number: int) -> dict[str, Any]:
        """Write the contig and return its manifest entry."""
        empty = [np.empty(0, np.int64)]
        haplotypes = Haplotypes.of(
            self.edits,
            self.records,
            np.concatenate(self.edit_of or empty),
            np.concatenate(self.slot_of or empty),
            self.n_slots,
        )
        haplotypes.save(folder, number)
        return {
            "name": self.name,
            "n_edits": len(self.edits),
            "counts": dict(sorted(self.counts.items())),
            "sha256": {
                name: file_digest(folder / f"{number}.{name}.npy")
                for name in ("start", "end", "alt", "carried", "offsets")
            },
        }

    def _matches_reference(self, record: Record) -> bool:
        start, end = record.position - 1, record.position - 1 + len(record.ref)
        if end > len(self.bases):
            raise self._wrong(record, f"it ends at {end:,}, and the reference is {len(self.bases):,} bases long")
        here = self.bases[start:end].tobytes().decode()
        if here == record.ref:
            return True
        if self.rules["ref_mismatch"] == "skip":
            self.counts["ref mismatch"] += 1
            return False
        raise DataError(
            f"REF allele disagrees with the reference at {self.name}:{record.position:,} ({self.source.path}).\n"
            f'  VCF has "{record.ref[:40]}", reference has "{here[:40]}".\n'
            '  Pass the FASTA named in the VCF header (##reference=...), or skip such records (ref_mismatch = "skip").'
        )

    def _unphased(self, record: Record, slots: NDArray[np.int16]) -> None:
        if self.rules["unphased"] == "error":
            sample = self.source.samples[int(np.flatnonzero(record.unphased)[0])]
            raise self._wrong(record, f"the genotype of {sample} is not phased (0/1); phase the panel first")
        if self.rules["unphased"] == "skip":
            slots[np.repeat(record.unphased, 2)] = 0
            self.counts["unphased"] += int(record.unphased.sum())

    def _wrong(self, record: Record, what: str) -> DataError:
        return DataError(f"{self.source.path}, record at {self.theirs}:{record.position:,}: {what}.")


def _unusable(alt: str) -> str:
    """Say why an ALT allele is no sequence, or nothing."""
    if alt == "*":
        return "star"
    if alt.startswith("<"):
        return "symbolic"
    if "[" in alt or "]" in alt:
        return "breakend"
    return "" if set(alt) <= set("ACGTN") else "other letters"
