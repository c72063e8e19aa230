"""Errors that a user can act on.

Every message says what is wrong, where, both values, and what to do. The command line prints it without a traceback
and exits 2; anything that is not a `KleiberError` is our bug and keeps its traceback. The rejected alternative, plain
`ValueError` everywhere, cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ConfigError",
    "DataError",
    "DownloadError",
    "KleiberError",
    "MissingDependency",
    "NoNetwork",
    "StateError",
    "Stopped",
    "UnknownContig",
    "UnknownName",
    "UnknownSample",
    "nearest",
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
