"""Errors that a user can act on.

Every message says what is wrong, where, both values, and what to do. The command line prints it without a traceback
and exits 2; anything that is not a `KleiberError` is our bug and keeps its traceback. The rejected alternative, plain
`ValueError` everywhere, cannot tell the two apart.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

__all__ = [
    "ConfigError",
    "DataError",
    "DownloadError",
    "KleiberError",
    "MissingDependency",
    "NoNetwork",
    "StateError",
    "Stopped",
    "SystemRefusal",
    "UnknownContig",
    "UnknownName",
    "UnknownSample",
    "nearest",
    "refusal",
]


class KleiberError(Exception):
    """Any error that the user can cause and mend."""


class DataError(KleiberError):
    """An input file is not what it has to be."""


class ConfigError(KleiberError):
    """A study file or an option cannot be used as it stands."""


class DownloadError(KleiberError):
    """A file could not be fetched, or what came is not the file that its source publishes."""


class NoNetwork(DownloadError):
    """Nothing answered, at any address."""


class StateError(KleiberError):
    """What is on disk does not belong to what was asked for: changed inputs, another study, a busy folder."""


class Stopped(KleiberError):
    """A signal ended the work, and all of it is on disk; the same command goes on. Exits 75 (try again)."""


class MissingDependency(KleiberError):
    """An optional package is needed for this step."""

    def __init__(self, package: str, extra: str):
        super().__init__(
            f"This step needs {package}, which is not installed.\n  Install it: pip install 'kleiber[{extra}]'"
        )


class SystemRefusal(KleiberError):
    """The operating system has no space, permission or memory to give."""


class UnknownName(KleiberError):
    """A name that is not among the known ones; the message lists the nearest.

    Parameters
    ----------
    kind
        What is being named, as a noun: ``"sample"``, ``"contig"``, ``"key"``.
    name, known
        The name asked for and those that exist.
    where
        The file or table in which it was looked up.
    """

    kind = "name"

    def __init__(self, name: str, known: Iterable[str], where: str = "", kind: str | None = None):
        known = list(known)
        what = kind or self.kind
        place = f" in {where}" if where else ""
        close = nearest(name, known)
        hint = f"Did you mean {' or '.join(repr(c) for c in close)}?" if close else _some(what, known)
        super().__init__(f"Unknown {what} {name!r}{place}.\n  {hint}")


class UnknownSample(UnknownName):
    """A sample that the panel does not hold."""

    kind = "sample"


class UnknownContig(UnknownName):
    """A contig that neither the file nor its aliases name."""

    kind = "contig"


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` known names most like `name`, best first."""
    return get_close_matches(name, list(known), n=n, cutoff=0.5)


def _some(what: str, known: list[str]) -> str:
    if not known:
        return f"There is no {what} at all."
    shown = ", ".join(known[:3])
    return f"There are {len(known)}: {shown}{', …' if len(known) > 3 else '.'}"


MORE_ROOM = "Make room, and give the same command again: what is done is kept."
MORE_MEMORY = "Give it more memory, or fewer workers and smaller batches; what is done is kept."
_REFUSED = {
    errno.ENOSPC: ("There is no space left for {path}", MORE_ROOM),
    errno.EDQUOT: ("The quota is used up, at {path}", MORE_ROOM),
    errno.EFBIG: ("{path} may not become as large as it has to.", "Raise the limit (ulimit -f)."),
    errno.EROFS: ("{path} cannot be written: its file system is read-only.", "Name another output."),
    errno.EACCES: ("There is no permission to open {path}.", "Ask for it, or name another file or folder."),
    errno.EPERM: ("What is needed of {path} is not permitted.", "Ask for it, or name another file or folder."),
    errno.ENOTDIR: ("{path} cannot be: a part of it is a file, not a folder.", "Name another path."),
    errno.ENAMETOOLONG: ("{path} is a longer name than the file system takes.", "Name a shorter one."),
    errno.EMFILE: ("Too many files are open, at {path}.", "Raise the limit (ulimit -n)."),
    errno.EIO: ("The disk fails at {path}.", "Look after the disk; what is done is kept."),
    errno.ENOMEM: ("There is no memory left, at {path}.", MORE_MEMORY),
}
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "can't start new thread")  # in errors of torch and Python


def refusal(error: BaseException) -> SystemRefusal | None:
    """Return what to say when the system, and not the program, is why something failed; else None."""
    from concurrent.futures.process import BrokenProcessPool

    if isinstance(error, OSError) and error.errno in _REFUSED:
        path = Path(error.filename if isinstance(error.filename, str | Path) else ".").absolute()
        what, advice = _REFUSED[error.errno]
        free = f" ({_free(path):,} bytes are free)." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return SystemRefusal(f"{what.format(path=path)}{free}\n  {advice}")
    if isinstance(error, BrokenProcessPool):
        return SystemRefusal(f"A worker process was killed; you may have run out of memory.\n  {MORE_MEMORY}")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    ):
        why = str(error).splitlines()[0] if str(error) else "no more can be had"
        return SystemRefusal(f"There is no memory left: {why}.\n  {MORE_MEMORY}")
    return None


def _free(path: Path) -> int:
    """Return the bytes that are free where a file is, or was to be."""
    return shutil.disk_usage(next(folder for folder in path.parents if folder.is_dir())).free
