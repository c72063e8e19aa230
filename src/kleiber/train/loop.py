"""Train one run: a trunk, and from it a cooldown for each budget of data; plain torch.

The run is one resumable unit: `metrics.jsonl` and `rows.json` hold the same bytes however often it was killed, because
a checkpoint knows how long the metrics were when it was taken and everything random is a function of the step. The
clock writes to a file of its own. Rejected: Lightning, Accelerate and Trainer, whose hooks hide the thirty lines that
matter here.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from kleiber import __version__, counter
from kleiber.corpus.sampling import Corpus
from kleiber.errors import StateError, Stopped
from kleiber.model.shortconv import network
from kleiber.signals import stop_asked
from kleiber.storage import naming, read_manifest, remove_partials, write_atomic, write_manifest
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.batches import Batch, Batches
from kleiber.train.checkpoint import load_state, restore, save_state, saved_precision, snapshot
from kleiber.train.clock import Clock, faster_precision
from kleiber.train.config import Branch, Run
from kleiber.train.devices import Devices, whole
from kleiber.train.evaluate import Evaluation
from kleiber.train.intervals import Intervals
from kleiber.train.optimizers import Optimizers
from kleiber.train.original import IGNORED, OriginalBatches
from kleiber.train.schedule import learning_rate
from kleiber.train.scoring import CLUSTERS, score_model
from kleiber.train.trackers import Tracker

__all__ = ["train"]

CHECKPOINT_SECONDS = 30.0  # what a kill can cost
DROPOUT = counter.stream_id("dropout")


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
    """
    if read_manifest(folder) is None:
        torch.set_num_threads(threads)
        devices = Devices(shard)
        folder.mkdir(parents=True, exist_ok=True)
        precision = _precision(run.train.precision, folder, devices)
        run = replace(run, train=replace(run.train, precision=precision))
        with stop_asked() as stop, naming(folder):
            training = _Training(run, corpus, tokenizer, evaluation, folder, progress, devices, stop, init, attention)
            training.tracker = tracker if devices.is_first else None
            training.intervals = intervals
            training.run_to_end()
        if devices.is_first:
            config = {**asdict(run), "corpus": corpus.fingerprint, "tokenizer": tokenizer.fingerprint}
            facts = {"run": run.name, "diverged": training.diverged, "config": config, "kleiber": __version__}
            write_manifest(folder, {**run.labels, **facts})
        devices.wait()
    return json.loads((folder / "rows.json").read_bytes())["rows"]


