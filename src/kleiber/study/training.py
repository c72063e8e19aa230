"""Train every run of a study: what each of them is, where it lives, and how an engine calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kleiber.errors import StateError, Stopped, refusal
from kleiber.model.config import shape_for
from kleiber.storage import digest, locked, read_manifest, write_atomic
from kleiber.study import stages
from kleiber.study.config import Study, Unit
from kleiber.study.devices import train_on_devices
from kleiber.study.engine import POOL, Engine, Job, Outcome, run_jobs
from kleiber.study.machine import machine, settle
from kleiber.study.progress import Narrator
from kleiber.study.ray_engine import run_on_ray
from kleiber.train.config import Run, TrainConfig

__all__ = ["run_folder", "run_of", "train_all", "train_here", "train_unit", "train_units"]

OVERHEAD = 2e9  # operations: what a step of a tiny model costs beside its arithmetic, to tell long jobs from short


def run_of(study: Study, out: Path, unit: Unit) -> Run:
    """Return what one unit trains.

    Its name ends in the first six digits of the hash of all that decides it.
    """
    arm = study.arms[unit.arm]
    tokenizer = stages.tokenizer_of(study, out, arm.tokenizer)
    corpus = stages.corpus_of(study, out, unit.arm, unit.unique, seed=unit.seed)
    heldout = stages.heldout_corpus(study, out, arm.tokenizer)
    label = stages.tokenizer_label(arm.tokenizer)
    model = shape_for(unit.size, tokenizer.vocab_size, study.train.dropout, study.model.architecture)
    tokens = (round(study.tune.tokens),) if unit.factor else tuple(round(d) for d in study.ladder.tokens)
    settings = _settings(study, out, unit)
    decides = [asdict(model), asdict(settings), tokens, unit.seed, corpus.fingerprint, tokenizer.fingerprint]
    config_hash = digest(decides)
    labels: dict[str, str | int | float] = {
        "config_hash": config_hash[:16],
        "arm": unit.arm,
        "corpus": arm.sampling,
        "tokenizer": label,
        "bases_per_token": stages.bases_per_token(out, arm.tokenizer),
        "size": unit.size,
        "unique": unit.unique,
        "n_unique_bases": corpus.describe()["n_unique_bases"],
        "eval_set": digest([heldout.fingerprint, tokenizer.fingerprint, study.train.eval_rows])[:12],
    }
    name = f"{arm.sampling}.{label}.{unit.size}.{config_hash[:6]}"
    return Run(name, model, settings, tokens, unit.seed, labels=labels)


def _settings(study: Study, out: Path, unit: Unit) -> TrainConfig:
    """Return how a unit is trained: a trial at a multiple of the given rate, others by the tuned rule, if any."""
    if unit.factor:
        return replace(study.train, lr=study.train.base_lr * unit.factor)
    if not study.tune.sizes:
        return study.train
    tuned = json.loads((out / "lr.json").read_bytes())
    return replace(study.train, **{key: tuned[key] for key in ("lr", "lr_size", "lr_exponent")})


def run_folder(out: Path, run: Run) -> Path:
    """Return where a run lives."""
    return out / "runs" / run.name


def train_unit(study: Study, out: Path, unit: Unit, choices: dict[str, Any], progress: Callable[[float], None]) -> None:
    """Train one unit in this process, or return at once when it is done."""
    run = run_of(study, out, unit)
    folder = run_folder(out, run)
    if read_manifest(folder) is not None:
        return
    with locked(folder, wait=True) as lock:  # what a killed driver or worker started may still be at it
        if read_manifest(folder) is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").unlink(missing_ok=True)
        (folder / "begun").touch()
        try:
            if choices["devices"] > 1:
                train_on_devices(study, out, unit, choices, lock)
            else:
                train_here(study, out, unit, choices, progress)
        except Stopped:
            raise
        except Exception as error:
            told = refusal(error) or error
            with suppress(OSError):  # where there is no space, there is none for this either
                write_atomic(folder / "error.txt", f"{type(told).__name__}: {told}\n")
            raise


def train_here(study: Study, out: Path, unit: Unit, choices: dict[str, Any], progress: Callable[[float], None]) -> None:
    """Train one unit in this process, or as one of the processes of ``torchrun``."""
    from kleiber.train.intervals import lay_intervals
    from kleiber.train.loop import train
    from kleiber.train.scoring import held_out

    run = settle(run_of(study, out, unit), choices)
    spec = study.arms[unit.arm].tokenizer
    tokenizer = stages.tokenizer_of(study, out, spec)
    heldout = stages.heldout_corpus(study, out, spec)
    evaluation = held_out(heldout, tokenizer, study.train, study.study.seed, *stages.genome(study, out))
    corpus = stages.corpus_of(study, out, unit.arm, unit.unique, seed=unit.seed)
    folder, threads, attention = run_folder(out, run), choices["threads"], choices["attention"]
    intervals = lay_intervals(heldout, tokenizer, study.train)
    train(run, corpus, tokenizer, evaluation, folder, threads, progress, attention=attention, intervals=intervals)


def train_all(study: Study, out: Path, say: Narrator, engine: Engine = POOL, task: tuple[int, int] = (0, 1)) -> None:
    """Train whatever is not trained yet.

    Parameters
    ----------
    engine
        What runs the units; the bytes of the result do not depend on it.
    task
        (i, n): of every n runs, in the order of the study, the i-th (from 0).

    Raises
    ------
    KleiberError
        When runs failed; the others are complete.
    Stopped
        When SIGTERM or SIGUSR1 came; what is under way is saved.
    """
    number, of = task
    train_units(study, out, study.units()[number::of], say, engine, "training")


def train_units(study: Study, out: Path, units: Sequence[Unit], say: Narrator, engine: Engine, what: str) -> None:
    """Train those of some units that are not trained yet.

    Raises
    ------
    StateError, Stopped
        As `train_all` does.
    """
    choices = machine(study, stages.planned(study, out), out, engine.devices)
    runs = [(unit, run_of(study, out, unit)) for unit in units]
    todo = [_job(study, out, *one, choices) for one in runs if read_manifest(run_folder(out, one[1])) is None]
    if not todo:
        return
    failed: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        say.line(f"  {outcome.name:<40} {'failed' if outcome.error else 'done'}")
        if outcome.error:
            failed.append(outcome)

    with say.bar(f"{what}: {len(todo)} runs") as told:
        if engine.kind == "ray":
            run_on_ray(todo, choices, engine.address, told, ended)
        else:
            run_jobs(todo, min(choices["workers"], len(todo)), choices["threads"], told, ended)
    if failed:
        problems = "\n".join(f"{outcome.name}: {outcome.error}" for outcome in failed)
        raise StateError(
            f"{len(failed)} of {len(todo)} runs failed:\n{problems}\n"
            "  The others are complete; the same command tries these again."
        )


def _job(study: Study, out: Path, unit: Unit, run: Run, choices: dict[str, Any]) -> Job:
    return Job(run.name, train_unit, (study, out, unit, choices), run.n_steps * (run.flops_per_step + OVERHEAD))
