"""The catalogue of public data: names, files, addresses, checksums, licences and citations; and where files are here.

The catalogue is data (``kleiber/data/sources.toml``), read when it is needed. A study names its entries and never
downloads by itself: a run that stops in the middle for 36 GB, or a compute node without network, would be a surprise;
the error says which command to run where there is one. Rejected: a registry file made by pooch, which has no place for
licences, citations, contigs or mirrors.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from kleiber.errors import ConfigError, DataError, UnknownContig, UnknownName
from kleiber.genome.assembly import canonical_name

__all__ = [
    "DATA",
    "DATA_VARIABLE",
    "Source",
    "SourceFile",
    "address_of",
    "catalogue",
    "data_folders",
    "find_file",
    "find_source",
    "parse_checksums",
    "select",
    "source_files",
]

DATA = Path("data")  # of the current folder, as out/ is
DATA_VARIABLE = "KLEIBER_DATA"
DIGESTS = {32: "md5", 64: "sha256"}  # hexadecimal digits: algorithm


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes
    ----------
    name
        Its name at the source and here.
    contig
        The only contig that it holds; empty for a file of all.
    size
        In bytes; 0 where it is not known before the source is asked.
    md5, sha256
        Hexadecimal; empty where not known here.
    begins
        What the text begins with, for files of which nobody publishes a checksum.
    """

    name: str
    contig: str = ""
    size: int = 0
    md5: str = ""
    sha256: str = ""
    begins: str = ""

    def __post_init__(self) -> None:
        assert re.fullmatch(r"\w[\w.+-]*", self.name, re.ASCII), f"{self.name!r} could leave its folder"

    @property
    def digest(self) -> tuple[str, str] | None:
        """The algorithm and the hexadecimal digest, or None."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5) if self.md5 else None


@dataclass(frozen=True)
class Source:
    """One entry of the catalogue.

    Attributes
    ----------
    kind
        ``"assembly"``, ``"panel"`` or ``"table"``.
    addresses
        Folders that hold the files, with a slash at the end: the source first, then its mirrors.
    checksums
        The source's own list of checksums, a file in those folders; empty where there is none.
    """

    name: str
    kind: str
    title: str
    licence: str
    terms: str
    citation: str
    doi: str
    addresses: tuple[str, ...]
    files: tuple[SourceFile, ...]
    checksums: str = ""


@cache
def catalogue() -> dict[str, Source]:
    """Return every source by its name, in the order of the catalogue."""
    text = (files("kleiber") / "data" / "sources.toml").read_text(encoding="utf-8")
    return {name: _source(name, entry) for name, entry in tomllib.loads(text).items()}


def _source(name: str, entry: dict) -> Source:
    listed = tuple(SourceFile(**file) for file in entry.pop("files"))
    return Source(name=name, addresses=tuple(entry.pop("addresses")), files=listed, **entry)


def find_source(name: str, kind: str = "", where: str = "the catalogue") -> Source:
    """Return a source by its name, of one kind where that is given.

    Raises
    ------
    UnknownName
        Names the nearest.
    """
    known = {known: source for known, source in catalogue().items() if kind in ("", source.kind)}
    if name not in known:
        raise UnknownName(name, known, where, kind or "source")
    return known[name]


def address_of(folder: str, name: str) -> str:
    """Return the address of a file in a folder."""
    return folder.rstrip("/") + "/" + quote(name)


def select(sources: Sequence[Source], contigs: Iterable[str]) -> list[tuple[Source, SourceFile]]:
    """Return the files of sources, of all or of some contigs.

    Of files that hold one contig each only those of the named contigs, by any alias, are returned; all, when none is.

    Raises
    ------
    UnknownContig
        When no file is of a named contig.
    """
    every = [(source, file) for source in dict.fromkeys(sources) for file in source.files]
    wanted = {canonical_name(contig): contig for contig in contigs}
    known = {canonical_name(file.contig): file.contig for _, file in every if file.contig}
    for contig in wanted.keys() - known.keys():
        raise UnknownContig(wanted[contig], known.values(), " and ".join(source.name for source in sources))
    return [
        (source, file)
        for source, file in every
        if not (wanted and file.contig) or canonical_name(file.contig) in wanted
    ]


def parse_checksums(text: str) -> dict[str, SourceFile]:
    """Read a list of checksums.

    It is one of md5sum or sha256sum, or has columns of name, size and sum in any order. Only whole names count, so that
    a file of the same name in a subfolder is another; names are looked up, and never become paths.
    """
    found = {}
    for line in text.splitlines():
        fields = line.split()
        sums = [field for field in fields if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", field)]
        names = [field for field in fields if field not in sums and not field.isdigit()]
        if len(sums) != 1 or len(names) != 1:
            continue
        name = names[0].removeprefix("*").removeprefix("./")
        if re.fullmatch(r"\w[\w.+-]*", name, re.ASCII):
            size = next((int(field) for field in fields if field.isdigit() and field not in sums), 0)
            found[name] = SourceFile(name, size=size, **{DIGESTS[len(sums[0])]: sums[0].lower()})
    return found


def data_folders() -> list[Path]:
    """Return the folders that the environment variable ``KLEIBER_DATA`` names.

    Raises
    ------
    ConfigError
        When one of them is not there.
    """
    folders = [Path(name).expanduser() for name in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if name]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"{DATA_VARIABLE} names {folder}, and there is no such folder.\n  Make it, or correct it."
            )
    return folders


def find_file(name: str, folder: Path = DATA) -> Path | None:
    """Return where a file is here: in a folder of ``KLEIBER_DATA``, else in `folder`, else nowhere."""
    return next((path for place in (*data_folders(), folder) if (path := place / name).is_file()), None)


def source_files(source: Source) -> tuple[list[Path], list[SourceFile]]:
    """Return the files of a source that are here, and those that are not.

    Raises
    ------
    DataError
        When one has another size than the catalogue says.
    """
    here, absent = [], []
    for file in source.files:
        path = find_file(file.name)
        if path is None:
            absent.append(file)
            continue
        if file.size and path.stat().st_size != file.size:
            raise DataError(
                f"{path} is not the file that {source.name} names.\n"
                f"  It has {path.stat().st_size:,} bytes; the source's has {file.size:,}.\n"
                f"  Move it away and run: kleiber download {source.name}"
            )
        here.append(path.absolute())
    return here, absent
