"""Batches as tensors, ready when they are asked for: where a GPU computes, other threads prepare those to come.

A thread prepares the batches of several steps in one go, about `ROWS` rows, because a small batch costs a dozen calls
and little else; numba lets go of Python's lock meanwhile. On a processor nothing runs ahead: a batch costs 1-2 % of
its step, and a thread of its own would take its core from another run. What is prepared is a function of the step
alone, so that neither threads nor a resumed run change it. Rejected: torch's loader, whose processes send every batch
through shared memory and pin it in one thread.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kleiber.train.batches import Batch
from kleiber.train.config import TrainConfig

__all__ = ["Ahead", "Rows"]

ROWS = 1024  # that a thread prepares in one go
CHUNKS = 4  # that are ready or under way, the present one included
THREADS = 3


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that one process computes, as tensors in the host's memory.

    Attributes
    ----------
    tensors
        Inputs, positions, labels, weights and, where rows have it, padding, as `kleiber.train.batches.Batch` has them.
    n_bases
        Bases in all rows of the batch; of a stack those of each run.
    """

    tensors: tuple[Tensor, ...]
    n_bases: int | NDArray[np.int64]


class Source(Protocol):
    """What prepares batches: a run's, or a stack's."""

    train: TrainConfig

    def several(self, step: int, n: int) -> list[Batch]:
        """Return the batches of n steps in a row."""


class Ahead:
    """The batches of one run by step, as those that are asked for one after the other.

    Parameters
    ----------
    mine
        The rows of each batch that this process computes; of a stack, its runs.
    device
        Where it computes; for a GPU the tensors are pinned, so that they are copied while it works.
    """

    def __init__(self, batches: Source, mine: slice, device: torch.device):
        self.batches, self.mine, self.is_pinned = batches, mine, device.type == "cuda"
        runs_ahead = device.type != "cpu"
        self.steps = max(1, ROWS // batches.train.batch) if runs_ahead else 1  # of a chunk
        threads = min(THREADS, len(os.sched_getaffinity(0)))
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batches") if runs_ahead else None
        self.chunks: dict[int, Future[list[Rows]]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def __getitem__(self, step: int) -> Rows:
        """Return the batch of one optimizer step (from 0), and see to those that follow it."""
        chunk, within = divmod(step, self.steps)
        if self.pool is None:
            return self._prepare(chunk)[within]
        wanted = range(chunk, chunk + CHUNKS)
        for past in [number for number in self.chunks if number not in wanted]:
            self.chunks.pop(past).cancel()
        for number in wanted:
            if number not in self.chunks:
                self.chunks[number] = self.pool.submit(self._prepare, number)
        return self.chunks[chunk].result()[within]

    def _prepare(self, chunk: int) -> list[Rows]:
        return [self._as_tensors(batch) for batch in self.batches.several(chunk * self.steps, self.steps)]

    def _as_tensors(self, batch: Batch) -> Rows:
        arrays: list[NDArray[Any]] = [batch.inputs, batch.positions, batch.labels, batch.weights]
        arrays += [] if batch.padding is None else [batch.padding]
        tensors = (torch.from_numpy(array[self.mine]) for array in arrays)
        return Rows(tuple(t.pin_memory() if self.is_pinned else t for t in tensors), batch.n_bases)
