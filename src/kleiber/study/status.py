"""Where every run of a study stands, read from its folders alone."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from kleiber.storage import is_locked, read_manifest
from kleiber.study import stages, training
from kleiber.study.config import Study

__all__ = ["RunStatus", "status"]

STATES = ("done", "diverged", "running", "stopped", "failed", "missing")


@dataclass(frozen=True)
class RunStatus:
    """One run: its state, how many steps it has logged of how many, its last loss and steps a second."""

    run: str
    arm: str
    size: str
    seed: int
    state: str
    steps: int = 0
    n_steps: int = 0
    loss: float | None = None
    rate: float | None = None
    error: str = ""


def status(study: Study, out: Path) -> list[RunStatus]:
    """Return the state of every run, in the order of the study.

    ``running`` is a run whose folder a process holds at this moment; ``stopped`` one that has begun and nobody holds.
    """
    is_prepared = (out / "lr.json").exists() or not study.tune.sizes
    if (
        not is_prepared
        or read_manifest(out / "genome") is None
        or any(read_manifest(out / "tokenizer" / stages.tokenizer_label(spec)) is None for spec in study.tokenizers())
    ):
        return [RunStatus("", unit.arm, unit.size, unit.seed, "missing") for unit in study.units()]
    found = []
    for unit in study.units():
        run = training.run_of(study, out, unit)
        folder = training.run_folder(out, run)
        steps, loss, rate = _progress(folder / "metrics.jsonl")
        state = "missing"
        error = ""
        if (manifest := read_manifest(folder)) is not None:
            state = "diverged" if manifest.get("diverged") else "done"
            error = f"no finite loss at step {manifest['diverged']:,}" if manifest.get("diverged") else ""
        elif is_locked(folder):
            state = "running"
        elif (folder / "error.txt").exists():
            state, error = "failed", (folder / "error.txt").read_text(encoding="utf-8").partition("\n")[0]
        elif steps:
            state = "stopped"
        known = run.name, unit.arm, unit.size, unit.seed, state, steps, run.n_steps, loss
        found.append(RunStatus(*known, rate if state == "running" else None, error))
    return found


def _progress(path: Path) -> tuple[int, float | None, float | None]:
    """Return how many steps are logged, the last loss, and steps a second since the file was made."""
    try:
        lines = path.read_bytes().splitlines()
        about = os.stat(path)
    except FileNotFoundError:
        return 0, None, None
    loss = None
    for line in reversed(lines):
        try:
            loss = json.loads(line)["loss"]
            break
        except (ValueError, KeyError):  # a line half written
            continue
    begun = path.with_name("begun")
    seconds = about.st_mtime - begun.stat().st_mtime if begun.exists() else 0.0
    return len(lines), loss, len(lines) / seconds if seconds > 1 and time.time() - about.st_mtime < 600 else None
