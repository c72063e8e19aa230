"""Open the genome that an option names: a panel store, or a FASTA that is read for the while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["open_genome", "open_pangenome"]


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


@contextmanager
def open_pangenome(
    files: tuple[Path, ...], reference: Path | None, panel: Path | None, chromosomes: str
) -> Iterator[Any]:
    """Yield assemblies, read for the while; `chromosomes` is a table's file, or a chromosome.

    Raises
    ------
    ConfigError
        When a panel is named, too.
    """
    from tempfile import TemporaryDirectory

    from kleiber.errors import ConfigError
    from kleiber.genome.assemblies import Assemblies, assembly_files, chromosomes_of
    from kleiber.genome.reference import Reference

    if panel is not None:
        raise ConfigError("Name either a panel (--panel STORE) or assemblies (--assemblies FASTA ...).")
    with TemporaryDirectory() as scratch:
        known = Reference.build(reference, Path(scratch) / "reference") if reference else None
        yield Assemblies.build_all(
            assembly_files(files), Path(scratch) / "assemblies", known, chromosomes_of(chromosomes)
        )
