"""Train every run of a study: what each of them is, where it lives, and how an engine calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from kleiber.study.stacks import Stack, ladder_stacks
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.config import Run, TrainConfig

if TYPE_CHECKING:
    from kleiber.train.evaluate import Evaluation
    from kleiber.train.intervals import Intervals
    from kleiber.train.stack import Member

__all__ = ["run_folder", "run_of", "train_all", "train_here", "train_stacks", "train_unit", "train_units_at_once"]

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
    tokens = study.budgets(unit)
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
    """Return how a unit is trained: a trial at its multiple of the given rates, others at that which trials found."""
    if not study.tune.sizes:
        return study.train
    factor = unit.factor or json.loads((out / "lr.json").read_bytes())["factor"]
    return study.train.times_lr(factor, factor)


def run_folder(out: Path, run: Run) -> Path:
    """Return where a run lives."""
    return out / "runs" / run.name


def train_unit(study: Study, out: Path, unit: Unit, choices: dict[str, Any], progress: Callable[[float], None]) -> None:
    """Train one unit in this process, or return at once when it is done."""
    with _held([run_folder(out, run_of(study, out, unit))]) as locks:
        if not locks:
            return
        if choices["devices"] > 1:
            train_on_devices(study, out, unit, choices, locks[0])
        else:
            train_here(study, out, unit, choices, progress)


def train_units_at_once(
    study: Study, out: Path, units: Stack, choices: dict[str, Any], progress: Callable[[float], None]
) -> None:
    """Train the units of a stack in this process, or return at once when all are done."""
    from kleiber.train.stack import train_stack

    runs = [run_of(study, out, unit) for unit in units]
    with _held([run_folder(out, run) for run in runs]) as locks:
        if locks:
            read = cache(lambda spec: _scored_on(study, out, spec))
            members = [
                _member(study, out, unit, settle(run, {**choices, "compiled_from": None}), *read(_spec(study, unit)))
                for unit, run in zip(units, runs, strict=True)
            ]
            train_stack(members, out / "stacks" / _stack_name(runs), choices["threads"], progress)


@contextmanager
def _held(folders: Sequence[Path]) -> Iterator[list[int]]:
    """Hold the folders of runs and leave in them what goes wrong; yields their locks, none when all are complete."""

    def are_complete() -> bool:
        return all(read_manifest(folder) is not None for folder in folders)

    if are_complete():
        yield []
        return
    with ExitStack() as held:
        # with waiting: what a killed driver or worker started may still be at it
        locks = [held.enter_context(locked(folder, wait=True)) for folder in folders]
        if are_complete():
            yield []
            return
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").unlink(missing_ok=True)
            (folder / "begun").touch()
        try:
            yield locks
        except Stopped:
            raise
        except Exception as error:
            told = refusal(error) or error
            for folder in folders:
                with suppress(OSError):  # where there is no space, there is none for this either
                    write_atomic(folder / "error.txt", f"{type(told).__name__}: {told}\n")
            raise


def train_here(study: Study, out: Path, unit: Unit, choices: dict[str, Any], progress: Callable[[float], None]) -> None:
    """Train one unit in this process, or as one of the processes of ``torchrun``."""
    from kleiber.train.loop import train

    run = settle(run_of(study, out, unit), choices)
    one = _member(study, out, unit, run, *_scored_on(study, out, _spec(study, unit)))
    what = one.corpus, one.tokenizer, one.evaluation, one.folder, choices["threads"], progress
    train(run, *what, attention=choices["attention"], intervals=one.intervals)


def _spec(study: Study, unit: Unit) -> str:
    return study.arms[unit.arm].tokenizer


def _scored_on(study: Study, out: Path, spec: str) -> tuple[Tokenizer, Evaluation, Intervals]:
    """Return a tokenizer, and the held-out rows and intervals that its models are scored on."""
    from kleiber.train.intervals import lay_intervals
    from kleiber.train.scoring import held_out

    tokenizer = stages.tokenizer_of(study, out, spec)
    heldout = stages.heldout_corpus(study, out, spec)
    evaluation = held_out(heldout, tokenizer, study.train, study.study.seed, *stages.genome(study, out))
    return tokenizer, evaluation, lay_intervals(heldout, tokenizer, study.train)


def _member(
    study: Study,
    out: Path,
    unit: Unit,
    run: Run,
    tokenizer: Tokenizer,
    evaluation: Evaluation,
    intervals: Intervals,
) -> Member:
    """Return what training a unit takes, alone or in a stack."""
    from kleiber.train.stack import Member

    corpus = stages.corpus_of(study, out, unit.arm, unit.unique, seed=unit.seed)
    return Member(run, corpus, tokenizer, evaluation, run_folder(out, run), intervals)


def _stack_name(runs: Sequence[Run]) -> str:
    """Return what a stack is called: a size, how many runs, and six digits of the hash of all that decides them."""
    hashes = [run.labels["config_hash"] for run in runs]
    return f"{runs[0].labels['size']}.x{len(runs)}.{digest(hashes)[:6]}"


def train_all(study: Study, out: Path, say: Narrator, engine: Engine = POOL, task: tuple[int, int] = (0, 1)) -> None:
    """Train whatever is not trained yet.

    Parameters
    ----------
    engine
        What runs the units; the bytes of the result do not depend on it.
    task
        (i, n): of every n stacks, in the order of the study, the i-th (from 0); of runs where none are trained at once.

    Raises
    ------
    KleiberError
        When runs failed; the others are complete.
    Stopped
        When SIGTERM or SIGUSR1 came; what is under way is saved.
    """
    number, of = task
    train_stacks(study, out, ladder_stacks(study, out)[number::of], say, engine, "training")


def train_stacks(study: Study, out: Path, stacks: Sequence[Stack], say: Narrator, engine: Engine, what: str) -> None:
    """Train those of some units that are not trained yet, each stack as one piece of work.

    Raises
    ------
    StateError, Stopped
        As `train_all` does.
    """
    choices = machine(study, stages.planned(study, out), out, engine.devices)
    runs = [[run_of(study, out, unit) for unit in stack] for stack in stacks]
    todo = [
        _job(study, out, stack, own, choices)
        for stack, own in zip(stacks, runs, strict=True)
        if any(read_manifest(run_folder(out, run)) is None for run in own)
    ]
    if not todo:
        return
    failed: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        say.line(f"  {outcome.name:<40} {'failed' if outcome.error else 'done'}")
        if outcome.error:
            failed.append(outcome)

    kind = "runs" if study.ladder.stack == 1 else "stacks"
    with say.bar(f"{what}: {len(todo)} {kind}") as told:
        if engine.kind == "ray":
            run_on_ray(todo, choices, engine.address, told, ended)
        else:
            run_jobs(todo, min(choices["workers"], len(todo)), choices["threads"], told, ended)
    if failed:
        problems = "\n".join(f"{outcome.name}: {outcome.error}" for outcome in failed)
        raise StateError(
            f"{len(failed)} of {len(todo)} {kind} failed:\n{problems}\n"
            "  The others are complete; the same command tries these again."
        )


def _job(study: Study, out: Path, stack: Stack, runs: Sequence[Run], choices: dict[str, Any]) -> Job:
    work = sum(run.n_steps * run.flops_per_step for run in runs) + max(run.n_steps for run in runs) * OVERHEAD
    if len(runs) == 1:
        return Job(runs[0].name, train_unit, (study, out, stack[0], choices), work)
    return Job(_stack_name(runs), train_units_at_once, (study, out, stack, choices), work)
