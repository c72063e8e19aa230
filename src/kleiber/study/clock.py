"""How long a study will take on this machine, from a few steps of each of its models.

Runs are measured as they will run: as many side by side, with as many threads, through the same loop on random DNA.
The time of a step is the median between one step's metrics and the next's, so that what a run costs but once (building
the model, scoring, saving) does not count, nor what else the machine did for a moment. Models beyond `LARGEST`
parameters are not tried: their time follows from their operations. Rejected: the difference between a short run and a
longer one, which for small models is mostly the noise of what both have in common.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.errors import StateError
from kleiber.genome.assembly import Region
from kleiber.study.config import Study
from kleiber.study.engine import Job, run_jobs
from kleiber.study.plan import STAGES, Plan, PlannedRun
from kleiber.train.config import Run, TrainConfig

__all__ = ["COMPILING", "GPU", "LARGEST", "measure_rates", "predict_seconds"]

Kind = tuple[str, str, bool, int]

STEPS, MOST = 12, 400  # measured ones: at least, at most
SECONDS = 2.0  # of measured steps, where that many lie between the two
LARGEST = 3e7
OPERATIONS = 4e10  # of a measured step at most: rows are left out until it fits
COMPILING = 90.0  # seconds before a run
GPU = 1000  # times the operations of a processor are done in the time


def predict_seconds(study: Study, planned: Plan, choices: dict[str, Any]) -> float:
    """Return the wall seconds of a whole study on this machine, run as `kleiber.study.machine` chose.

    Runs are settled (`kleiber.study.machine.settle`): those that pay for it are compiled, which takes its time.
    """
    kinds: dict[Kind, PlannedRun] = {}
    for run in (*planned.runs, *planned.trials):
        kinds.setdefault(_kind(study, run), run)
    measured = {k: run for k, run in kinds.items() if run.model.n_params <= LARGEST}
    if not measured:
        smallest = min(kinds, key=lambda k: kinds[k].model.n_params)
        measured = {smallest: kinds[smallest]}
    pairs = [(run, kind[1]) for kind, run in measured.items()]
    found = measure_rates(pairs, choices)
    rates = dict(zip(measured, found, strict=True))
    largest = max(measured, key=lambda k: kinds[k].model.n_params)
    total = 0.0
    for run in (*planned.runs, *planned.trials):
        total += run.flops / rates.get(_kind(study, run), rates[largest])
        total += COMPILING * run.run.train.compile
    once, each = STAGES
    pieces = len({run.stack for run in planned.runs})
    return total / min(choices["workers"], pieces) + once + each * len(study.arms)


def _kind(study: Study, run: PlannedRun) -> Kind:
    """Return what runs have in common that take as long: size, tokenizer, whether compiled, how many at once."""
    return run.unit.size, study.arms[run.unit.arm].tokenizer, run.run.train.compile, run.stacked


def measure_rates(runs: Sequence[tuple[PlannedRun, str]], choices: dict[str, Any]) -> list[float]:
    """Return the operations a second of each run and tokenizer, as many side by side as `choices` says.

    Those of a run that is trained in a stack are its stack's.

    Raises
    ------
    StateError
        When one cannot be trained here.
    """
    with tempfile.TemporaryDirectory() as scratch:
        paths = [Path(scratch) / f"{i}.json" for i in range(len(runs))]
        jobs = [
            Job(planned.run.name, _measure, (planned.run, planned.stacked, spec, str(path), choices), 1.0)
            for (planned, spec), path in zip(runs, paths, strict=True)
        ]
        for outcome in run_jobs(jobs, choices["workers"], choices["threads"], lambda share: None, lambda outcome: None):
            if outcome.error:
                raise StateError(f"{outcome.name} cannot be measured: {outcome.error}")
        return [json.loads(path.read_text()) for path in paths]


def _measure(
    run: Run, stacked: int, spec: str, path: str, choices: dict[str, Any], progress: Callable[[float], None]
) -> None:
    """Write the operations a second of one kind of run, or of so many of it at once."""
    from kleiber.tokens.train import train_tokenizer
    from kleiber.train.devices import Devices
    from kleiber.train.evaluate import Evaluation
    from kleiber.train.loop import train
    from kleiber.train.stack import Member, train_stack

    dna: Any = _RandomDNA()
    spec = "6mer" if spec.endswith(("6mer", ".json")) else spec
    tokenizer = train_tokenizer(spec, dna.rows(np.arange(2000), 700))
    chosen = replace(run.train, precision=choices["precision"])
    most = OPERATIONS * (GPU if choices["gpus"] else 1)
    settings = _with_rows(chosen, max(1, min(chosen.batch, int(chosen.batch * most / (stacked * run.flops_per_step)))))
    rows = settings.batch
    model = replace(run.model, vocab_size=tokenizer.vocab_size)
    evaluation = Evaluation.of(dna, tokenizer, settings, 1)
    every = Devices().reads_every
    steps = STEPS * every
    for _ in range(2):  # the first run compiles kernels, and tells how many steps are enough
        short = replace(run, model=model, train=settings, tokens=(steps * rows * settings.length,))
        stopwatch = _Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            threads, attention = choices["threads"], choices["attention"]
            if stacked == 1:
                train(short, dna, tokenizer, evaluation, out, threads, tracker=stopwatch, attention=attention)
            else:
                one = Member(short, dna, tokenizer, evaluation, out, tracker=stopwatch)
                others = [replace(one, folder=Path(folder) / str(i), tracker=None) for i in range(1, stacked)]
                train_stack([one, *others], Path(folder) / "stack", threads)
        seconds = statistics.median(stopwatch.seconds(every))
        steps = round(min(MOST, max(STEPS * every, SECONDS / seconds)))
    Path(path).write_text(json.dumps(stacked * run.flops_per_step * rows / run.train.batch / seconds))


def _with_rows(train: TrainConfig, rows: int) -> TrainConfig:
    """Return the settings with a smaller batch, of whole micro-batches, which may have to be smaller, too."""
    micro = min(train.micro_batch, rows)
    return replace(train, batch=rows - rows % micro if micro else rows, micro_batch=micro, eval_rows=2)


class _Stopwatch:
    """A tracker that notes when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def log(self, values: dict[str, Any], step: int) -> None:
        self.times.append(time.perf_counter())

    def finish(self) -> None:
        pass

    def seconds(self, every: int) -> list[float]:
        """Return the seconds of a step, several times over, where `every` so many are told of together."""
        return [(after - before) / every for before, after in zip(self.times, self.times[every:], strict=False)]


class _RandomDNA:
    """What stands for a corpus while the clock runs: random bases, as many as are asked for."""

    fingerprint = "random"
    territory = (Region("random", 0, 1_000_000),)

    class config:
        window = 700

    def rows(self, indices: np.ndarray, n_bases: int) -> np.ndarray:
        draw = np.random.default_rng(int(indices[0]))
        return np.frombuffer(b"ACGT", np.uint8)[draw.integers(0, 4, (len(indices), n_bases))]

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return self.rows(indices, self.config.window)

    def tiles(self, stride: int) -> list[tuple[str, int]]:
        return [("random", k * stride) for k in range(2)]

    def tile_rows(self, tiles: list[tuple[str, int]], n_bases: int) -> np.ndarray:
        return self.rows(np.arange(len(tiles)), n_bases)
