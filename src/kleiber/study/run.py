"""The stages of a study in order: from files to a report, skipping whatever is done.

A study's output folder holds everything that is known about it; this module keeps no other state. The finished study
has a ``manifest.json``; a second call sees it and returns.
"""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Any

from kleiber import __version__
from kleiber.errors import ConfigError, KleiberError, StateError
from kleiber.genome.reference import reference_changes
from kleiber.storage import locked, read_manifest, write_atomic, write_manifest
from kleiber.study import analysis, downstream, stages, training
from kleiber.study.checks import check_tasks
from kleiber.study.config import EMBEDDED, Study, load_study
from kleiber.study.engine import POOL, Engine
from kleiber.study.machine import machine
from kleiber.study.progress import Narrator
from kleiber.study.tuning import tune

__all__ = ["run_study", "sweep_study"]


def run_study(path: Path, out: Path, engine: Engine = POOL) -> Path:
    """Run a whole study and return the path of its report.

    Parameters
    ----------
    path
        The study file.
    out
        Its output folder; made, resumed, or left as it is when the study is finished.
    engine
        What trains the models; the result does not depend on it.

    Raises
    ------
    ConfigError, DataError
        When the study or its inputs cannot be used; nothing is written before both have been read.
    StateError
        When `out` belongs to a different study, or another process is writing there.
    """
    study = load_study(path)
    report = out / "report.html"
    say = Narrator()
    if _is_finished(study, path, out):
        return report
    with locked(out):
        _prepare(study, path, out, say, engine)
        training.train_all(study, out, say, engine)
        downstream.score_downstream(study, out, say)
        with say.stage("observations and laws"):
            analysis.analyse(study, out)
        with say.stage("figures and report"):
            analysis.write_up(out)
        write_manifest(out, _manifest(study, out))
    return report


def sweep_study(path: Path, out: Path, task: tuple[int, int], engine: Engine = POOL) -> None:
    """Train a share of a study's runs: what one task of an array does. `run_study` then finds them done.

    Tasks may start together on machines that share the folder: the first prepares, the others wait for it.

    Parameters
    ----------
    task
        (i, n): of every n runs, the i-th (from 0).

    Raises
    ------
    ConfigError, DataError, StateError
        As `run_study` does; StateError also when runs failed.
    """
    study, say = load_study(path), Narrator()
    if _is_finished(study, path, out):
        return
    _prepare(study, path, out, say, engine)
    training.train_all(study, out, say, engine, task)


def _prepare(study: Study, path: Path, out: Path, say: Narrator, engine: Engine) -> None:
    """Lay down what every run reads: genome, tokenizers, corpora, and the machine's choices."""
    if engine.devices > 1 and study.ladder.stack > 1:
        raise ConfigError(
            f"[ladder] stack = {study.ladder.stack} trains runs at once on one device, "
            f"and --devices is {engine.devices}.\n  Leave one of the two out."
        )
    folder = out.resolve()
    with locked(folder.with_name(f"{folder.name}.prepare"), wait=True):
        _begin(study, path, out, say)
        for spec in study.tokenizers():
            with say.stage(f"tokenizer {stages.tokenizer_label(spec)}"):
                stages.tokenizer_of(study, out, spec)
        with say.stage("corpora"):
            stages.corpora(study, out)
        with say.stage("what is fastest here"):
            machine(study, stages.planned(study, out), out, engine.devices)
        tune(study, out, say, engine)


def _begin(study: Study, path: Path, out: Path, say: Narrator) -> None:
    """Build the genome and lay down the study; inputs that cannot be read leave no new folder behind."""
    is_begun, was_there = (out / "study.toml").exists(), out.exists()
    named = study.genome.assembly or study.genome.reference
    if not is_begun and named != EMBEDDED and stages.genome_files(study)[0] == stages.EMBEDDED_FILES["reference"]:
        say.line(f"{named} or its panel is not there: the study reads the embedded data instead.")
    try:
        with say.stage("genome"):
            check_tasks(study.downstream)
            reference, panel = stages.genome(study, out, say.line)
            downstream.prepare_tasks(study, out)
    except KleiberError:
        if not was_there:
            shutil.rmtree(out, ignore_errors=True)
        raise
    for line in reference_changes(reference):
        say.line(line)
    for entry in panel.manifest["contigs"] if panel else ():
        if entry["warning"]:
            say.line(entry["warning"])
    write_atomic(out / "study.toml", path.read_bytes())


def _refuse_other_study(path: Path, out: Path) -> None:
    old = out / "study.toml"
    if not old.exists() or old.read_bytes() == path.read_bytes():
        return
    was, now = old.read_text(encoding="utf-8").splitlines(), path.read_text(encoding="utf-8").splitlines()
    diff = "\n".join(f"  {line}" for line in difflib.unified_diff(was, now, str(old), str(path), lineterm="", n=0))
    raise StateError(
        f"{out} holds the results of a different study:\n{diff}\n"
        "  Run the changed study with another --out, or undo the change."
    )


def _manifest(study: Study, out: Path) -> dict[str, Any]:
    return {
        "study": study.study.name,
        "kleiber": __version__,
        "inputs": (read_manifest(out / "genome") or {})["inputs"],
    }


def _is_finished(study: Study, path: Path, out: Path) -> bool:
    """Say whether the study is complete; another study, and inputs that have changed since, are refused."""
    stages.genome_files(study)
    _refuse_other_study(path, out)
    if read_manifest(out) is None:
        return False
    stages.refuse_changed_inputs(out)
    return (out / "report.html").exists()
