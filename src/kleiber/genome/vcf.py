"""Phased VCF and BCF files, record by record.

Text is scanned with numpy where every genotype is one ``a|b`` of one-digit alleles, checked record by record; anything
else (haploid, missing, unphased, extra fields) takes the general path. BCF is read through htslib. Rejected: htslib for
all, which decodes 3,202 genotypes into Python objects at 600 records a second.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.genome.reference import open_text

__all__ = ["ABSENT", "MISSING", "Record", "VcfFile"]

MISSING, ABSENT = -1, -2
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@dataclass(frozen=True)
class Record:
    """One line of a VCF.

    Attributes
    ----------
    position
        1-based, as in the file.
    alleles
        int16 (samples, 2): the allele of each slot; `MISSING`, or `ABSENT` where a haploid call has no second slot.
    unphased
        (samples,): true for a heterozygote written with ``/``.
    """

    contig: str
    position: int
    ref: str
    alts: tuple[str, ...]
    filter: str
    info: str
    alleles: NDArray[np.int16]
    unphased: NDArray[np.bool_]


class VcfFile:
    """One VCF or BCF file: its samples, contigs and records in order.

    Raises
    ------
    DataError
        When the file is missing, cut short, damaged, or no VCF.
    """

    def __init__(self, path: Path):
        self.path = path
        with open_text(path) as handle:
            try:
                start = handle.read(3)
            except (EOFError, OSError, gzip.BadGzipFile) as error:
                raise self._damaged(error) from None
        self.is_bcf = start == b"BCF"
        self._refuse_truncated()
        lines = self._header()
        if not lines or not lines[-1].startswith("#CHROM"):
            raise DataError(f"{path} is no VCF: it has no header line that starts with #CHROM.")
        columns = lines[-1].split("\t")
        self.samples = tuple(columns[9:])
        if len(columns) < 10:
            raise DataError(f"{path} holds no genotypes: its header names no sample.")
        twice = (
            {s for s in self.samples if self.samples.count(s) > 1} if len(set(self.samples)) < len(self.samples) else ()
        )
        if twice:
            raise DataError(f"{path} names the sample {sorted(twice)[0]!r} twice.")
        self.lengths = dict(_contig_lines(lines))

    def records(self) -> Iterator[Record]:
        """Yield every record, in the order of the file."""
        n_samples = len(self.samples)
        for number, line in enumerate(self._lines(), 1):
            try:
                yield _parse(line, n_samples)
            except ValueError as error:
                raise DataError(f"{self.path}, record {number}: {error}.") from None

    def _lines(self) -> Iterator[bytes]:
        try:
            if self.is_bcf:
                import pysam

                pysam.set_verbosity(0)
                with pysam.VariantFile(str(self.path)) as file:
                    for record in file:
                        yield str(record).rstrip("\n").encode()
                return
            with open_text(self.path) as handle:
                for line in handle:
                    if not line.startswith(b"#") and line.strip():
                        yield line.rstrip(b"\r\n")
        except (EOFError, OSError, ValueError, gzip.BadGzipFile) as error:
            raise self._damaged(error) from None

    def _header(self) -> list[str]:
        try:
            if self.is_bcf:
                import pysam

                pysam.set_verbosity(0)
                with pysam.VariantFile(str(self.path)) as file:
                    return str(file.header).splitlines()
            lines = []
            with open_text(self.path) as handle:
                for line in handle:
                    if not line.startswith(b"#"):
                        break
                    lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            return lines
        except (EOFError, OSError, ValueError, gzip.BadGzipFile) as error:
            raise self._damaged(error) from None

    def _refuse_truncated(self) -> None:
        """Refuse a bgzipped file without its end marker: cut between two blocks it would read as a shorter panel."""
        with open(self.path, "rb") as handle:
            head = handle.read(16)
            if head[:2] != b"\x1f\x8b" or head[12:14] != b"BC":
                return
            handle.seek(-min(28, self.path.stat().st_size), 2)
            if handle.read() != BGZF_END:
                raise self._damaged("the end marker of bgzip is missing")

    def _damaged(self, error: object) -> DataError:
        return DataError(
            f"{self.path} is cut short or damaged: {error}.\n  Fetch it again and compare its size and checksum."
        )


def _contig_lines(lines: list[str]) -> Iterator[tuple[str, int | None]]:
    for line in lines:
        if line.startswith("##contig=<"):
            fields = dict(part.split("=", 1) for part in line[10:].rstrip(">").split(",") if "=" in part)
            if "ID" in fields:
                yield fields["ID"], int(fields["length"]) if fields.get("length", "").isdigit() else None


def _parse(line: bytes, n_samples: int) -> Record:
    """Read one data line; ValueError says what is wrong with it."""
    columns = line.split(b"\t", 9)
    if len(columns) < 10:
        raise ValueError(f"{len(columns)} columns, and at least 10 are needed")
    contig, position, _, ref, alt, _, filter_, info, keys, calls = columns
    if not position.isdigit() or int(position) < 1:
        raise ValueError(f"the position {position.decode('utf-8', 'replace')!r} is no number from 1")
    alleles, unphased = _fast_genotypes(keys, calls, n_samples) or _genotypes(keys, calls, n_samples)
    alts = () if alt == b"." else tuple(a.decode() for a in alt.upper().split(b","))
    if alleles.max(initial=0) > len(alts):
        raise ValueError(f"a genotype names allele {alleles.max()}, and there are {len(alts)} ALT alleles")
    return Record(
        contig.decode(), int(position), ref.decode().upper(), alts, filter_.decode(), info.decode(), alleles, unphased
    )


def _fast_genotypes(keys: bytes, calls: bytes, n: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]] | None:
    """Read ``a|b`` columns of one-digit alleles at a fixed stride; None where any column is something else."""
    if keys != b"GT" or len(calls) != 4 * n - 1:
        return None
    cells = np.frombuffer(calls + b"\t", np.uint8).reshape(n, 4)
    digits = cells[:, 0::2] - np.uint8(ord("0"))
    if (cells[:, 1] != ord("|")).any() or (cells[:, 3] != ord("\t")).any() or (digits > 9).any():
        return None
    return digits.astype(np.int16), np.zeros(n, bool)


def _genotypes(keys: bytes, calls: bytes, n: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    cells = calls.split(b"\t")
    if len(cells) != n:
        raise ValueError(f"{len(cells)} genotype columns, and the header names {n} samples")
    names = keys.split(b":")
    if b"GT" not in names:
        raise ValueError("its FORMAT has no GT")
    at = names.index(b"GT")
    alleles, unphased = np.full((n, 2), ABSENT, np.int16), np.zeros(n, bool)
    for i, cell in enumerate(cells):
        fields = cell.split(b":")
        call = fields[at] if at < len(fields) else b"."
        parts = call.replace(b"/", b"|").split(b"|")
        if len(parts) > 2:
            raise ValueError(f"the genotype {call.decode()} of sample {i + 1} has more than two alleles")
        for slot, part in enumerate(parts):
            if part != b"." and not part.isdigit():
                raise ValueError(f"the genotype {call.decode('utf-8', 'replace')!r} of sample {i + 1} is none")
            alleles[i, slot] = MISSING if part == b"." else int(part)
        unphased[i] = b"/" in call and len(set(parts)) > 1 and b"." not in parts
    return alleles, unphased
