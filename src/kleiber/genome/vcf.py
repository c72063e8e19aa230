"""Phased VCF and BCF files as batches of records, contig by contig, in the order of the file.

Regular lines and BCF records are scanned by `kleiber.genome.scan`; a line that is not regular (unphased calls, more
FORMAT fields, two-digit alleles, symbolic ALTs, CRLF) is read here, with an error that says what is wrong with it. No
index is needed or used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.genome.bgzf import damaged, pieces
from kleiber.genome.scan import (
    ALL,
    FARTHEST,
    FULL,
    IRREGULAR,
    LONGEST,
    NO_ALLELE,
    OTHER_CONTIG,
    PLOIDY,
    Batch,
    new_batch,
    scan_bcf,
    scan_text,
)

__all__ = ["VcfFile"]

MISSING, ABSENT = -1, -2
LONGEST_HEADER = 1 << 26  # bytes: names of five million samples
RECORDS, CARRIERS = 1 << 13, 1 << 20  # of a batch, at least


class VcfFile:
    """One VCF or BCF file.

    Attributes
    ----------
    samples
        Their names, in order.
    lengths
        Length of each contig that the header names, None where it does not say.

    Raises
    ------
    DataError
        When the file is missing, cut short, damaged, or no VCF.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        stream = pieces(self.path)
        head = next(stream, b"")
        self.is_bcf = head[:3] == b"BCF"
        lines = self._header(head, stream)
        if not lines or not lines[-1].startswith("#CHROM"):
            raise DataError(f"{self.path} is no VCF: it has no header line that starts with #CHROM.")
        if sum(line.startswith("#CHROM") for line in lines) > 1 or any("\0" in line for line in lines):
            raise DataError(
                f"{self.path} is no VCF: its header names the columns twice, or holds bytes that are no text."
            )
        columns = lines[-1].split("\t")
        self.samples = tuple(columns[9:])
        if not self.samples:
            raise DataError(f"{self.path} holds no genotypes: its header names no sample.")
        seen: set[str] = set()
        for sample in self.samples:
            if sample in seen:
                raise DataError(f"{self.path} names the sample {sample!r} twice.")
            seen.add(sample)
        self.lengths = {name: length for name, length, _ in _contigs(lines)}
        self._contig_names = _numbered([(name, number) for name, _, number in _contigs(lines)])
        self._keys = _numbered([("PASS", 0), *_dictionary(lines)])

    def batches(
        self, keep_unphased: bool = False, begins: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
        """Yield (contig, text, batch) until the file ends; a batch's offsets point into its text.

        The batch is one and the same, filled anew: take what you need before the next.

        Parameters
        ----------
        keep_unphased
            Whether unphased heterozygotes count as they are written; else they count as reference and are told.
        begins
            Where to begin: what `Batch.begins` said of a contig's first batch, by default the first record.

        Raises
        ------
        DataError
            When a record makes no sense; names the file and the record.
        """
        scan = self._bcf_batches if self.is_bcf else self._text_batches
        yield from scan(keep_unphased, *begins)

    def _header(self, head: bytes, stream: Iterator[bytes]) -> list[str]:
        """Return the header's lines; the records begin ``_offset`` bytes into the contents."""
        if self.is_bcf:
            self._offset = 9 + int.from_bytes(head[5:9], "little")
            if head[:5] != b"BCF\2\2" or self._offset > LONGEST_HEADER:
                raise DataError(f"{self.path} is no BCF of version 2.2.")
            while len(head) < self._offset:
                if not (piece := next(stream, b"")):
                    raise damaged(self.path, "it ends inside its header")
                head += piece
            text = head[9 : self._offset]
        else:
            at = 0
            while True:
                while head.startswith(b"#", at) and (end := head.find(b"\n", at)) >= 0:
                    at = end + 1
                if at < len(head) and head[at] != ord("#"):
                    break
                if not (piece := next(stream, b"")):
                    at = len(head)
                    break
                head += piece
                if len(head) > LONGEST_HEADER:
                    raise DataError(f"{self.path} is no VCF: its header is longer than {LONGEST_HEADER:,} bytes.")
            text, self._offset = head[:at], at
        lines = text.rstrip(b"\0").decode("utf-8", "replace").split("\n")
        return [line.rstrip("\r") for line in lines if line.rstrip("\r")]

    def _text_batches(
        self, keep_unphased: bool, offset: int, number: int
    ) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
        rest, batch = b"", self._new_batch()
        for piece in chain(pieces(self.path, self._offset + offset), [b"\n"]):
            if b"\0" in piece:
                raise damaged(self.path, f"it holds a zero byte at or after record {number}")
            cut = piece.rfind(b"\n") + 1
            if cut == 0:
                rest += piece
                if len(rest) > LONGEST:
                    raise DataError(f"{self.path}, record {number}: its line is longer than {LONGEST:,} bytes.")
                continue
            text = np.frombuffer(rest + piece[:cut], np.uint8)
            rest = piece[cut:]
            number = yield from self._scan_text(text, offset, number, keep_unphased, batch)
            offset += len(text)

    def _scan_text(self, text: NDArray[np.uint8], offset: int, number: int, keep_unphased: bool, batch: Batch):
        """Yield the batches of whole lines; return the number of the next record, from 1."""
        n_samples = len(self.samples)
        at, contig = 0, b""
        _restart(batch, offset, number)
        while at < len(text):
            before = batch.n[0]
            at, why = (
                scan_text(text, at, np.frombuffer(contig, np.uint8), n_samples, batch) if contig else (at, OTHER_CONTIG)
            )
            number += int(batch.n[0] - before)
            if why in (IRREGULAR, OTHER_CONTIG):
                end = at + int((text[at:] == 10).argmax())
                line = text[at:end].tobytes().rstrip(b"\r")
                if not line:
                    at = end + 1
                    continue
            if why == IRREGULAR:
                try:
                    _add_line(batch, at, line, n_samples, keep_unphased)
                except ValueError as error:
                    raise DataError(f"{self.path}, record {number}: {error}.") from None
                number += 1
                at = end + 1
            if why in (OTHER_CONTIG, FULL) and at < len(text):
                if batch.n[0]:
                    yield contig.decode("utf-8", "replace"), text, batch
                _restart(batch, offset + at, number)
                if why == OTHER_CONTIG:
                    contig = self._contig_at(text, at, number)
        if batch.n[0]:
            yield contig.decode("utf-8", "replace"), text, batch
        return number

    def _contig_at(self, text: NDArray[np.uint8], at: int, number: int) -> bytes:
        """Return the contig that the line at `at` names."""
        line = text[at : at + 1000].tobytes().split(b"\n")[0]
        name, *more = line.split(b"\t", 1)
        if not name or not more:
            raise DataError(f"{self.path}, record {number}: it has no column for a contig and more: {line[:60]!r}.")
        return name

    def _bcf_batches(
        self, keep_unphased: bool, offset: int, number: int
    ) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
        rest, batch = b"", self._new_batch()
        if "GT" not in self._keys.values():
            raise DataError(f"{self.path} holds no genotypes: its header does not describe GT.")
        gt_key = next(key for key, name in self._keys.items() if name == "GT")
        for piece in pieces(self.path, self._offset + offset):
            data = np.frombuffer(rest + piece, np.uint8)
            at, why = 0, FULL
            while why != ALL:
                contig = int.from_bytes(data[at + 8 : at + 12].tobytes(), "little") if at + 12 <= len(data) else -1
                _restart(batch, offset + at, number)
                at, why = scan_bcf(data, at, contig, len(self.samples), gt_key, keep_unphased, batch)
                number += int(batch.n[0])
                if why == IRREGULAR:
                    raise DataError(f"{self.path}, record {number}: its fields do not fit together.")
                if why == PLOIDY:
                    raise DataError(f"{self.path}, record {number}: a genotype has more than two alleles.")
                if why == NO_ALLELE:
                    raise DataError(f"{self.path}, record {number}: a genotype names an allele that is not there.")
                if batch.n[0]:
                    if contig not in self._contig_names:
                        raise DataError(f"{self.path}, record {number}: contig {contig} is not in the header.")
                    yield self._contig_names[contig], data, batch
                elif why == FULL:
                    raise DataError(f"{self.path}, record {number}: it has too many alleles.")
            rest = data[at:].tobytes()
            offset += at
        if rest:
            raise damaged(self.path, "it ends inside a record")

    def _new_batch(self) -> Batch:
        return new_batch(len(self.samples), RECORDS, 2 * len(self.samples) + CARRIERS)


def _restart(batch: Batch, offset: int, number: int) -> None:
    """Empty a batch; its first record will be the one with this number, so many bytes behind the header."""
    batch.n[:] = 0
    batch.haploid[:] = False
    batch.begins[:] = offset, number


def _attributes(line: str) -> dict[str, str]:
    """Return the attributes of a structured header line, quotes taken off."""
    return {
        key: value.strip('"')
        for key, value in re.findall(r'(?<![A-Za-z_])([A-Za-z_]+)=("(?:[^"\\]|\\.)*"|[^,>]*)', line[line.find("<") :])
    }


def _contigs(lines: list[str]) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield (name, length, number in BCF) of the contigs of a header."""
    for line in lines:
        if line.startswith("##contig=<"):
            fields = _attributes(line)
            yield fields.get("ID", ""), _whole(fields.get("length", "")), _whole(fields.get("IDX", ""))


def _whole(text: str) -> int | None:
    """Return a whole number of a header, None where the text is none."""
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else None


def _dictionary(lines: list[str]) -> Iterator[tuple[str, int | None]]:
    """Yield (name, number) of what BCF calls by number."""
    for line in lines:
        if line.startswith(("##FILTER=<", "##INFO=<", "##FORMAT=<")):
            fields = _attributes(line)
            yield fields.get("ID", ""), _whole(fields.get("IDX", ""))


def _numbered(entries: list[tuple[str, int | None]]) -> dict[int, str]:
    """Return names by number; names without one are numbered as they come, each once."""
    names: dict[str, int] = {}
    for name, number in entries:
        if name not in names:
            names[name] = len(names) if number is None else number
    return {number: name for name, number in names.items()}


def _add_line(batch: Batch, at: int, line: bytes, n_samples: int, keep_unphased: bool) -> None:
    """Add one data line, which stands at byte `at`, to a batch; ValueError says what is wrong with it."""
    columns = line.split(b"\t", 9)
    if len(columns) < 10:
        raise ValueError(f"{len(columns)} columns, and at least 10 are needed")
    _, position, _, ref, alt, _, filter_, info, keys, calls = columns
    if not _is_position(position):
        raise ValueError(f"the position {position[:60].decode('utf-8', 'replace')!r} is no number from 1")
    alleles, unphased = _genotypes(keys, calls, n_samples)
    alts = [] if alt == b"." else alt.split(b",")
    if not ref or b"" in alts:
        raise ValueError("an allele is empty")
    if alleles.max(initial=0) > len(alts):
        raise ValueError(f"a genotype names allele {alleles.max()}, and there are {len(alts)} ALT alleles")
    if len(alts) > 255 or batch.n[1] + len(alts) > len(batch.record):
        raise ValueError(f"{len(alts)} ALT alleles, and 255 are the most that are read")
    if not keep_unphased:
        alleles[unphased] = 0
    starts = at + np.cumsum([0, *(len(column) + 1 for column in columns)])
    r, v, c = (int(n) for n in batch.n)
    batch.position[r] = int(position)
    batch.ref_at[r], batch.ref_len[r] = starts[3], len(ref)
    end = re.search(rb"(?:^|;)END=(\d+)", info)
    if end and not _is_position(end[1]):
        raise ValueError(f"its END {end[1][:60].decode()!r} is no number from 1")
    batch.stop[r] = int(end[1]) if end else int(position) + len(ref) - 1
    batch.passes[r] = filter_ in (b".", b"PASS")
    slots = alleles.ravel()
    batch.n_present[r] = (slots >= 0).sum()
    batch.n_missing[r] = (slots == MISSING).sum()
    batch.unphased[r] = unphased.argmax() if unphased.any() else -1
    batch.n_unphased[r] = unphased.sum()
    batch.haploid[:] |= alleles[:, 1] == ABSENT
    place = starts[4]
    for k, text in enumerate(alts):
        carriers = np.flatnonzero(slots == k + 1)
        batch.record[v + k], batch.allele[v + k] = r, k + 1
        batch.alt_at[v + k], batch.alt_len[v + k] = place, len(text)
        batch.carriers_at[v + k] = c
        batch.carriers[c : c + len(carriers)] = carriers
        c += len(carriers)
        place += len(text) + 1
    batch.carriers_at[v + len(alts)] = c
    batch.n[:] = r + 1, v + len(alts), c


def _is_position(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 1000 and 1 <= int(text) <= FARTHEST


def _genotypes(keys: bytes, calls: bytes, n: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the alleles, (n, 2), and which samples are unphased heterozygotes."""
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
            raise ValueError(
                f"the genotype {call.decode('utf-8', 'replace')} of sample {i + 1} has more than two alleles"
            )
        for slot, part in enumerate(parts):
            if part != b"." and not (part.isdigit() and len(part) < 4):
                raise ValueError(f"the genotype {call.decode('utf-8', 'replace')!r} of sample {i + 1} is none")
            alleles[i, slot] = MISSING if part == b"." else int(part)
        unphased[i] = b"/" in call and len(set(parts)) > 1 and b"." not in parts
    return alleles, unphased
