"""Open the genome that an option names: a panel store, or a FASTA that is read for the while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["open_genome"]


@contextmanager
def open_genome(reference: Path | None, panel: Path | None) -> Iterator[tuple[Any, Any]]:
    """Yield the reference and the panel (None for a FASTA).

    Raises
    ------
    ConfigError
        When not exactly one of them is named.
    """
    from tempfile import TemporaryDirectory

    from kleiber.errors import ConfigError
    from kleiber.genome.panel import Panel
    from kleiber.genome.reference import Reference

    if (panel is None) == (reference is None):
        raise ConfigError("Name either a panel (--panel STORE) or a reference (--reference FASTA).")
    if panel is not None:
        store = Panel.open(panel)
        yield store.reference, store
        return
    with TemporaryDirectory() as scratch:
        yield Reference.build(str(reference), Path(scratch) / "reference"), None
