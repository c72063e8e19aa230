"""One file that is to be had, what came of it, and whether what is there is that file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kleiber.errors import DataError, DownloadError
from kleiber.genome.bgzf import pieces
from kleiber.genome.sources import Source, SourceFile

__all__ = ["Outcome", "Wanted", "examine", "is_folder", "read_records", "with_sum"]

PIECE = 1 << 20  # bytes


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes
    ----------
    status
        ``"fetched"``; ``"checked"``, when it was here and not known yet; ``"there"``, when nothing had to be done.
    verified
        The source's own sum that it agrees with (``"md5 80e9…"``); empty when there was none to compare.
    note
        Why not.
    address
        Where it came from; empty for a file that was put here by hand.
    """

    source: str
    name: str
    path: str
    status: str
    size: int
    mtime_ns: int
    sha256: str
    verified: str
    note: str
    address: str


@dataclass(frozen=True)
class Wanted:
    """A file that is asked for: where it is here (None: nowhere), and why its sum is unknown, if it is."""

    source: Source
    file: SourceFile
    path: Path | None = None
    note: str = ""


def is_folder(address: str) -> bool:
    """Say whether an address can be that of a folder of files."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no host, as it should be written
        return False


def with_sum(item: Wanted, listed: dict[str, SourceFile] | None) -> Wanted:
    """Complete what the catalogue says of one file by its source's list, or say why its sum stays unknown.

    Raises
    ------
    DownloadError
        When the list does not name the file.
    """
    source, file = item.source, item.file
    if file.digest:
        return item
    if not source.checksums:
        return replace(item, note="the source publishes no checksum")
    if listed is None:
        return replace(item, note="the source's list of checksums is out of reach")
    if file.name not in listed:
        raise DownloadError(
            f"{source.checksums} of {source.name} names no {file.name}, so that it could not be checked.\n"
            f"  The source may have changed: look at {source.addresses[0]}"
        )
    return replace(item, file=replace(listed[file.name], contig=file.contig))


def examine(path: Path, file: SourceFile) -> dict[str, str]:
    """Return the checksums of a file that is what its source says.

    Raises
    ------
    DataError
        When its sum is another, or, without a sum to compare, when it is cut short or damaged.
    """
    algorithm, wanted = file.digest or ("sha256", "")
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", algorithm}}
    with open(path, "rb") as opened:
        head = opened.read(len(file.begins.encode()) or 2)
        opened.seek(0)
        while piece := opened.read(PIECE):
            for each in hashes.values():
                each.update(piece)
    sums = {name: each.hexdigest() for name, each in hashes.items()}
    if wanted and sums[algorithm] != wanted:
        raise DataError(f"its {algorithm} is {sums[algorithm]}, and the source's is {wanted}")
    if not wanted:
        if file.size and path.stat().st_size != file.size:
            raise DataError(f"it has {path.stat().st_size:,} bytes, and the source's has {file.size:,}")
        if file.begins and head != file.begins.encode():
            raise DataError(f"it begins with {head!r}, and the source's with {file.begins!r}")
        if file.name.endswith(".gz"):
            if head != b"\x1f\x8b":
                raise DataError(f"it begins with {head!r} and is no gzip file")
            for _ in pieces(path):
                pass
    return sums


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of the files of a folder, by their names.

    Raises
    ------
    DataError
        When the file that says so is damaged.
    """
    try:
        records = json.loads(path.read_bytes())
        if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
            raise ValueError("it is no table of files")
        return records
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.\n  Delete it: the files beside it are checked again.") from None
