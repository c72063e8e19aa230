"""Variants of a VCF, one after the other, and the file that bears their scores; one record is in memory at a time.

Every REF allele is compared with the FASTA: a variant scored on another assembly is silently wrong. What cannot be
scored (symbolic alleles, alleles with N, contigs that the FASTA lacks) stays in the output without a score and is
counted by its reason. Reading and writing is htslib's, so that plain, bgzipped and binary files all do, and a
record's other fields come out as they went in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pysam

from kleiber.errors import ConfigError, DataError, UnknownContig, UnknownName
from kleiber.genome.reference import Reference
from kleiber.storage import land

__all__ = ["Site", "Variant", "VariantFile", "open_output"]

BASES = frozenset("ACGT")
MODES = {".vcf": "w", ".vcf.gz": "wz", ".bcf": "wb"}
TABLES = {".tsv": "\t", ".csv": ","}


@dataclass(frozen=True)
class Variant:
    """One ALT allele of one record.

    Attributes
    ----------
    contig
        As the reference calls it.
    start
        0-based.
    why_not
        The reason for which it has no score; empty when it can have one.
    """

    contig: str
    start: int
    ref: str
    alt: str
    why_not: str = ""

    @property
    def is_indel(self) -> bool:
        """Whether the alleles differ in length."""
        return len(self.ref) != len(self.alt)


@dataclass(frozen=True)
class Site:
    """A record, as htslib has it, and its ALT alleles."""

    record: Any
    variants: tuple[Variant, ...]


class VariantFile:
    """The sites of a VCF or BCF file on a reference.

    Parameters
    ----------
    path
        Plain, bgzipped or binary; it is read once, in its order.
    """

    def __init__(self, path: Path, reference: Reference):
        self.path, self.reference = Path(path), reference
        if not self.path.is_file():
            raise DataError(f"There is no file {path}.")
        pysam.set_verbosity(0)
        try:
            self.file = pysam.VariantFile(str(path))
        except NotImplementedError:
            raise DataError(f"{path} is gzipped, and htslib reads bgzipped files.\n  gunzip it, or bgzip it.") from None
        except (ValueError, OSError) as error:
            raise DataError(f"{path} is no VCF or BCF file: {error}.") from None
        self.header = self.file.header
        if not len(self.header.contigs):
            for contig in reference.contigs:
                self.header.contigs.add(contig.name, contig.length)
        if "END" not in self.header.info:  # pysam writes it into records of symbolic alleles, declared or not
            self.header.info.add("END", 1, "Integer", "End position of the variant")
        self._names: dict[str, str | None] = {}

    def info(self, key: str) -> Any:
        """Return the header's line of an INFO key (``type``, ``number``, ``description``).

        Raises
        ------
        UnknownName
            When the header has no such key; names the nearest.
        """
        if key not in self.header.info:
            raise UnknownName(key, list(self.header.info), f"the header of {self.path}", "INFO key")
        return self.header.info[key]

    def declare(self, lines: dict[str, str]) -> None:
        """Add INFO keys of one number an ALT allele to the header; to be called before the sites are read.

        Raises
        ------
        ConfigError
            When the file has one of them already.
        """
        for key, text in lines.items():
            if key in self.header.info:
                raise ConfigError(f"{self.path} bears {key} already.\n  Name other keys: --key NAME.")
            self.header.info.add(key, "A", "Float", text)

    def __iter__(self) -> Iterator[Site]:
        """Yield the sites.

        Raises
        ------
        DataError
            When a record is damaged, or its REF allele is not the reference's.
        """
        try:
            for record in self.file:
                yield Site(record, tuple(self._variant(record, alt) for alt in record.alts or ()))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is cut short or damaged: {error}.") from None

    def _variant(self, record: Any, alt: str) -> Variant:
        contig, ref, alt = self._contig(record.chrom), record.ref.upper(), alt.upper()
        if contig is None:
            return Variant(record.chrom, record.start, ref, alt, "on a contig that the FASTA lacks")
        length = self.reference.length(contig)
        if record.start + len(ref) > length:
            raise DataError(
                f"{self.path}: {record.chrom}:{record.pos:,} lies beyond the end of {contig}, {length:,} bases long.\n"
                "  Name the FASTA that the variants were called on."
            )
        there = self.reference.bases(contig)[record.start : record.start + len(ref)].tobytes().decode()
        if any(a != b and b != "N" for a, b in zip(ref, there, strict=True)):
            raise DataError(
                f"REF allele disagrees with the reference at {record.chrom}:{record.pos:,} of {self.path}.\n"
                f'  The file has "{ref[:40]}", the reference has "{there[:40]}".\n'
                "  Name the FASTA that the variants were called on."
            )
        why = ""
        if not set(alt) <= BASES:
            why = "symbolic, missing, or with a letter that is no base"
        elif not set(ref + there) <= BASES:
            why = "on an N"
        elif alt == ref:
            why = "of which ALT is REF"
        return Variant(contig, record.start, ref, alt, why)

    def _contig(self, name: str) -> str | None:
        if name not in self._names:
            try:
                self._names[name] = self.reference.resolve(name)
            except UnknownContig:
                self._names[name] = None
        return self._names[name]


Write = Callable[[Site, dict[str, Sequence[float]]], None]


class open_output:
    """Write sites with their scores to a file that lands whole or not at all: VCF, BCF, or a table.

    Parameters
    ----------
    path
        Ends in .vcf, .vcf.gz, .bcf, .tsv or .csv; None for a table on standard output.
    source
        The file that sites come from, its keys declared.
    keys
        INFO keys, and columns of a table.

    Raises
    ------
    ConfigError
        When the name ends otherwise.
    """

    def __init__(self, path: Path | None, source: VariantFile, keys: Sequence[str]):
        self.path, self.source, self.keys = path, source, list(keys)
        kinds = [ending for ending in (*MODES, *TABLES) if path is None or str(path).endswith(ending)]
        if not kinds:
            raise ConfigError(f"{path} has to end in {', '.join((*MODES, *TABLES))}.")
        self.kind = ".tsv" if path is None else kinds[-1]

    def __enter__(self) -> Write:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        if self.kind in MODES:
            self.file: Any = pysam.VariantFile(str(self.partial), MODES[self.kind], header=self.source.header)
            return self._record
        import sys

        self.file = sys.stdout if self.path is None else open(self.partial, "w", encoding="utf-8")
        self._line(["contig", "position", "ref", "alt", *self.keys])
        return self._lines

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.path is None:
            return
        self.file.close()
        if kind is None:
            land(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)

    def _record(self, site: Site, scores: dict[str, Sequence[float]]) -> None:
        for key in self.keys:
            values = [float(np.float32(value)) if isfinite(value) else None for value in scores[key]]
            if any(value is not None for value in values):
                site.record.info[key] = tuple(values)
        self.file.write(site.record)

    def _lines(self, site: Site, scores: dict[str, Sequence[float]]) -> None:
        for number, variant in enumerate(site.variants):
            values = [scores[key][number] for key in self.keys]
            shown = [f"{value:.6g}" if isfinite(value) else "" for value in values]
            self._line([variant.contig, str(variant.start + 1), variant.ref, variant.alt, *shown])

    def _line(self, cells: list[str]) -> None:
        self.file.write(TABLES[self.kind].join(cells) + "\n")
