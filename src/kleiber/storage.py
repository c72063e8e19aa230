"""How things land on disk: atomic files and folders, manifests, fingerprints, locks.

A unit of work is one folder. It is filled under a hidden name beside its final one, its ``manifest.json`` is written
last, everything is flushed, and one rename makes it visible: a reader sees all of it or nothing, and a killed writer
leaves only a hidden folder that the next writer removes. Nothing else in the package decides how things land.
Rejected: a database or an array store, which would hide results from ``ls`` and from every other tool.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from kleiber.errors import DataError, StateError

__all__ = [
    "MANIFEST",
    "canonical_json",
    "digest",
    "file_digest",
    "fingerprint",
    "is_locked",
    "is_unchanged",
    "land",
    "link_or_copy",
    "locked",
    "naming",
    "read_manifest",
    "remove_partials",
    "staged_folder",
    "with_nulls",
    "write_atomic",
    "write_manifest",
]

MANIFEST = "manifest.json"


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-like value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a manifest records of an input file: name, size in bytes, mtime in ns, SHA-256."""
    stat = os.stat(path)
    return {
        "name": Path(path).name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_digest(path),
    }


def is_unchanged(path: str | os.PathLike[str], recorded: dict[str, Any]) -> bool:
    """Say whether a file still is the one that was recorded.

    Same size and same mtime is taken as the same file (as make and git do), so that an unchanged 30 GB panel costs
    nothing; when only the time differs, the bytes decide.
    """
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return False
    if stat.st_size != recorded["size"]:
        return False
    return stat.st_mtime_ns == recorded["mtime_ns"] or file_digest(path) == recorded["sha256"]


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give errors of the system the name of what was being written: those of write and close have none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a whole file so that a reader, or a crash, sees the old one or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path), open(partial, "wb") as handle:
            handle.write(data.encode() if isinstance(data, str) else data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _sync_folder(path.parent)


def land(partial: Path, path: Path) -> None:
    """Flush a finished file to the disk and give it its final name, in the same folder."""
    _sync_file(partial)
    os.replace(partial, path)
    _sync_folder(path.parent)


def remove_partials(path: Path) -> None:
    """Remove what writers of a file left that were killed before it landed."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        try:
            os.kill(int(partial.name.split(".")[-2]), 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
        except (ValueError, PermissionError):
            continue  # another file's, or a process of somebody else


def with_nulls(value: Any) -> Any:
    """Return what JSON can hold: null for what is no number, as the error is that one cluster cannot tell."""
    if isinstance(value, dict):
        return {key: with_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_nulls(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def write_manifest(folder: str | os.PathLike[str], manifest: dict[str, Any]) -> None:
    """Write ``manifest.json``, which marks a folder as complete, indented and with sorted keys."""
    text = json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(Path(folder) / MANIFEST, text + "\n")


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the manifest of a complete folder, or None when there is none.

    Raises
    ------
    DataError
        When the file is there but is no JSON object.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.\n  Delete the folder {path.parent} and make it again.") from error
    if not isinstance(manifest, dict):
        raise DataError(
            f"{path} is damaged: it holds no JSON object.\n  Delete the folder {path.parent} and make it again."
        )
    return manifest


@contextmanager
def staged_folder(path: str | os.PathLike[str], keep_partial: bool = False) -> Iterator[Path]:
    """Fill a folder under a hidden name; on success rename it to `path`, replacing an older one.

    The caller writes the manifest last, inside the block. With `keep_partial` what an earlier, killed writer left is
    handed on, and an error leaves the partial folder for the next one: for long jobs that resume piece by piece.

    Raises
    ------
    StateError
        When another process is writing the same folder, or `path` holds something that has no manifest: not ours.
    """
    path = Path(path).resolve()
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    with locked(path):
        if old.exists() and not path.exists():  # a writer died between its two renames
            os.replace(old, path)
        shutil.rmtree(old, ignore_errors=True)
        _refuse_strangers(path)
        if partial.exists() and not keep_partial:
            shutil.rmtree(partial)
        partial.mkdir(exist_ok=keep_partial)
        try:
            with naming(path):
                yield partial
            for file in sorted(partial.rglob("*")):
                _sync_file(file)
            _sync_folder(partial)
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
            _sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            if not keep_partial:
                shutil.rmtree(partial, ignore_errors=True)
            raise


def _refuse_strangers(path: Path) -> None:
    """Refuse to replace a file, or a folder that somebody else filled."""
    if not path.exists() or (path / MANIFEST).exists():
        return
    if found := path.name if path.is_file() else next((entry.name for entry in path.iterdir()), None):
        raise StateError(
            f"{path} is there already, and kleiber did not make it: it holds {found}.\n"
            "  Name another output, or move it away."
        )


@contextmanager
def locked(path: str | os.PathLike[str], wait: bool = False) -> Iterator[int]:
    """Hold the lock of one output path; yield its file descriptor.

    The operating system frees it when the process ends, however it ends, and so do all to which it passed the
    descriptor.

    With `wait`, wait for another process that holds it; the array tasks of a sweep prepare one after the other.

    Raises
    ------
    StateError
        When another process holds it; names its process id.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise StateError(
                f"{path} is being written by another process ({owner}).\n"
                "  Wait for it to end, or give this one another output."
            ) from None
        with suppress(OSError):  # who holds it is for the message alone: a full disk is told by what has to be written
            handle.truncate(0)
            os.write(handle.fileno(), f"process {os.getpid()}".encode())
        yield handle.fileno()


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Say whether a process holds the lock of an output path; needs no right to write there."""
    path = Path(path).resolve()
    try:
        with open(path.with_name(f".{path.name}.lock"), "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def link_or_copy(source: str, target: str) -> None:
    """Link a file, or copy it where links cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync_file(path: Path) -> None:
    if path.is_file():
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
