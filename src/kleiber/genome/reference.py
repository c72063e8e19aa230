"""A reference genome on disk: one upper-case byte a base, memory-mapped, safe in forked and spawned workers.

Letters other than A, C, G and T become N and are counted; lower case (soft-masked repeats) is kept as intervals.
Rejected: reading the FASTA through its index whenever a window is wanted, which is a thousand times slower.
"""

from __future__ import annotations

import gzip
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError, StateError, UnknownContig
from kleiber.genome.assembly import Contig, Region, canonical_name
from kleiber.storage import digest, file_digest, read_manifest, staged_folder, write_manifest

__all__ = ["Reference", "Region", "contigs_of", "intervals", "load_array", "open_text", "save_array", "sequences"]

_UPPER = np.full(256, ord("N"), np.uint8)
for _letter in b"ACGT":
    _UPPER[_letter] = _UPPER[_letter + 32] = _letter


class Reference:
    """The contigs of one FASTA file; make it with `build` and read it with `open`."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = Path(path)
        self.manifest = manifest
        self.contigs = tuple(Contig(c["name"], c["length"]) for c in manifest["contigs"])
        self._index = {contig.name: i for i, contig in enumerate(self.contigs)}
        self._aliases = {canonical_name(contig.name): contig.name for contig in reversed(self.contigs)}

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
            contigs = [_write_contig(folder, i, name, body) for i, (name, body) in enumerate(sequences(fasta))]
            if not contigs:
                raise DataError(f"{fasta} holds no sequence.\n  A FASTA file starts with a line such as >chr20.")
            names = [contig["name"] for contig in contigs]
            if twice := {name for name in names if names.count(name) > 1}:
                raise DataError(f"{fasta} names the contig {sorted(twice)[0]!r} twice.")
            masks = [f"{i}.{kind}.npy" for i in range(len(contigs)) for kind in ("masked", "n")]
            sums = {name: file_digest(folder / name) for name in masks}
            write_manifest(folder, {"schema": 1, "source": fasta.name, "contigs": contigs, "sha256": sums})
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
        """
        if name in self._index:
            return name
        found = self._aliases.get(canonical_name(name))
        if found is None:
            raise UnknownContig(name, self._index, str(self.manifest["source"]))
        return found

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
    """Write an ``.npy`` file; `numpy.save` does not say why when the disk is full."""
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
        rows = [line.split("\t") for line in index.read_text().splitlines()]
        return tuple(Contig(row[0], int(row[1])) for row in rows)
    contigs = tuple(Contig(name, len(body)) for name, body in sequences(fasta))
    if not contigs:
        raise DataError(f"{fasta} holds no sequence.\n  A FASTA file starts with a line such as >chr20.")
    return contigs


def sequences(fasta: Path) -> Any:
    """Yield (name, bytes as they stand) of every sequence of a FASTA file.

    Raises
    ------
    DataError
        When the file is damaged, or is no FASTA.
    """
    name: str | None = None
    parts: list[bytes] = []
    try:
        with open_text(fasta) as handle:
            for number, line in enumerate(handle, 1):
                if line.startswith(b">"):
                    if name is not None:
                        yield name, b"".join(parts)
                    words = line[1:].split()
                    if not words:
                        raise DataError(f"{fasta}, line {number}: a sequence without a name.")
                    name, parts = words[0].decode("utf-8", "replace"), []
                elif name is None and line.strip():
                    raise DataError(
                        f"{fasta}, line {number}: no FASTA: bases before the first line that starts with >."
                    )
                else:
                    parts.append(line.strip())
    except PermissionError:
        raise
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise DataError(
            f"{fasta} is cut short or damaged: {error}.\n  Fetch it again and compare its checksum."
        ) from None
    if name is not None:
        yield name, b"".join(parts)


def _write_contig(folder: Path, number: int, name: str, body: bytes) -> dict[str, Any]:
    raw = np.frombuffer(body, np.uint8)
    bases = _UPPER[raw]
    is_n = bases == ord("N")
    save_array(folder / f"{number}.bases.npy", bases)
    save_array(folder / f"{number}.masked.npy", intervals(raw >= ord("a")))
    save_array(folder / f"{number}.n.npy", intervals(is_n))
    other = int((is_n & (raw != ord("N")) & (raw != ord("n"))).sum())
    return {
        "name": name,
        "length": len(bases),
        "n": int(is_n.sum()),
        "other_letters": other,
        "sha256": file_digest(folder / f"{number}.bases.npy"),
    }
