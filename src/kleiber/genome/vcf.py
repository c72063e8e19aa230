"""Phased VCF and BCF files as batches of records, contig by contig, in the order of the file.

Lines and BCF records are scanned by `kleiber.genome.scan` and `kleiber.genome.scan_bcf`; a line with symbolic alleles,
or with something wrong, is read here, with an error that says what is wrong and where. No index is needed or used.
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
from kleiber.genome.calls import Batch, Reading, coin_index, new_batch, reading
from kleiber.genome.scan import (
    ALL,
    FARTHEST,
    FEW,
    FINE,
    FULL,
    IRREGULAR,
    LONGEST,
    MANY,
    MOST_ALTS,
    NO_ALLELE,
    OTHER_CONTIG,
    PLOIDY,
    any_genotypes,
    scan_text,
)
from kleiber.genome.scan_bcf import Keys, scan_bcf

__all__ = ["VcfFile"]

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
        self, how: Reading | None = None, begins: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
        """Yield (contig, text, batch) until the file ends; a batch's offsets point into its text.

        The batch is one and the same, filled anew: take what you need before the next.

        Parameters
        ----------
        how
            What becomes of unphased heterozygotes, and whose calls count; all samples' when None.
        begins
            Where to begin: what `Batch.begins` said of a contig's first batch, by default the first record.

        Raises
        ------
        DataError
            When a record makes no sense; names the file, the record's contig and position, and the sample.
        """
        how = how or reading(self.samples)
        yield from (self._bcf_batches if self.is_bcf else self._text_batches)(how, *begins)

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

    def _text_batches(self, how: Reading, offset: int, number: int) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
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
            text = np.frombuffer(rest + piece, np.uint8, len(rest) + cut)
            rest = piece[cut:]
            number = yield from self._scan_text(text, offset, number, how, batch)
            offset += len(text)

    def _scan_text(self, text: NDArray[np.uint8], offset: int, number: int, how: Reading, batch: Batch):
        """Yield the batches of whole lines; return the number of the next record, from 1."""
        at, contig = 0, b""
        _restart(batch, offset, number)
        while at < len(text):
            before = batch.n[0]
            at, why = scan_text(text, at, np.frombuffer(contig, np.uint8), how, batch) if contig else (at, OTHER_CONTIG)
            number += int(batch.n[0] - before)
            if why in (IRREGULAR, OTHER_CONTIG):
                end = at + int((text[at:] == 10).argmax())
                line = text[at:end].tobytes().rstrip(b"\r")
                if not line:
                    at = end + 1
                    continue
            if why == IRREGULAR:
                try:
                    self._add_line(batch, text, at, line, how)
                except ValueError as error:
                    raise DataError(f"{self.path}, {_place(line)}record {number}: {error}.") from None
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

    def _add_line(self, batch: Batch, text: NDArray[np.uint8], at: int, line: bytes, how: Reading) -> None:
        """Add the data line that stands at byte `at` of a text to a batch; ValueError says what is wrong with it."""
        columns = line.split(b"\t", 9)
        if len(columns) < 10:
            raise ValueError(f"{len(columns)} columns, and at least 10 are needed")
        contig, position, _, ref, alt, _, filter_, info, keys, calls = columns
        alts = [] if alt == b"." else alt.split(b",")
        if not ref or b"" in alts:
            raise ValueError("an allele is empty")
        if len(alts) > MOST_ALTS:
            raise ValueError(f"{len(alts)} ALT alleles, and {MOST_ALTS} are the most that are read")
        is_telomere = position == b"0" and bool(alts) and all(_is_apart(text) for text in alts)
        if not _is_position(position) and not is_telomere:
            raise ValueError(f"the position {position[:60].decode('utf-8', 'replace')!r} is no number from 1")
        starts = at + np.cumsum([0, *(len(column) + 1 for column in columns)])
        r, v, place = int(batch.n[0]), int(batch.n[1]), int(starts[4])
        batch.position[r], batch.ref_at[r], batch.ref_len[r] = int(position), starts[3], len(ref)
        batch.passes[r] = filter_ in (b".", b"PASS")
        stops = _stops(info, int(position), len(alts)) if b"<" in alt else [0] * len(alts)
        for k, (allele, stop) in enumerate(zip(alts, stops, strict=True)):
            batch.record[v + k], batch.allele[v + k] = r, k + 1
            batch.alt_at[v + k], batch.alt_len[v + k] = place, len(allele)
            batch.stop[v + k] = stop or int(position) + len(ref) - 1
            place += len(allele) + 1
        names = keys.split(b":")
        field = names.index(b"GT") if b"GT" in names else -1
        where = np.frombuffer(contig, np.uint8)
        size = len(alts[0]) if alts else 0
        index = np.uint64(coin_index(text, where, int(position), int(starts[3]), len(ref), int(starts[4]), size))
        _, why, sample = any_genotypes(text, int(starts[9]), field, len(alts), how, index, batch)
        cells = calls.split(b"\t")
        if why in (FEW, MANY):
            raise ValueError(f"{len(cells)} genotype columns, and the header names {len(self.samples)} samples")
        if why != FINE:
            call = cells[sample].split(b":")[field]
            wrong = "has more than two alleles" if why == PLOIDY else "is none"
            if why == NO_ALLELE:
                numbers = map(int, re.findall(rb"[0-9]+", call))
                wrong = f"names allele {max(numbers)}, and there are {len(alts)} ALT alleles"
            raise ValueError(f"the genotype {call[:60].decode('utf-8', 'replace')!r} of {self.samples[sample]} {wrong}")
        batch.n[0] = r + 1

    def _contig_at(self, text: NDArray[np.uint8], at: int, number: int) -> bytes:
        """Return the contig that the line at `at` names."""
        line = text[at : at + 1000].tobytes().split(b"\n")[0]
        name, *more = line.split(b"\t", 1)
        if not name or not more:
            raise DataError(f"{self.path}, record {number}: it has no column for a contig and more: {line[:60]!r}.")
        return name

    def _bcf_batches(self, how: Reading, offset: int, number: int) -> Iterator[tuple[str, NDArray[np.uint8], Batch]]:
        rest, batch = b"", self._new_batch()
        numbers = {name: key for key, name in self._keys.items()}
        keys = Keys(*(numbers.get(name, -1) for name in ("GT", "END", "SVLEN")))
        for piece in pieces(self.path, self._offset + offset):
            data = np.frombuffer(rest + piece, np.uint8)
            at, why = 0, FULL
            while why != ALL:
                contig = int.from_bytes(data[at + 8 : at + 12].tobytes(), "little") if at + 12 <= len(data) else -1
                name = self._contig_names.get(contig, "")
                _restart(batch, offset + at, number)
                at, why, sample = scan_bcf(data, at, contig, np.frombuffer(name.encode(), np.uint8), keys, how, batch)
                number += int(batch.n[0])
                head = data[at : at + 28].tobytes()
                position = int.from_bytes(head[12:16], "little", signed=True) + 1
                where = f"{self.path}, {name}:{position:,}, record {number}"
                if why == IRREGULAR:
                    raise DataError(f"{where}: its fields do not fit together.")
                if why in (PLOIDY, NO_ALLELE):
                    n_alts = int.from_bytes(head[26:28], "little") - 1
                    wrong = "has more than two alleles" if why == PLOIDY else f"names none of {n_alts} ALT alleles"
                    raise DataError(f"{where}: the genotype of {self.samples[sample]} {wrong}.")
                if batch.n[0]:
                    if contig not in self._contig_names:
                        raise DataError(f"{self.path}, record {number}: contig {contig} is not in the header.")
                    yield name, data, batch
                elif why == FULL:
                    raise DataError(f"{where}: it has too many alleles.")
            rest = data[at:].tobytes()
            offset += at
        if rest:
            raise damaged(self.path, "it ends inside a record")

    def _new_batch(self) -> Batch:
        return new_batch(len(self.samples), RECORDS, 2 * len(self.samples) + CARRIERS)


def _restart(batch: Batch, offset: int, number: int) -> None:
    """Empty a batch; its first record will be the one with this number, so many bytes behind the header."""
    batch.n[:] = 0
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


def _place(line: bytes) -> str:
    """Return contig and position of a line, as errors name them."""
    contig, position = (part[:60].decode("utf-8", "replace") for part in (line + b"\t\t").split(b"\t")[:2])
    return f"{contig}:{int(position):,}, " if position.isdecimal() else f"{contig}, "


def _is_apart(alt: bytes) -> bool:
    """Say whether an ALT allele is symbolic or a breakend, so that it may stand at a telomere."""
    return alt[:1] == b"<" or b"[" in alt or b"]" in alt or (len(alt) > 1 and b"." in (alt[:1], alt[-1:]))


def _stops(info: bytes, position: int, n_alts: int) -> list[int]:
    """Return the last base of each symbolic allele, by END, or else by SVLEN; 0 where neither says."""
    fields = [part.partition(b"=") for part in info.split(b";")]
    values = {key: value for key, _, value in reversed(fields)}  # the first of two
    end = values.get(b"END", b".")
    if end not in (b".", b""):
        if not _is_position(end):
            raise ValueError(f"its END {end[:60].decode('utf-8', 'replace')!r} is no number from 1")
        return [int(end)] * n_alts
    lengths = [value.lstrip(b"-") for value in values.get(b"SVLEN", b".").split(b",")]
    if len(lengths) == 1:
        lengths *= n_alts
    if len(lengths) != n_alts:
        return [0] * n_alts
    return [position + int(length) if _is_position(length) else 0 for length in lengths]


def _is_position(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 1000 and 1 <= int(text) <= FARTHEST
