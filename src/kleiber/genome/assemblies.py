"""Assembled genomes as haplotypes: the FASTA files of a pangenome, read where they are and never aligned.

Each contig is a stretch of one haplotype of one sample and belongs to a chromosome: by its name (PanSN,
``HG002#1#chr8``), or by a table. All of them together are one `Reference` of many contigs, so that sampling reads them
as it reads any other. Rejected: lifting them over to the coordinates of a reference, which loses what has no place
there and is what a pangenome is for.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError, StateError
from kleiber.genome.assembly import CHROMOSOME, canonical_name, role_of
from kleiber.genome.reference import Reference, contigs_of, open_text
from kleiber.storage import digest, read_manifest, staged_folder, write_manifest

__all__ = ["Assemblies", "Placed", "assembly_files", "chromosome_table", "chromosomes_of"]

ENDINGS = (".fa", ".fasta", ".fna", ".fas")
LEFT_OUT = {".", "-", "", "na", "none"}  # in a table of contigs: not to be read
_HAPLOTYPES = {"1": 0, "pat": 0, "paternal": 0, "2": 1, "mat": 1, "maternal": 1}
_FILE = re.compile(r"(.+?)[._-](?:hap|h|haplotype)?(1|2|pat|mat|paternal|maternal)(?=[._-]|$)", re.IGNORECASE)
_WITHIN = re.compile(r"(?:^|[._-])(chr(?:\d{1,3}|[XYZWM]|MT|[IVX]+|\d[LR]))(?=$|[._-])", re.IGNORECASE)
_SLICE = re.compile(r"(.+):[0-9,]+-[0-9,]+")


@dataclass(frozen=True)
class Placed:
    """One contig of an assembly, and where it belongs.

    Attributes
    ----------
    file
        The name of the FASTA file.
    contig
        Its name there.
    slot
        Which haplotype of the sample: 0 or 1; PanSN's haplotypes 1 and 2, and 0 of a genome that has one.
    chromosome
        The reference's name of the chromosome that it is of.
    """

    file: str
    contig: str
    sample: str
    slot: int
    chromosome: str

    @property
    def name(self) -> str:
        """PanSN: the sample, the haplotype from 1 on, and the contig."""
        return f"{self.sample}#{self.slot + 1}#{self.contig.rsplit('#', 1)[-1]}"


class Assemblies(Reference):
    """The contigs of all assemblies, by PanSN names; make it with `build_all`, read it with `open`.

    Attributes
    ----------
    placed
        What each contig is, by name.
    left_out
        How many contigs, and bases, were not read: organelles, and what a table leaves out.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]):
        super().__init__(path, manifest)
        self.placed = {
            contig.name: Placed(**entry) for contig, entry in zip(self.contigs, manifest["placed"], strict=True)
        }
        self.left_out: dict[str, int] = manifest["left_out"]

    @classmethod
    def build_all(
        cls,
        files: Sequence[Path],
        out: Path,
        reference: Reference | None = None,
        chromosomes: Mapping[str, str] | str = "",
    ) -> Assemblies:
        """Read assemblies, one FASTA file or several for each haplotype, into a folder.

        Parameters
        ----------
        reference
            Whose chromosomes the contigs belong to; without it, what the names say.
        chromosomes
            The chromosome of contigs whose names do not say, by name; or of all such contigs.

        Raises
        ------
        DataError
            When a contig cannot be assigned to a chromosome, or two contigs of a haplotype have one name.
        """
        placed, names = _placed(files, reference, chromosomes)
        with staged_folder(out) as folder:
            contigs: list[dict[str, Any]] = []
            kept: list[dict[str, Any]] = []
            left = {"n_contigs": 0, "n_bases": 0}
            prints = []
            for number, file in enumerate(files):
                part = Reference.build(file, folder / f"part-{number}")
                prints.append(part.fingerprint)
                for contig in part.contigs:
                    entry = placed[number, contig.name]
                    if entry is None:
                        left = {"n_contigs": left["n_contigs"] + 1, "n_bases": left["n_bases"] + contig.length}
                        continue
                    contigs.append({"name": names[number, contig.name], "length": contig.length, "part": number})
                    kept.append(asdict(entry))
            if not contigs:
                raise DataError(f"No contig of {_few([file.name for file in files])} belongs to a chromosome.")
            manifest = {"schema": 1, "source": f"{len(files)} assemblies", "contigs": contigs, "placed": kept}
            write_manifest(folder, {**manifest, "left_out": left, "parts": prints})
        return cls.open(out)

    @classmethod
    def open(cls, path: str | Path) -> Assemblies:
        """Open a folder made by `build_all`.

        Raises
        ------
        StateError
            When the folder holds no complete assemblies.
        """
        manifest = read_manifest(path)
        if manifest is None or "placed" not in manifest:
            raise StateError(f"{path} holds no complete assemblies.\n  Build them again.")
        return cls(Path(path), manifest)

    @property
    def samples(self) -> tuple[str, ...]:
        """The samples, in the order of their files."""
        return tuple(dict.fromkeys(entry.sample for entry in self.placed.values()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, places and bases."""
        return digest([self.manifest[key] for key in ("contigs", "placed", "parts")])

    def bases(self, contig: str) -> NDArray[np.uint8]:
        """Return a contig as read-only ASCII A C G T N, shape (length,), memory-mapped."""
        part, name = self._where(contig)
        return part.bases(name)

    def soft_masked(self, contig: str) -> NDArray[np.int64]:
        """Return the lower-case stretches of a contig, (n, 2), 0-based half-open."""
        part, name = self._where(contig)
        return part.soft_masked(name)

    def n_runs(self, contig: str) -> NDArray[np.int64]:
        """Return the stretches of N of a contig, (n, 2), 0-based half-open."""
        part, name = self._where(contig)
        return part.n_runs(name)

    def _where(self, contig: str) -> tuple[Reference, str]:
        entry = self.manifest["contigs"][self._index[self.resolve(contig)]]
        return self._parts[entry["part"]], self.placed[entry["name"]].contig

    @cached_property
    def _parts(self) -> list[Reference]:
        return [Reference.open(self.path / f"part-{number}") for number in range(len(self.manifest["parts"]))]


def assembly_files(names: Iterable[str | Path]) -> list[Path]:
    """Return the FASTA files that are named, or lie in folders that are named, by their names.

    Raises
    ------
    ConfigError
        When one is not there, or a folder has none.
    """
    found: list[Path] = []
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(path for path in name.iterdir() if _stem(path) != path.name and path.is_file())
            if not inside:
                raise ConfigError(f"The folder {name} holds no FASTA file ({', '.join(ENDINGS)}, plain or .gz).")
            found += inside
        elif name.is_file():
            found.append(name)
        else:
            raise ConfigError(f"There is no assembly {name}.")
    return list(dict.fromkeys(found))


def chromosomes_of(text: str) -> dict[str, str] | str:
    """Return the table that a text names, where there is such a file, or the text itself: a chromosome."""
    return chromosome_table(text) if text and ("/" in text or Path(text).is_file()) else text


def chromosome_table(path: str | Path) -> dict[str, str]:
    """Read a table of contigs and their chromosomes, in two columns; ``.`` leaves a contig out.

    A contig is named as in the FASTA, or by PanSN's third part, or by a pattern (``*#chrUn*``).

    Raises
    ------
    DataError
        When the file is missing, a line has one column, or a contig has two chromosomes; names the line.
    """
    try:
        with open_text(Path(path)) as handle:
            lines = handle.read().decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is no table of contigs: {error}.") from None
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.startswith("#") or (not table and fields[:2] == ["contig", "chromosome"]):
            continue
        if len(fields) < 2:
            raise DataError(f"{path}, line {number}: no contig and chromosome: {line[:80]!r}.")
        if table.setdefault(fields[0], fields[1]) != fields[1]:
            raise DataError(f"{path}, line {number}: {fields[0]} is of {table[fields[0]]} and of {fields[1]}.")
    return table


def _placed(
    files: Sequence[Path], reference: Reference | None, chromosomes: Mapping[str, str] | str
) -> tuple[dict[tuple[int, str], Placed | None], dict[tuple[int, str], str]]:
    """Return what each (file, contig) is, None for what is left out, and the PanSN names of those that are not."""
    placed: dict[tuple[int, str], Placed | None] = {}
    names: dict[tuple[int, str], str] = {}
    owner: dict[str, str] = {}
    unknown: list[str] = []
    for number, file in enumerate(files):
        for contig in contigs_of(file):
            chromosome = _chromosome(contig.name, file, reference, chromosomes)
            if chromosome == "":
                unknown.append(f"{contig.name} of {file.name}")
            placed[number, contig.name] = entry = _entry(file, contig.name, chromosome) if chromosome else None
            if entry is None:
                continue
            if entry.name in owner:
                raise DataError(
                    f"{file} and {owner[entry.name]} both have a contig {entry.name} (sample, haplotype, contig).\n"
                    "  Name contigs by PanSN (HG002#1#chr8), or files by sample and haplotype (HG002.hap1.fa)."
                )
            owner[entry.name] = str(file)
            names[number, contig.name] = entry.name
    if unknown:
        raise DataError(
            f"{len(unknown):,} contigs cannot be assigned to a chromosome: {_few(unknown)}.\n"
            "  Training could read what is held out. Name a table of contigs and chromosomes (. leaves one out), in "
            "[genome] chromosomes of a study or with --chromosomes."
        )
    return placed, names


def _chromosome(name: str, file: Path, reference: Reference | None, chromosomes: Mapping[str, str] | str) -> str | None:
    """Return the chromosome of a contig, None where it is left out, nothing where it cannot be told."""
    bare = name.rsplit("#", 1)[-1]
    table = chromosomes if not isinstance(chromosomes, str) else {}
    for key in (name, bare, *(key for key in table if set("*?[") & set(key) and fnmatchcase(name, key))):
        if key in table:
            return None if table[key].lower() in LEFT_OUT else _known(table[key], reference)
    candidates = [bare, *(match[1] for match in (_SLICE.fullmatch(bare), _WITHIN.search(bare)) if match)]
    for candidate in candidates:
        if known := _known(candidate, reference):
            return known
    if any(role_of(candidate) in ("organelle", "virus or spike-in") for candidate in candidates):
        return None
    return _known(chromosomes, reference) if isinstance(chromosomes, str) and chromosomes else ""


def _known(name: str, reference: Reference | None) -> str:
    """Return the chromosome's name in the reference, or what all of its aliases share; nothing where it is none."""
    canonical = canonical_name(name)
    if reference is None:
        return canonical if role_of(name) == CHROMOSOME else ""
    known = [c.name for c in reference.contigs if c.name == name] or [
        c.name for c in reference.contigs if canonical_name(c.name) == canonical
    ]
    return known[0] if known and role_of(known[0]) in (CHROMOSOME, "") else ""


def _entry(file: Path, contig: str, chromosome: str) -> Placed:
    """Return whose a contig is: by its PanSN name, or by the name of its file."""
    parts = contig.split("#")
    if len(parts) >= 3 and parts[1].isdigit():
        return Placed(file.name, contig, parts[0], max(0, int(parts[1]) - 1), chromosome)
    stem = _stem(file)
    match = _FILE.match(stem)
    if match:
        return Placed(file.name, contig, match[1], _HAPLOTYPES[match[2].lower()], chromosome)
    return Placed(file.name, contig, stem, 0, chromosome)


def _stem(file: Path) -> str:
    """Return a FASTA file's name without its ending; the whole name where it has none."""
    name = re.sub(r"\.(gz|bgz)$", "", file.name)
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), file.name)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
