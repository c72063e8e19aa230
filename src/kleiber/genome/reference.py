"""A reference genome on disk: one upper-case byte a base, memory-mapped, safe in forked and spawned workers.

U is T. Ambiguity codes become N, are counted, and are remembered, for the REF alleles of a VCF are the first of their
bases. Blanks and digits are no bases. Letters that no nucleotide code has, and gaps of an alignment, are errors: a
protein read as DNA would be a genome of A, C, G, T and N. Lower case (soft-masked repeats) is kept as intervals.
Rejected: reading the FASTA through its index whenever a window is wanted, which is a thousand times slower.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError, StateError, UnknownContig
from kleiber.genome.assembly import Contig, Region, canonical_name
from kleiber.storage import digest, file_digest, read_manifest, staged_folder, write_manifest

__all__ = [
    "Reference",
    "Region",
    "contigs_of",
    "intervals",
    "load_array",
    "nucleotides",
    "open_text",
    "reference_changes",
    "save_array",
    "sequences",
]

LONGEST = 1 << 30  # bases of a contig
MOST = 100_000  # contigs: each is three files
PIECE = 1 << 20  # bytes: a longer line is read in pieces

CODES = b"RYSWKMBDHV"  # each stands for two or three bases
_BAD, _DROPPED = 0, 1  # in place of a base: no letter of a nucleotide, and what is between letters
_UPPER = np.full(256, _BAD, np.uint8)
_UPPER[np.frombuffer(b" \t\r\v\f0123456789", np.uint8)] = _DROPPED
for _letter in b"ACGTN" + CODES:
    _UPPER[_letter] = _UPPER[_letter + 32] = _letter if _letter in b"ACGT" else ord("N")
_UPPER[ord("U")] = _UPPER[ord("u")] = ord("T")
_IS_CODE = np.zeros(256, bool)
_IS_CODE[np.frombuffer(CODES + CODES.lower(), np.uint8)] = True


class Reference:
    """The contigs of one FASTA file; make it with `build` and read it with `open`."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = Path(path)
        self.manifest = manifest
        self.contigs = tuple(Contig(c["name"], c["length"]) for c in manifest["contigs"])
        self._index = {contig.name: i for i, contig in enumerate(self.contigs)}
        self._aliases: dict[str, list[str]] = {}
        for contig in self.contigs:
            self._aliases.setdefault(canonical_name(contig.name), []).append(contig.name)

    @classmethod
    def build(cls, fasta: str | Path, out: str | Path) -> Reference:
        """Read a FASTA file, plain or compressed, into a folder.

        Raises
        ------
        DataError
            When the file is no FASTA, is cut short, or names a contig twice.
        """
        fasta = Path(fasta)
        with staged_folder(out) as folder:
            contigs: dict[str, dict[str, Any]] = {}
            for name, body in sequences(fasta):
                if name in contigs:
                    raise DataError(f"{fasta} names the contig {name!r} twice.")
                if len(contigs) == MOST:
                    raise DataError(f"{fasta} holds more than {MOST:,} contigs; leave small scaffolds out.")
                contigs[name] = _write_contig(folder, len(contigs), name, body, fasta)
            if not contigs:
                raise DataError(f"{fasta} holds no sequence.\n  A FASTA file starts with a line such as >chr20.")
            masks = [path.name for path in sorted(folder.glob("*.npy")) if not path.name.endswith(".bases.npy")]
            sums = {name: file_digest(folder / name) for name in masks}
            entries = list(contigs.values())
            write_manifest(folder, {"schema": 1, "source": fasta.name, "contigs": entries, "sha256": sums})
        return cls.open(out)

    @classmethod
    def open(cls, path: str | Path) -> Reference:
        """Open a folder made by `build`.

        Raises
        ------
        StateError
            When the folder holds no complete reference.
        """
        manifest = read_manifest(path)
        if manifest is None:
            raise StateError(f"{path} holds no complete reference.\n  Build it again.")
        return cls(Path(path), manifest)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names, lengths and bases."""
        return digest(self.manifest["contigs"])

    def resolve(self, name: str) -> str:
        """Return the contig's name in this reference, by name or alias.

        Raises
        ------
        UnknownContig
            With the nearest known names.
        ConfigError
            When the name is an alias of several contigs, as in a FASTA of two species.
        """
        if name in self._index:
            return name
        found = self._aliases.get(canonical_name(name), [])
        if not found:
            raise UnknownContig(name, self._index, str(self.manifest["source"]))
        if len(found) > 1:
            raise ConfigError(
                f"{name!r} can be {' or '.join(found[:3])} of {self.manifest['source']}.\n  Name the one that is meant."
            )
        return found[0]

    def length(self, contig: str) -> int:
        """Return a contig's length in bases."""
        return self.contigs[self._index[self.resolve(contig)]].length

    def bases(self, contig: str) -> NDArray[np.uint8]:
        """Return a contig as read-only ASCII A C G T N, shape (length,), memory-mapped."""
        return self._maps[self._index[self.resolve(contig)]]

    def soft_masked(self, contig: str) -> NDArray[np.int64]:
        """Return the lower-case stretches of a contig, (n, 2), 0-based half-open."""
        return load_array(self.path / f"{self._index[self.resolve(contig)]}.masked.npy", np.int64)

    def n_runs(self, contig: str) -> NDArray[np.int64]:
        """Return the stretches of N of a contig, (n, 2), 0-based half-open."""
        return load_array(self.path / f"{self._index[self.resolve(contig)]}.n.npy", np.int64)

    def codes(self, contig: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return where ambiguity codes stood in a contig, and which.

        0-based and increasing, (n,); upper-case ASCII, (n,).
        """
        index = self._index[self.resolve(contig)]
        if not self.manifest["contigs"][index].get("codes"):
            return np.zeros(0, np.int64), np.zeros(0, np.uint8)
        both = load_array(self.path / f"{index}.codes.npy", np.int64)
        return np.ascontiguousarray(both[:, 0]), both[:, 1].astype(np.uint8)

    @property
    def changes(self) -> dict[str, dict[str, int]]:
        """What was no base of its own, by contig, and how often.

        Ambiguity codes, which became N; blanks and digits, which were dropped.
        """
        found = {}
        for contig in self.manifest["contigs"]:
            counts = dict(contig.get("codes", {}))
            if contig.get("dropped"):
                counts["blanks and digits"] = contig["dropped"]
            if counts:
                found[contig["name"]] = counts
        return found

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file but the manifest, by name; old references have none of their masks."""
        bases = {f"{i}.bases.npy": contig["sha256"] for i, contig in enumerate(self.manifest["contigs"])}
        return {**bases, **self.manifest.get("sha256", {})}

    @cached_property
    def _maps(self) -> list[NDArray[np.uint8]]:
        return [
            load_array(self.path / f"{i}.bases.npy", np.uint8, (contig.length,))
            for i, contig in enumerate(self.contigs)
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["manifest"])  # type: ignore[misc]


def intervals(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the stretches in which a mask is true, (n, 2), half-open."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def load_array(path: Path, kind: type, shape: tuple[int, ...] | None = None) -> NDArray:
    """Map an ``.npy`` file.

    Raises
    ------
    DataError
        When it is missing or damaged, or is not of the kind and shape that its manifest says.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise DataError(f"{path} is missing or damaged: {error}.\n  Build it again, or fetch it again.") from None
    if array.dtype != kind or shape not in (None, array.shape):
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}, and its manifest says {np.dtype(kind)} {shape or ''}.\n"
            "  Build it again, or fetch it again."
        )
    return array


def save_array(path: Path, array: NDArray) -> None:
    """Write an array of any shape as ``.npy``; `numpy.save` does not say why when the disk is full."""
    header: dict[str, Any] = np.lib.format.header_data_from_array_1_0(array)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(array).data)


def open_text(path: Path) -> IO[bytes]:
    """Open a plain, gzipped or bgzipped file for reading bytes.

    Raises
    ------
    DataError
        When there is no such file.
    """
    try:
        with open(path, "rb") as handle:
            magic = handle.read(2)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    opener: Any = gzip.open if magic == b"\x1f\x8b" else open
    return opener(path, "rb")


def contigs_of(fasta: str | Path) -> tuple[Contig, ...]:
    """Return the contigs of a FASTA file, from its index (``.fai``) where there is one.

    Raises
    ------
    DataError
        When the file is missing, or is no FASTA.
    """
    fasta = Path(fasta)
    index = Path(f"{fasta}.fai")
    if fasta.is_file() and index.is_file():
        return tuple(_indexed(index))
    contigs = tuple(
        Contig(name, len(nucleotides(np.frombuffer(body, np.uint8), name, fasta)[0])) for name, body in sequences(fasta)
    )
    if not contigs:
        raise DataError(f"{fasta} holds no sequence.\n  A FASTA file starts with a line such as >chr20.")
    return contigs


def _indexed(index: Path) -> Iterator[Contig]:
    for number, line in enumerate(index.read_bytes().split(b"\n"), 1):
        name, *more = line.split(b"\t")
        if line and not (name and more and more[0].isdigit() and len(more[0]) <= len(str(LONGEST))):
            raise DataError(
                f"{index}, line {number}: no name and length of a contig: {line[:60]!r}.\n  Delete it, or index again."
            )
        if line:
            yield Contig(name.decode("utf-8", "replace"), int(more[0]))


def sequences(fasta: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes as they stand) of every sequence of a FASTA file.

    Raises
    ------
    DataError
        When the file is damaged, or is no FASTA.
    """
    name: str | None = None
    parts: list[bytes] = []
    number, length, is_begun = 1, 0, False  # is_begun: a line longer than a piece goes on
    try:
        with open_text(fasta) as handle:
            while line := handle.readline(PIECE):
                if line.startswith(b">") and not is_begun:
                    if name is not None:
                        yield name, b"".join(parts)
                    name, parts, length = _name(fasta, number, line), [], 0
                elif name is None and line.strip():
                    raise DataError(
                        f"{fasta}, line {number}: no FASTA: bases before the first line that starts with >."
                    )
                else:
                    parts.append(line.strip())
                    length += len(parts[-1])
                if length > LONGEST:
                    raise DataError(f"{fasta}, line {number}: {name} is longer than {LONGEST:,} bases.")
                is_begun = not line.endswith(b"\n")
                number += not is_begun
    except PermissionError:
        raise
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{fasta} is cut short or damaged: {error}.\n  Fetch it again and compare its checksum."
        ) from None
    if name is not None:
        yield name, b"".join(parts)


def _name(fasta: Path, number: int, line: bytes) -> str:
    """Return the first word of a line that starts with >."""
    words = line[1:].split()
    if not words:
        raise DataError(f"{fasta}, line {number}: a sequence without a name.")
    if len(line) == PIECE or b"\r" in line.rstrip():
        raise DataError(
            f"{fasta}, line {number}: the line that names {words[0][:60].decode('utf-8', 'replace')!r} does not end.\n"
            "  Lines end with a line feed, or with both; `tr '\\r' '\\n'` mends a file that has carriage returns alone."
        )
    return words[0].decode("utf-8", "replace")


def reference_changes(reference: Reference) -> list[str]:
    """Say, in a line each, what of a FASTA file was no base of its own, in which contigs."""
    by_kind: dict[str, dict[str, int]] = {}
    for contig, counts in reference.changes.items():
        for kind, n in counts.items():
            by_kind.setdefault(kind, {})[contig] = n
    lines = []
    for kind, by_contig in sorted(by_kind.items()):
        most = sorted(by_contig, key=lambda name: -by_contig[name])
        few = ", ".join(f"{name} {by_contig[name]:,}" for name in most[:3])
        more = f" and {len(most) - 3} contigs more" if len(most) > 3 else ""
        what = f"{kind} became N" if len(kind) == 1 else f"{kind} were dropped"
        lines.append(f"reference: {sum(by_contig.values()):,} {what} ({few}{more})")
    return lines


def _write_contig(folder: Path, number: int, name: str, body: bytes, fasta: Path) -> dict[str, Any]:
    raw, n_dropped = nucleotides(np.frombuffer(body, np.uint8), name, fasta)
    bases = _UPPER[raw]
    is_n = bases == ord("N")
    save_array(folder / f"{number}.bases.npy", bases)
    save_array(folder / f"{number}.masked.npy", intervals((raw >= ord("a")) & (raw <= ord("z"))))
    save_array(folder / f"{number}.n.npy", intervals(is_n))
    entry: dict[str, Any] = {"name": name, "length": len(bases), "n": int(is_n.sum())}
    at = np.flatnonzero(_IS_CODE[raw])
    if len(at):
        letters = raw[at] & 0xDF
        save_array(folder / f"{number}.codes.npy", np.stack([at, letters], 1).astype(np.int64))
        found, counts = np.unique(letters, return_counts=True)
        entry["codes"] = {chr(letter): int(n) for letter, n in zip(found, counts, strict=True)}
    return {
        **entry,
        "other_letters": len(at),
        "dropped": n_dropped,
        "sha256": file_digest(folder / f"{number}.bases.npy"),
    }


def nucleotides(raw: NDArray[np.uint8], name: str, fasta: Path) -> tuple[NDArray[np.uint8], int]:
    """Return the letters of a sequence, (n,), without blanks and digits, and how many of these there were.

    Letters are ASCII as they stand, lower case and U as well.

    Raises
    ------
    DataError
        When a letter is none of a nucleotide: a protein, or an alignment with gaps. Names the sequence and the letter.
    """
    kinds = _UPPER[raw]
    if (kinds > _DROPPED).all():
        return raw, 0
    if (bad := kinds == _BAD).any():
        at = int(bad.argmax())
        letter = bytes([raw[at]]).decode("latin-1")
        where = f"{fasta}, sequence {name}: letter {at + 1:,} is {letter!r}"
        if letter in "-.?":
            raise DataError(f"{where}, a gap of an alignment.\n  Take gaps out, so that a base has its own place.")
        if letter in "*" or letter.upper() in "EFIJLOPQXZ":
            raise DataError(
                f"{where}, which no nucleotide has: this is a protein, or is masked with {letter!r}.\n"
                "  Genomes are read as DNA or RNA, with N for bases that are not known."
            )
        raise DataError(f"{where}, which stands for no nucleotide.\n  Is this a FASTA file of DNA or RNA?")
    return raw[kinds > _DROPPED], int((kinds == _DROPPED).sum())