def _precision(asked: str, folder: Path, devices: Devices) -> str:
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
        run: Run,
        corpus: Corpus,
        tokenizer: Tokenizer,
        evaluation: Evaluation,
        folder: Path,
        progress: Callable[[float], None] | None,
        devices: Devices,
        stop: threading.Event,
        init: dict[str, torch.Tensor] | None,
        attention: str,
    ):
        self.run, self.folder, self.evaluation = run, folder, evaluation
        self.progress, self.devices, self.stop = progress or (lambda share: None), devices, stop
        self.tracker: Tracker | None = None
        self.clock = Clock(folder / "timing.jsonl", devices.device, run.train.precision)
        self.diverged = 0  # the step at which the loss was no number any more
        kind = OriginalBatches if run.train.original else Batches
        self.batches = kind(corpus, tokenizer, run.train, run.seed)
        self.branches = run.branches()
        self.intervals: Intervals | None = None
        self.model = network(run.model)
        self.model.initialise(run.seed, self.batches.frequencies)
        if init is not None:
            self.model.load_state_dict(init)
        self.model.use_attention(devices.attention(run.train.length) if attention == "auto" else attention)
        self.model.to(devices.device)
        wrapped = devices.wrap(self.model)
        self.forward = torch.compile(wrapped) if run.train.compile else wrapped
        self.no_sync = getattr(wrapped, "no_sync", nullcontext)  # DDP's; sharded gradients are reduced each time
        self.mine = devices.rows(run.train.batch)
        self.optimizers = Optimizers(self.model, run)
        self.step, self.n_bases = 0, 0
        self.rows: list[dict[str, Any]] = []
        self.saved_at = time.monotonic()
        scored = run.train.batch * run.train.n_masked
        self.flops_per_step = sum(run.model.flops(run.train.batch, run.train.length, scored).values())

    def run_to_end(self) -> None:
        """Go back to the last state on disk and train from there."""
        in_cooldown = self._resume()
        with open(self.folder / "metrics.jsonl" if self.devices.is_first else os.devnull, "ab") as self.metrics:
            for branch in self.branches[len(self.rows) :]:
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
        rows, metrics = self.folder / "rows.json", self.folder / "metrics.jsonl"
        length = 0
        if rows.exists():
            finished = json.loads(rows.read_bytes())
            self.rows, length = finished["rows"], finished["metrics"]
        trunk = self._load("trunk")
        if trunk and trunk["done"] == len(self.rows):
            length = trunk["metrics"]
        found = load_state(self.folder / "cooldown.safetensors")
        in_cooldown = found is not None and found[1]["done"] == len(self.rows)
        if found and in_cooldown:
            length = found[1]["metrics"]
            self._load("cooldown")
        self.devices.wait()  # all have read before one writes
        if self.devices.is_first:
            metrics.touch()
            if metrics.stat().st_size < length:  # truncate would fill it up with zeros
                raise StateError(
                    f"{metrics} is {metrics.stat().st_size:,} bytes long, and was {length:,} when the run was saved.\n"
                    f"  Put it back, or delete the folder {self.folder}: the run starts over."
                )
            os.truncate(metrics, length)
        return in_cooldown

    def _advance(self, branch: Branch | None, until: int) -> None:
        """Take optimizer steps up to `until`, on the trunk or in a cooldown."""
        phase = f"cooldown-{branch.tokens}" if branch else "trunk"
        finished = sum(b.end - b.start for b in self.branches[: len(self.rows)])
        while self.step < until and not self.diverged:
            rates = [
                learning_rate(self.run.train, peak, self.branches[0], branch, self.step)
                for peak in self.optimizers.peaks
            ]
            batch = self.batches[self.step]
            loss, norm, is_due, stop = self._update(batch, rates)
            self.step += 1
            self.n_bases += batch.n_bases
            self._log(phase, loss, rates[0], norm)
            self.clock.tick()
            if not isfinite(loss + norm):
                self.diverged = self.step
            if self.step % 8 == 0:
                self.progress((finished + self.step) / self.run.n_steps)
            if is_due or stop:
                self._save("cooldown" if branch else "trunk")
            if stop:
                raise Stopped(f"{self.run.name} stopped at step {self.step:,}, and is saved; the same command goes on.")

    def _update(self, batch: Batch, rates: list[float]) -> tuple[float, float, bool, bool]:
        """Take one optimizer step.

        Returns
        -------
        The batch's loss (nats a predicted token), the gradient's norm, and what the processes agreed on: whether a
        checkpoint is due, and whether to stop.
        """
        self.model.zero_grad(set_to_none=True)
        rows = range(self.run.train.batch)[self.mine]
        size = self.run.train.micro_batch or len(rows)
        total = torch.zeros(())
        for at in range(0, len(rows), size):
            part = slice(rows[at], rows[min(at + size, len(rows)) - 1] + 1)
            with self.no_sync() if at + size < len(rows) else nullcontext():
                total += self._backward(batch, part)
        clip = float("inf") if self.run.train.original else self.run.train.clip
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizers.step(rates)
        is_due = self.devices.is_first and time.monotonic() - self.saved_at > CHECKPOINT_SECONDS
        flags = [float(total) / self.devices.world, float(is_due), float(self.stop.is_set())]
        loss, due, stop = self.devices.agree(torch.tensor(flags, dtype=torch.float64)).tolist()
        return loss, whole(norm).item(), due > 0, stop > 0

    def _backward(self, batch: Batch, part: slice) -> torch.Tensor:
        """Add the gradient of some rows of a batch; return their part of its loss, times the processes.

        Times the processes, because DDP and FSDP average over them.
        """
        device, train = self.devices.device, self.run.train
        arrays = (batch.inputs, batch.positions, batch.labels, batch.weights)
        ids, positions, labels, weights = (torch.from_numpy(array[part]).to(device) for array in arrays)
        padding = None if batch.padding is None else torch.from_numpy(batch.padding[part]).to(device)
        if self.run.model.dropout:  # what is dropped is a function of the row too, or a resumed run would differ
            row = self.step * train.batch + part.start
            torch.manual_seed(int(counter.draws(self.run.seed, DROPOUT, row, 1)[0] >> np.uint64(1)))
        with torch.autocast(device.type, torch.bfloat16) if train.precision == "bf16" else nullcontext():
            logits = self.forward(ids, padding, positions)
        nats = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=IGNORED)
        loss = (nats.view(labels.shape).sum(1) * weights).sum() * self.devices.world
        loss.backward()
        return loss.detach().cpu()

    def _log(self, phase: str, loss: float, lr: float, norm: float) -> None:
        line = {
            "phase": phase,
            "step": self.step,
            "loss": loss,
            "lr": lr,
            "grad_norm": norm,
            "n_tokens": self.step * self.run.train.batch * self.run.train.length,
            "n_bases": self.n_bases,
            "flops": self.step * self.flops_per_step,
        }
        if self.devices.is_first:
            self.metrics.write(json.dumps(line).encode() + b"\n")
        if self.tracker is not None:
            self.tracker.log(line, self.step)

    def _finish(self, branch: Branch) -> None:
        """Score an annealed model and record its observation."""
        self._write_time()
        scores = score_model(self.model, self.evaluation, self.intervals)
        train, model = self.run.train, self.run.model
        tokens = branch.end * train.batch * train.length
        flops = branch.end * self.flops_per_step
        row = {
            **self.run.labels,
            "run": self.run.name,
            "architecture": model.architecture,
            "vocab_size": model.vocab_size,
            "layers": model.layers,
            "hidden": model.hidden,
            "heads": model.heads,
            "n_params": model.n_params,
            "n_params_non_embedding": model.n_params_non_embedding,
            "n_effective": flops / (6 * tokens),
            "n_tokens": tokens,
            "n_tokens_masked": branch.end * train.batch * train.n_masked,
            "n_bases": self.n_bases,
            "batch": train.batch,
            "steps": branch.end,
            "peak_lr": self.optimizers.peaks[0],
            "optimizer": train.optimizer,
            "schedule": train.schedule,
            "horizon": branch.end,
            "cooldown_fraction": train.cooldown if train.schedule == "wsd" else 1.0,
            "seed": self.run.seed,
            "annealed": True,
            **scores.columns,
            "train_loss": self._train_loss(branch) if self.devices.is_first else None,
            "flops": flops,
            "flops_6nd": 6 * model.n_params * tokens,
            "flops_optimizer": branch.end * self.optimizers.flops,
            "precision": train.precision,
            "threads": torch.get_num_threads(),
            "attention": self.model.bert.encoder.backend,
            "status": "done",
        }
        weights = {name: whole(tensor.detach()).cpu().clone() for name, tensor in self.model.named_parameters()}
        self.rows.append(row)
        if not self.devices.is_first:
            return
        checkpoint = self.folder / "checkpoints" / f"step-{branch.end}"
        save_state(checkpoint / "model.safetensors", weights, {**asdict(model), "precision": train.precision})
        write_atomic(checkpoint / CLUSTERS, scores.clusters.write_csv())
        self._sync_metrics()
        state = {"metrics": self.metrics.tell(), "rows": self.rows}
        write_atomic(self.folder / "rows.json", json.dumps(state, indent=1) + "\n")

    def _write_time(self) -> None:
        if self.devices.is_first:
            self.clock.write(self.step, self.run.train.batch * self.run.train.length, self.flops_per_step)

    def _train_loss(self, branch: Branch) -> float:
        """Return the mean training loss over the second half of a cooldown, from the metrics."""
        self.metrics.flush()
        lines = (json.loads(line) for line in (self.folder / "metrics.jsonl").read_bytes().splitlines())
        losses = [line["loss"] for line in lines if line["phase"] == f"cooldown-{branch.tokens}"]
        half = losses[len(losses) // 2 :]
        return sum(half) / len(half)

    def _save(self, name: str) -> None:
        """Write a checkpoint; every process takes part, because parameters may be in pieces."""
        state = snapshot(self.model, self.optimizers)
        self.saved_at = time.monotonic()
        if self.devices.is_first:
            self._write(name, state)
        self.devices.wait()

    def _write(self, name: str, state: dict[str, torch.Tensor]) -> None:
        self._write_time()
        self._sync_metrics()
        position = {
            "step": self.step,
            "n_bases": self.n_bases,
            "done": len(self.rows),
            "metrics": self.metrics.tell(),
            "precision": self.run.train.precision,
        }
        save_state(self.folder / f"{name}.safetensors", state, position)

    def _sync_metrics(self) -> None:
        """See the metrics on disk before anything refers to their length."""
        self.metrics.flush()
        os.fsync(self.metrics.fileno())

    def _load(self, name: str) -> dict[str, Any] | None:
        """Restore one checkpoint and return its position, or None when there is none."""
        found = load_state(self.folder / f"{name}.safetensors")
        if found is None:
            return None
        state, position = found
        self.devices.reshard(self.model)
        restore(state, self.model, self.optimizers)
        self.step, self.n_bases = position["step"], position["n_bases"]
        return position
