"""Train one run: a trunk, and from it a cooldown for each budget of data; plain torch.

The run is one resumable unit: `metrics.jsonl` and `rows.json` hold the same bytes however often it was killed, because
a checkpoint knows how long the metrics were when it was taken and everything random is a function of the step. The
clock writes to a file of its own. Rejected: Lightning, Accelerate and Trainer, whose hooks hide the thirty lines that
matter here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from kleiber import __version__
from kleiber.corpus.sampling import Corpus
from kleiber.model.dnabert2 import DNABERT2
from kleiber.storage import read_manifest, write_atomic, write_manifest
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.batches import Batch, Batches
from kleiber.train.checkpoint import load_state, restore, save_state, snapshot
from kleiber.train.config import Branch, Run
from kleiber.train.evaluate import Evaluation, score
from kleiber.train.intervals import lay_intervals, score_intervals
from kleiber.train.schedule import cooldown_lr, trunk_lr

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
    """
    if read_manifest(folder) is None:
        torch.set_num_threads(threads)
        folder.mkdir(parents=True, exist_ok=True)
        _Training(run, corpus, tokenizer, evaluation, folder, progress or (lambda share: None)).run_to_end()
        config = {**asdict(run), "corpus": corpus.fingerprint, "tokenizer": tokenizer.fingerprint}
        write_manifest(folder, {**run.labels, "run": run.name, "config": config, "kleiber": __version__})
    return json.loads((folder / "rows.json").read_bytes())["rows"]


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
        progress: Callable[[float], None],
    ):
        self.run, self.folder, self.evaluation, self.progress = run, folder, evaluation, progress
        self.batches = Batches(corpus, tokenizer, run.train, run.seed)
        self.branches = run.branches()
        self.intervals = lay_intervals(evaluation, tokenizer, 0)  # the same bases whatever the seed of a run
        self.model = DNABERT2(run.model)
        self.model.initialise(run.seed)
        self.optimizer = _optimizer(self.model, run)
        self.peak = run.train.peak_lr(run.model)
        self.warmup = max(1, round(run.train.warmup * self.branches[0].end))
        self.step, self.n_bases = 0, 0
        self.rows: list[dict[str, Any]] = []
        self.saved_at = time.monotonic()
        scored = run.train.batch * run.train.n_masked
        self.flops_per_step = sum(run.model.flops(run.train.batch, run.train.length, scored).values())

    def run_to_end(self) -> None:
        """Go back to the last state on disk and train from there."""
        in_cooldown = self._resume()
        with open(self.folder / "metrics.jsonl", "ab") as self.metrics:
            for branch in self.branches[len(self.rows) :]:
                if not in_cooldown:
                    self._advance(None, branch.start)
                    self._save("trunk")
                in_cooldown = False
                self._advance(branch, branch.end)
                self._finish(branch)
                self._load("trunk")
        for name in ("trunk", "cooldown"):
            (self.folder / f"{name}.safetensors").unlink(missing_ok=True)

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
        metrics.touch()
        os.truncate(metrics, length)
        return in_cooldown

    def _advance(self, branch: Branch | None, until: int) -> None:
        """Take optimizer steps up to `until`, on the trunk or in a cooldown."""
        phase = f"cooldown-{branch.tokens}" if branch else "trunk"
        finished = sum(b.end - b.start for b in self.branches[: len(self.rows)])
        while self.step < until:
            if branch:
                lr = cooldown_lr(self.peak, self.warmup, branch, self.step)
            else:
                lr = trunk_lr(self.peak, self.warmup, self.step)
            batch = self.batches[self.step]
            loss, norm = self._update(batch, lr)
            self.step += 1
            self.n_bases += batch.n_bases
            self._log(phase, loss, lr, norm)
            if self.step % 8 == 0:
                self.progress((finished + self.step) / self.run.n_steps)
            if time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
                self._save("cooldown" if branch else "trunk")

    def _update(self, batch: Batch, lr: float) -> tuple[float, float]:
        """Take one optimizer step; return the batch's loss (nats a predicted token) and the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        use_bf16 = self.run.train.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16) if use_bf16 else nullcontext():
            logits = self.model(torch.from_numpy(batch.inputs), rows=torch.from_numpy(batch.positions))
        loss = F.cross_entropy(logits.flatten(0, 1).float(), torch.from_numpy(batch.labels).flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.run.train.clip)
        self.optimizer.step()
        return loss.item(), norm.item()

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
        self.metrics.write(json.dumps(line).encode() + b"\n")

    def _finish(self, branch: Branch) -> None:
        """Score an annealed model and record its observation."""
        result = score(self.model, self.evaluation)
        by_interval = score_intervals(self.model, self.evaluation, self.intervals, self.batches.tokenizer)
        train, model = self.run.train, self.run.model
        tokens = branch.end * train.batch * train.length
        flops = branch.end * self.flops_per_step
        row = {
            **self.run.labels,
            "run": self.run.name,
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
            "peak_lr": self.peak,
            "schedule": "wsd",
            "horizon": branch.end,
            "cooldown_fraction": train.cooldown,
            "seed": self.run.seed,
            "annealed": True,
            "loss": result.loss,
            "loss_se": result.loss_se,
            "bits_per_base": result.bits_per_base,
            "bits_per_base_se": result.bits_per_base_se,
            "accuracy": result.accuracy,
            "bits_per_base_intervals": by_interval[0],
            "bits_per_base_intervals_se": by_interval[1],
            "train_loss": self._train_loss(branch),
            "flops": flops,
            "flops_6nd": 6 * model.n_params * tokens,
            "threads": torch.get_num_threads(),
            "status": "done",
        }
        weights = {name: tensor.detach().clone() for name, tensor in self.model.named_parameters()}
        save_state(self.folder / "checkpoints" / f"step-{branch.end}" / "model.safetensors", weights, asdict(model))
        self.rows.append(row)
        self.metrics.flush()
        state = {"metrics": self.metrics.tell(), "rows": self.rows}
        write_atomic(self.folder / "rows.json", json.dumps(state, indent=1) + "\n")

    def _train_loss(self, branch: Branch) -> float:
        """Return the mean training loss over the second half of a cooldown, from the metrics."""
        self.metrics.flush()
        lines = (json.loads(line) for line in (self.folder / "metrics.jsonl").read_bytes().splitlines())
        losses = [line["loss"] for line in lines if line["phase"] == f"cooldown-{branch.tokens}"]
        half = losses[len(losses) // 2 :]
        return sum(half) / len(half)

    def _save(self, name: str) -> None:
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        position = {
            "step": self.step,
            "n_bases": self.n_bases,
            "done": len(self.rows),
            "metrics": self.metrics.tell(),
        }
        save_state(self.folder / f"{name}.safetensors", snapshot(self.model, self.optimizer), position)
        self.saved_at = time.monotonic()

    def _load(self, name: str) -> dict[str, Any] | None:
        """Restore one checkpoint and return its position, or None when there is none."""
        found = load_state(self.folder / f"{name}.safetensors")
        if found is None:
            return None
        state, position = found
        restore(state, self.model, self.optimizer)
        self.step, self.n_bases = position["step"], position["n_bases"]
        return position


def _optimizer(model: DNABERT2, run: Run) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": run.train.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    train = run.train
    return torch.optim.AdamW(groups, lr=0.0, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)
