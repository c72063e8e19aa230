"""What a run leaves in its folder: its metrics line by line, a row and the weights of each annealed model, a manifest.

One place for runs that are trained alone and for those of a stack, so that their folders are alike. All of it is the
same bytes however often a run was killed: whoever saves a checkpoint notes in it how long the metrics were, and going
back to it cuts them to that length. Rejected: a table that all runs write to, which a kill could leave half written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber import __version__
from kleiber.corpus.sampling import Corpus
from kleiber.errors import StateError
from kleiber.storage import write_atomic, write_manifest
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.checkpoint import save_state
from kleiber.train.config import Branch, Run
from kleiber.train.scoring import CLUSTERS, Scores
from kleiber.train.trackers import Tracker

__all__ = ["Journal", "phase_of"]


def phase_of(branch: Branch | None) -> str:
    """Return what the metrics call the trunk (None) or a budget's cooldown."""
    return branch.phase if branch else "trunk"


class Journal:
    """The files of one run.

    Attributes
    ----------
    rows
        The observations that are on disk already, one a budget.
    length
        Bytes that the metrics had when the last of them was written.

    Parameters
    ----------
    writes
        False for a process that keeps rows and writes nothing: one writes for all.
    tracker
        Is shown every line of the metrics, too.
    """

    def __init__(self, run: Run, folder: Path, writes: bool = True, tracker: Tracker | None = None):
        self.run, self.folder, self.writes, self.tracker = run, folder, writes, tracker
        self.flops_per_step = run.flops_per_step
        self.rows: list[dict[str, Any]] = []
        self.length = 0
        if self._path_of_rows.exists():
            finished = json.loads(self._path_of_rows.read_bytes())
            self.rows, self.length = finished["rows"], finished["metrics"]

    @property
    def _path_of_rows(self) -> Path:
        return self.folder / "rows.json"

    def cut(self, length: int) -> None:
        """Cut the metrics to what they were when a checkpoint was saved, in bytes.

        Raises
        ------
        StateError
            When they are shorter.
        """
        metrics = self.folder / "metrics.jsonl"
        metrics.touch()
        if metrics.stat().st_size < length:  # truncate would fill it up with zeros
            raise StateError(
                f"{metrics} is {metrics.stat().st_size:,} bytes long, and was {length:,} when the run was saved.\n"
                f"  Put it back, or delete the folder {self.folder}: the run starts over."
            )
        os.truncate(metrics, length)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the metrics open, to be written on."""
        with open(self.folder / "metrics.jsonl" if self.writes else os.devnull, "ab") as self.metrics:
            yield

    def line(self, branch: Branch | None, step: int, rate: float, n_bases: int) -> dict[str, Any]:
        """Begin the line of a step that has been taken (from 1); who reads its outcome fills in loss and norm."""
        train = self.run.train
        return {
            "phase": phase_of(branch),
            "step": step,
            "loss": 0.0,
            "lr": rate,
            "grad_norm": 0.0,
            "n_tokens": step * train.batch * train.length,
            "n_bases": n_bases,
            "flops": step * self.flops_per_step,
        }

    def log(self, line: dict[str, Any]) -> None:
        """Write a line."""
        if self.writes:
            self.metrics.write(json.dumps(line).encode() + b"\n")
        if self.tracker is not None:
            self.tracker.log(line, line["step"])

    def sync(self) -> int:
        """See the metrics on disk before anything refers to their length, and return that, in bytes."""
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        return self.metrics.tell()

    def add(
        self,
        branch: Branch,
        weights: dict[str, Tensor],
        scores: Scores,
        n_bases: int,
        peak_lr: float,
        flops_optimizer: int,
        attention: str,
        **more: Any,
    ) -> None:
        """Keep an annealed model: its weights by name, its nats by cluster, and its observation.

        Parameters
        ----------
        n_bases
            Bases that it has read.
        flops_optimizer
            Operations of one step that are the optimizers' own.
        more
            Columns of its own kind.
        """
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
            "n_bases": n_bases,
            "batch": train.batch,
            "steps": branch.end,
            "peak_lr": peak_lr,
            "optimizer": train.optimizer,
            "schedule": train.schedule,
            "horizon": branch.end,
            "cooldown_fraction": train.cooldown if train.has_trunk else 1.0,
            "seed": self.run.seed,
            "annealed": True,
            **scores.columns,
            "train_loss": self._train_loss(branch) if self.writes else None,
            "flops": flops,
            "flops_6nd": 6 * model.n_params * tokens,
            "flops_optimizer": branch.end * flops_optimizer,
            "precision": train.precision,
            "threads": torch.get_num_threads(),
            "attention": attention,
            **more,
            "status": "done",
        }
        self.rows.append(row)
        if not self.writes:
            return
        checkpoint = self.folder / "checkpoints" / f"step-{branch.end}"
        save_state(checkpoint / "model.safetensors", weights, {**asdict(model), "precision": train.precision})
        write_atomic(checkpoint / CLUSTERS, scores.clusters.write_csv())
        self._write_rows(self.sync())

    def complete(self, corpus: Corpus, tokenizer: Tokenizer, diverged: int, **more: Any) -> None:
        """Write the manifest, which marks the run as complete; `diverged` is a step, or 0."""
        if not self._path_of_rows.exists():  # it diverged before its first budget
            self._write_rows((self.folder / "metrics.jsonl").stat().st_size)
        config = {**asdict(self.run), "corpus": corpus.fingerprint, "tokenizer": tokenizer.fingerprint}
        facts = {"run": self.run.name, "diverged": diverged, "config": config, "kleiber": __version__, **more}
        write_manifest(self.folder, {**self.run.labels, **facts})

    def _write_rows(self, length: int) -> None:
        write_atomic(self._path_of_rows, json.dumps({"metrics": length, "rows": self.rows}, indent=1) + "\n")

    def _train_loss(self, branch: Branch) -> float:
        """Return the mean training loss over the second half of a cooldown, from the metrics."""
        self.metrics.flush()
        lines = (json.loads(line) for line in (self.folder / "metrics.jsonl").read_bytes().splitlines())
        losses = [line["loss"] for line in lines if line["phase"] == phase_of(branch)]
        half = losses[len(losses) // 2 :]
        return sum(half) / len(half)
