"""Train one run: a trunk, and from it a cooldown for each budget of data; plain torch.

The run is one resumable unit: `metrics.jsonl` and `rows.json` hold the same bytes however often it was killed, because
a checkpoint knows how long the metrics were when it was taken and everything random is a function of the step. Here
is the order of things alone: a step is `kleiber.train.step`, its loss `readings`, what a kill leaves `states`, what a
run leaves `journal`, the score `scoring`. Rejected: Lightning, Accelerate and Trainer, whose hooks hide the thirty
lines that matter here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.corpus.sampling import Corpus
from kleiber.errors import Stopped
from kleiber.model.networks import network
from kleiber.signals import stop_asked
from kleiber.storage import naming, read_manifest
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.ahead import Ahead, Rows
from kleiber.train.batches import Batches
from kleiber.train.checkpoint import saved_precision
from kleiber.train.clock import Clock, faster_precision
from kleiber.train.config import Branch, Run
from kleiber.train.devices import Devices, whole
from kleiber.train.evaluate import Evaluation
from kleiber.train.intervals import Intervals
from kleiber.train.journal import Journal
from kleiber.train.original import OriginalBatches
from kleiber.train.readings import Readings
from kleiber.train.schedule import learning_rate
from kleiber.train.scoring import Scores, score_model
from kleiber.train.states import States
from kleiber.train.step import Step, no_memory
from kleiber.train.trackers import Tracker

__all__ = ["train"]

CHECKPOINT_SECONDS = 30.0  # what a kill can cost


def train(
    run: Run,
    corpus: Corpus,
    tokenizer: Tokenizer,
    evaluation: Evaluation,
    folder: Path,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
    init: dict[str, torch.Tensor] | None = None,
    shard: bool = False,
    tracker: Tracker | None = None,
    attention: str = "auto",
    intervals: Intervals | None = None,
) -> list[dict[str, Any]]:
    """Train one run to the end, or go on where it was stopped; return one observation a budget.

    Parameters
    ----------
    folder
        Where the run lives: ``metrics.jsonl``, ``timing.jsonl``, ``rows.json``, and ``manifest.json`` when complete.
    threads
        Threads to compute with; the bytes of the result depend on it.
    progress
        Called now and then with the share of steps done.
    init
        Weights to start from, by name; `run.init` has to be their hash.
    shard
        Under ``torchrun``, cut the parameters into pieces (FSDP2) instead of giving each process all (DDP).
    tracker
        Is shown every line of the metrics.
    attention
        How attention is computed, one of `kleiber.model.config.BACKENDS`, or ``"auto"`` for what is usually fastest on
        the device; the bytes of the result depend on it.
    intervals
        Score every annealed model on these, too.

    Raises
    ------
    Stopped
        When SIGTERM or SIGUSR1 came; everything is saved.
    SystemRefusal
        When a GPU has too little memory.
    """
    if read_manifest(folder) is None:
        torch.set_num_threads(threads)
        devices = Devices(shard)
        folder.mkdir(parents=True, exist_ok=True)
        precision = precision_of(run.train.precision, folder, devices)
        run = replace(run, train=replace(run.train, precision=precision))
        with stop_asked() as stop, naming(folder):
            journal = Journal(run, folder, devices.is_first, tracker if devices.is_first else None)
            training = _Training(journal, corpus, tokenizer, devices, stop, progress, init, attention)
            try:
                training.run_to_end(lambda model: score_model(model, evaluation, intervals))
            except torch.OutOfMemoryError as error:
                raise no_memory(run, training.take.rows_at_once, devices, error) from error
        if devices.is_first:
            journal.complete(corpus, tokenizer, training.readings.diverged)
        devices.wait()
    return json.loads((folder / "rows.json").read_bytes())["rows"]


def precision_of(asked: str, folder: Path, devices: Devices) -> str:
    """Return the precision of a run: what was asked for, else what it began in, else what is faster here."""
    if asked != "auto":
        return asked
    found = saved_precision(folder) or faster_precision(devices.device)
    return "bf16" if devices.agree(torch.tensor(float(devices.is_first and found == "bf16"))) > 0 else "fp32"


class _Training:
    """One run in progress: its parts, and how far it is."""

    def __init__(
        self,
        journal: Journal,
        corpus: Corpus,
        tokenizer: Tokenizer,
        devices: Devices,
        stop: threading.Event,
        progress: Callable[[float], None] | None,
        init: dict[str, Tensor] | None,
        attention: str,
    ):
        run = journal.run
        self.run, self.journal, self.devices = run, journal, devices
        self.progress = progress or (lambda share: None)
        self.clock = Clock(journal.folder / "timing.jsonl", devices.device, run.train.precision)
        self.branches = run.branches()
        batches = (OriginalBatches if run.train.original else Batches)(corpus, tokenizer, run.train, run.seed)
        self.batches = Ahead(batches, devices.rows(run.train.batch), devices.device)
        self.model = network(run.model)
        self.model.initialise(run.seed, batches.frequencies)
        if init is not None:
            self.model.load_state_dict(init)
        self.model.use_attention(devices.attention(run.train.length) if attention == "auto" else attention)
        self.model.to(devices.device)
        self.take = Step(self.model, run, devices)
        self.optimizers = self.take.optimizers
        self.states = States(journal, self.take, devices)
        self.readings = Readings(journal, devices, stop)
        self.step, self.n_bases = 0, 0

    def run_to_end(self, score: Callable[[torch.nn.Module], Scores]) -> None:
        """Go back to the last state on disk and train from there; `score` is asked of each annealed model."""
        position, in_cooldown = self.states.resume()
        self._stand_at(position)
        with self.batches, self.journal.opened():
            if self.step == 0:
                self.take.fit(self.batches[0].tensors)
            for branch in self.branches[len(self.journal.rows) :]:
                if not in_cooldown:
                    self._advance(None, branch.start)
                    self._save("trunk")
                in_cooldown = False
                self._advance(branch, branch.end)
                if self.readings.diverged:
                    break
                self._finish(branch, score)
                self._stand_at(self.states.load("trunk"))
        self.states.remove()

    def _stand_at(self, position: dict[str, Any] | None) -> None:
        if position is not None:
            self.step, self.n_bases = position["step"], position["n_bases"]

    def _advance(self, branch: Branch | None, until: int) -> None:
        """Take optimizer steps up to `until`, on the trunk or in a cooldown."""
        finished = sum(b.end - b.start for b in self.branches[: len(self.journal.rows)])
        while self.step < until and not self.readings.diverged:
            rates = [
                learning_rate(self.run.train, peak, self.branches[0], branch, self.step)
                for peak in self.optimizers.peaks
            ]
            batch = self.batches[self.step]
            outcome = self._update(batch, rates)
            self.step += 1
            self.n_bases += int(batch.n_bases)
            self.readings.keep(self.journal.line(branch, self.step, rates[0], self.n_bases), *outcome)
            self.clock.tick()
            is_late = time.monotonic() - self.states.saved_at > CHECKPOINT_SECONDS
            is_due, stop = self.readings.read(is_late, self.step == until)
            if self.step % 8 == 0:
                self.progress((finished + self.step) / self.run.n_steps)
            if is_due or stop:
                self._save("cooldown" if branch else "trunk")
            if stop and not self.readings.diverged:
                raise Stopped(f"{self.run.name} stopped at step {self.step:,}, and is saved; the same command goes on.")

    def _update(self, batch: Rows, rates: list[float]) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; its loss and norm stay on the device."""
        return self.take(batch.tensors, rates, self.step)

    def _finish(self, branch: Branch, score: Callable[[torch.nn.Module], Scores]) -> None:
        """Score an annealed model and record its observation."""
        self._write_time()
        scores = score(self.model)
        weights = {name: whole(tensor.detach()).cpu().clone() for name, tensor in self.model.named_parameters()}
        self.journal.add(
            branch,
            weights,
            scores,
            self.n_bases,
            peak_lr=self.optimizers.peaks[0],
            flops_optimizer=self.optimizers.flops,
            attention=self.model.bert.encoder.backend,
        )

    def _save(self, name: str) -> None:
        """Write a checkpoint; what has diverged is not kept: it would begin where the metrics do not end."""
        if not self.readings.diverged:
            self._write_time()
            self.states.save(name, self.step, self.n_bases)

    def _write_time(self) -> None:
        if self.devices.is_first:
            tokens = self.run.train.batch * self.run.train.length
            how = {"rows_at_once": self.take.rows_at_once, "recorded": int(self.take.is_recorded)}
            self.clock.write(self.step, tokens, self.run.flops_per_step, **how)
