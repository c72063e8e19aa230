"""Train one run: a trunk, and from it a cooldown for each budget of data; plain torch.

The run is one resumable unit: `metrics.jsonl` and `rows.json` hold the same bytes however often it was killed, because
a checkpoint knows how long the metrics were when it was taken and everything random is a function of the step. The
clock writes to a file of its own. Where a device works on its own, losses are read back every few steps. Rejected:
Lightning, Accelerate and Trainer, whose hooks hide the thirty lines that matter here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from kleiber.corpus.sampling import Corpus
from kleiber.errors import Stopped
from kleiber.model.networks import network
from kleiber.signals import stop_asked
from kleiber.storage import naming, read_manifest, remove_partials
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.ahead import Ahead, Rows
from kleiber.train.batches import Batches
from kleiber.train.checkpoint import load_state, restore, save_state, saved_precision, snapshot
from kleiber.train.clock import Clock, faster_precision
from kleiber.train.config import Branch, Run
from kleiber.train.devices import Devices, whole
from kleiber.train.evaluate import Evaluation
from kleiber.train.intervals import Intervals
from kleiber.train.journal import Journal
from kleiber.train.original import OriginalBatches
from kleiber.train.schedule import learning_rate
from kleiber.train.scoring import score_model
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
            training = _Training(journal, corpus, tokenizer, evaluation, progress, devices, stop, init, attention)
            training.intervals = intervals
            try:
                training.run_to_end()
            except torch.OutOfMemoryError as error:
                raise no_memory(run, training.take.rows_at_once, devices, error) from error
        if devices.is_first:
            training.journal.complete(corpus, tokenizer, training.diverged)
        devices.wait()
    return json.loads((folder / "rows.json").read_bytes())["rows"]


def precision_of(asked: str, folder: Path, devices: Devices) -> str:
    """Return the precision of a run: what was asked for, else what it began in, else what is faster here."""
    if asked != "auto":
        return asked
    found = saved_precision(folder) or faster_precision(devices.device)
    return "bf16" if devices.agree(torch.tensor(float(devices.is_first and found == "bf16"))) > 0 else "fp32"


class _Training:
    """One run in progress.

    On disk while it runs: ``trunk.safetensors`` (the trunk, at the latest where the current cooldown left it) and
    ``cooldown.safetensors`` (a cooldown under way). Each knows how many budgets were done and how long the metrics
    were when it was saved; going back to it cuts the metrics to that length.
    """

    def __init__(
        self,
        journal: Journal,
        corpus: Corpus,
        tokenizer: Tokenizer,
        evaluation: Evaluation,
        progress: Callable[[float], None] | None,
        devices: Devices,
        stop: threading.Event,
        init: dict[str, torch.Tensor] | None,
        attention: str,
    ):
        run, folder = journal.run, journal.folder
        self.run, self.folder, self.evaluation, self.journal = run, folder, evaluation, journal
        self.progress, self.devices, self.stop = progress or (lambda share: None), devices, stop
        self.clock = Clock(folder / "timing.jsonl", devices.device, run.train.precision)
        self.diverged = 0  # the step at which the loss was no number any more
        self.branches = run.branches()
        self.intervals: Intervals | None = None
        self.model = network(run.model)
        kind = OriginalBatches if run.train.original else Batches
        batches = kind(corpus, tokenizer, run.train, run.seed)
        self.batches = Ahead(batches, devices.rows(run.train.batch), devices.device)
        self.model.initialise(run.seed, batches.frequencies)
        if init is not None:
            self.model.load_state_dict(init)
        self.model.use_attention(devices.attention(run.train.length) if attention == "auto" else attention)
        self.model.to(devices.device)
        self.take = Step(self.model, run, devices)
        self.optimizers = self.take.optimizers
        self.unread: list[dict[str, Any]] = []  # lines of steps whose losses are on the device alone
        self.outcomes = torch.zeros(devices.reads_every, 2, dtype=torch.float64, device=devices.device)
        self.step, self.n_bases = 0, 0
        self.saved_at = time.monotonic()

    def run_to_end(self) -> None:
        """Go back to the last state on disk and train from there."""
        in_cooldown = self._resume()
        with self.batches, self.journal.opened():
            if self.step == 0:
                self.take.fit(self.batches[0].tensors)
            for branch in self.branches[len(self.journal.rows) :]:
                if not in_cooldown:
                    self._advance(None, branch.start)
                    self._save("trunk")
                in_cooldown = False
                self._advance(branch, branch.end)
                if self.diverged:
                    break
                self._finish(branch)
                self._load("trunk")
        self.devices.wait()
        if self.devices.is_first:
            for name in ("trunk", "cooldown"):
                (self.folder / f"{name}.safetensors").unlink(missing_ok=True)
                remove_partials(self.folder / f"{name}.safetensors")

    def _resume(self) -> bool:
        """Restore what is on disk; say whether a cooldown is under way."""
        length = self.journal.length
        trunk = self._load("trunk")
        if trunk and trunk["done"] == len(self.journal.rows):
            length = trunk["metrics"]
        found = load_state(self.folder / "cooldown.safetensors")
        in_cooldown = found is not None and found[1]["done"] == len(self.journal.rows)
        if found and in_cooldown:
            length = found[1]["metrics"]
            self._load("cooldown")
        self.devices.wait()  # all have read before one writes
        if self.devices.is_first:
            self.journal.cut(length)
        return in_cooldown

    def _advance(self, branch: Branch | None, until: int) -> None:
        """Take optimizer steps up to `until`, on the trunk or in a cooldown."""
        finished = sum(b.end - b.start for b in self.branches[: len(self.journal.rows)])
        while self.step < until and not self.diverged:
            rates = [
                learning_rate(self.run.train, peak, self.branches[0], branch, self.step)
                for peak in self.optimizers.peaks
            ]
            batch = self.batches[self.step]
            self._update(batch, rates)
            self.step += 1
            self.n_bases += int(batch.n_bases)
            self.unread.append(self.journal.line(branch, self.step, rates[0], self.n_bases))
            self.clock.tick()
            is_due, stop = self._read(self.step == until)
            if self.step % 8 == 0:
                self.progress((finished + self.step) / self.run.n_steps)
            if is_due or stop:
                self._save("cooldown" if branch else "trunk")
            if stop and not self.diverged:
                raise Stopped(f"{self.run.name} stopped at step {self.step:,}, and is saved; the same command goes on.")

    def _update(self, batch: Rows, rates: list[float]) -> None:
        """Take one optimizer step; its outcome stays on the device."""
        loss, norm = self.take(batch.tensors, rates, self.step)
        outcome = self.outcomes[len(self.unread)]
        outcome[0].copy_(loss)
        outcome[1].copy_(norm)

    def _read(self, is_last: bool) -> tuple[bool, bool]:
        """Log the steps since the last reading when it is time to, up to the first whose loss is no number.

        Parameters
        ----------
        is_last
            Whether something else than a step comes next.

        Returns
        -------
        What the processes agreed on: whether a checkpoint is due, and whether to stop.
        """
        is_due = self.devices.is_first and time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
        asked, n = self.stop.is_set(), len(self.unread)
        alone = not self.devices.is_distributed and (is_due or asked)  # several have to read together
        if n < len(self.outcomes) and not (is_last or alone):
            return False, False
        losses, norms = self.outcomes[:n].T.tolist()
        flags = [loss / self.devices.world for loss in losses] + [float(is_due), float(asked)]
        *losses, due, stop = self.devices.agree(torch.tensor(flags, dtype=torch.float64)).tolist()
        for line, loss, norm in zip(self.unread, losses, norms, strict=True):
            line.update(loss=loss, grad_norm=norm)
            self.journal.log(line)
            if not isfinite(loss + norm):
                self.diverged = line["step"]
                break
        self.unread.clear()
        return due > 0, stop > 0

    def _finish(self, branch: Branch) -> None:
        """Score an annealed model and record its observation."""
        self._write_time()
        scores = score_model(self.model, self.evaluation, self.intervals)
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

    def _write_time(self) -> None:
        if self.devices.is_first:
            tokens = self.run.train.batch * self.run.train.length
            how = {"rows_at_once": self.take.rows_at_once, "recorded": int(self.take.is_recorded)}
            self.clock.write(self.step, tokens, self.run.flops_per_step, **how)

    def _save(self, name: str) -> None:
        """Write a checkpoint; every process takes part, because parameters may be in pieces.

        What has diverged is not kept: it would begin where the metrics do not end.
        """
        if self.diverged:
            return
        state = snapshot(self.model, self.optimizers)
        self.saved_at = time.monotonic()
        if self.devices.is_first:
            self._write(name, state)
        self.devices.wait()

    def _write(self, name: str, state: dict[str, torch.Tensor]) -> None:
        self._write_time()
        position = {
            "step": self.step,
            "n_bases": self.n_bases,
            "done": len(self.journal.rows),
            "metrics": self.journal.sync(),
            "rows_at_once": self.take.rows_at_once,
            "precision": self.run.train.precision,
        }
        save_state(self.folder / f"{name}.safetensors", state, position)

    def _load(self, name: str) -> dict[str, Any] | None:
        """Restore one checkpoint and return its position, or None when there is none."""
        found = load_state(self.folder / f"{name}.safetensors")
        if found is None:
            return None
        state, position = found
        self.devices.reshard(self.model)
        restore(state, self.model, self.optimizers)
        self.take.forget()
        self.take.rows_at_once = position["rows_at_once"]
        self.step, self.n_bases = position["step"], position["n_bases"]
        return position
