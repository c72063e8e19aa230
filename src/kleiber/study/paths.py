"""The files that a study names: relative to the study's own folder, or by a name of the catalogue.

Beside `kleiber.study.config`, which holds the tree, for a file is read in a sitting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kleiber.corpus.regions import is_bed
from kleiber.downstream.config import Task
from kleiber.errors import ConfigError, UnknownName
from kleiber.genome.samples import read_names
from kleiber.genome.sources import catalogue
from kleiber.study.tables import Arm, Genome

__all__ = ["EMBEDDED", "resolve_paths"]

EMBEDDED = "embedded"
TASK_FILES = ("variants", "reference", "train", "dev", "test")


def resolve_paths(
    genome: Genome, arms: dict[str, Arm], tasks: dict[str, Task], name: str, folder: Path
) -> tuple[Genome, dict[str, Arm], dict[str, Task]]:
    """Return the tables of study `name` with absolute file names.

    ``"embedded"`` and names of the catalogue stay.

    Raises
    ------
    ConfigError, UnknownName
        When a name can be none of a file, or is neither a panel's of the catalogue nor a file's.
    """

    def resolve(text: str, table: str = "genome") -> str:
        if "\0" in text:
            raise ConfigError(f"[{table}] names a file {text!r}, and no file's name holds a zero byte.")
        try:
            return text if text in ("", EMBEDDED) else str((folder / Path(text).expanduser()).absolute())
        except RuntimeError:
            raise ConfigError(f"[{table}] names a file {text!r}, and there is no such user.") from None

    def resolve_panel(text: str) -> str:
        panels = [source.name for source in catalogue().values() if source.kind == "panel"]
        if text in panels:
            return text
        path = resolve(text)
        if text != EMBEDDED and not set("./") & set(text) and not Path(path).exists():
            raise UnknownName(text, [EMBEDDED, *panels], f"[genome] panel of {name}", "panel or file")
        return path

    def resolve_beds(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(resolve(text) if is_bed(text, folder) else text for text in texts)

    table = genome.sample_table
    genome = replace(
        genome,
        include=resolve_beds(genome.include),
        exclude=resolve_beds(genome.exclude),
        samples=_resolve_samples(genome.samples, folder),
        sample_table=table if table in catalogue() else resolve(table),
        assemblies=tuple(resolve(text) for text in genome.assemblies),
        chromosomes=_resolve_table(genome.chromosomes, folder, resolve),
        reference=resolve(genome.reference),
        panel=tuple(resolve_panel(text) for text in genome.panel),
    )
    arms = {
        name: replace(arm, tokenizer=resolve(arm.tokenizer, f"arms.{name}")) if arm.tokenizer.endswith(".json") else arm
        for name, arm in arms.items()
    }
    arms = {name: replace(arm, samples=_resolve_samples(arm.samples, folder)) for name, arm in arms.items()}
    for key in TASK_FILES:
        made: dict[str, Any] = {name: {key: resolve(getattr(task, key), "downstream")} for name, task in tasks.items()}
        tasks = {name: replace(task, **made[name]) for name, task in tasks.items()}
    return genome, arms, tasks


def _resolve_samples(samples: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Return samples by their names; a lone name of a file stands for the names in it."""
    if len(samples) == 1 and "\0" not in samples[0] and (path := folder / samples[0]).is_file():
        return read_names(path)
    return samples


def _resolve_table(text: str, folder: Path, resolve: Callable[[str], str]) -> str:
    """Return the file of a table of chromosomes, absolute; the name of a chromosome stays."""
    return resolve(text) if text and ("/" in text or "\0" in text or (folder / text).is_file()) else text
