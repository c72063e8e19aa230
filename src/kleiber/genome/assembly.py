"""Contigs and their names: ``chr20``, ``20`` and ``NC_000020.11`` are one contig.

Matching is by name through this table and is checked by length where both sides state one. Rejected: stripping "chr"
on sight, which makes chrM of hg19 (another sequence) equal to MT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kleiber.errors import ConfigError

__all__ = ["Contig", "Region", "assembled", "canonical_name"]

_REFSEQ = re.compile(r"NC_0000(\d\d)\.\d+|NC_0609(\d\d)\.1")  # of GRCh37 and GRCh38, and of T2T-CHM13, from 25 on
_CHROMOSOMES = {*map(str, range(1, 23)), "X", "Y"}
_NAMES = {**{name: name for name in _CHROMOSOMES}, "M": "M", "MT": "M"}


@dataclass(frozen=True)
class Contig:
    """A contig of a reference: its name there and its length in bases."""

    name: str
    length: int


def canonical_name(name: str) -> str:
    """Return the name that all aliases of a human contig share; other names are their own."""
    if match := _REFSEQ.fullmatch(name):
        number = int(match[1]) if match[1] else int(match[2]) - 24
        return {23: "X", 24: "Y"}.get(number, str(number)) if 1 <= number <= 24 else name
    if name in ("NC_012920.1",):
        return "M"
    bare = name[3:] if name.lower().startswith("chr") else name
    return _NAMES.get(bare.upper(), name)


def assembled(names: Iterable[str]) -> set[str]:
    """Return those of some contigs that are human chromosomes 1–22, X or Y; all where none is.

    Alternate loci and unplaced scaffolds are left out: they repeat the chromosomes, held-out ones as well.
    """
    everything = set(names)
    return {name for name in everything if canonical_name(name) in _CHROMOSOMES} or everything


@dataclass(frozen=True)
class Region:
    """A stretch of a contig, 0-based and half-open; printed 1-based and inclusive, as samtools does."""

    contig: str
    start: int
    end: int

    @classmethod
    def parse(cls, text: str, length: int | None = None) -> Region:
        """Read ``"20:1,000-2,000"`` (1-based, inclusive), or ``"20"`` for a whole contig of known `length`.

        Raises
        ------
        ConfigError
            When the text is no region.
        """
        match = re.fullmatch(r"(.+?):([0-9,]{1,19})-([0-9,]{1,19})", text)
        if match:
            start, end = (int(number.replace(",", "") or 0) for number in match.group(2, 3))
            if 1 <= start <= end:
                return cls(match[1], start - 1, end)
        elif length is not None and ":" not in text:
            return cls(text, 0, length)
        raise ConfigError(
            f"{text!r} is no region.\n  Write contig:start-end, 1-based and inclusive: 20:1,000,001-2,000,000."
        )

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"
