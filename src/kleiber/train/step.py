"""One optimizer step: the gradient of a batch, its clipping, the optimizers. A function of tensors, nothing read back.

On a GPU a small model's kernels take less time than their launches, so that its whole step is recorded once as a CUDA
graph and replayed: a batch, and the rates of the optimizers, are copied into the tensors that it reads. It is the same
function everywhere; a processor, several devices, dropout (whose draws are a function of the row) and the original
study's batches of changing width call it as it is. Rejected: graphs of the forward and backward pass alone
(`torch.cuda.make_graphed_callables`), which leave the optimizers' launches.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kleiber import counter
from kleiber.errors import SystemRefusal
from kleiber.model.dnabert2 import DNABERT2
from kleiber.train.config import Run
from kleiber.train.devices import Devices, whole
from kleiber.train.optimizers import Optimizers
from kleiber.train.original import IGNORED

__all__ = ["GRAPHED", "RESERVED", "Replay", "Step", "batch_loss", "no_memory", "rows_that_fit"]

DROPOUT = counter.stream_id("dropout")
GRAPHED = 2e13  # operations of a step, at most: kernels of a larger one take longer than their launches
WARM_UP = 3  # steps before a recording: what is set up at first use cannot be recorded
RESERVED = 16  # bytes a parameter that a trial leaves free, for moments and what Muon computes with


def record(function: Callable[..., Any], inputs: tuple[Tensor, ...], undo: Callable[[], None]) -> tuple[Any, Any]:
    """Record what a function of CUDA tensors launches.

    Parameters
    ----------
    undo
        Takes back, in place, what calls of the function did.

    Returns
    -------
    What launches it again, on whatever the inputs then hold, and the outputs that each launch overwrites.
    """
    # which the steps that warm up are told of, too
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True", UserWarning)
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function(*inputs)
        undo()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads go on to pin batches
        outputs = function(*inputs)
    return graph.replay, outputs


class Replay:
    """A step that is recorded when it is first taken, and replayed from then on.

    Parameters
    ----------
    function
        Of tensors on the device; its outputs are overwritten by the next call.
    before
        Called before the recording; returns what puts back, in place, all that the function changes.
    """

    def __init__(self, function: Callable[..., Any], before: Callable[[], Callable[[], None]], device: torch.device):
        self.function, self.before, self.device = function, before, device
        self.recording: tuple[Any, Any, tuple[Tensor, ...]] | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        """Take the step on the tensors' present values."""
        if self.recording is None:
            inputs = tuple(tensor.to(self.device) for tensor in tensors)
            self.recording = *record(self.function, inputs, self.before()), inputs
        replay, outputs, inputs = self.recording
        for there, tensor in zip(inputs, tensors, strict=True):
            there.copy_(tensor, non_blocking=True)
        replay()
        return outputs

    def forget(self) -> None:
        """Record anew before the next step: tensors that the function reads have been replaced."""
        self.recording = None


def batch_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of some rows, (), as their part of the batch's mean.

    Parameters
    ----------
    logits
        (B, K, V) at the predicted tokens.
    labels, weights
        (B, K) and (B,), as `kleiber.train.batches.Batch` has them.
    """
    nats = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return (nats.view(labels.shape).sum(1) * weights).sum()


class Step:
    """The optimizer step of one run.

    Attributes
    ----------
    optimizers
        Those of the model.
    rows_at_once
        Rows of a micro-batch; 0 for all that this process computes.
    is_recorded
        Whether the step is recorded once and replayed.
    """

    def __init__(self, model: DNABERT2, run: Run, devices: Devices):
        self.model, self.run, self.devices = model, run, devices
        train = run.train
        self.first_row = devices.rows(train.batch).start
        is_fixed = not (train.original or run.model.dropout or devices.is_distributed)
        self.is_recorded = devices.records and is_fixed and run.flops_per_step <= GRAPHED
        wrapped = devices.wrap(model)
        self.forward = torch.compile(wrapped) if train.compile else wrapped
        self.no_sync = getattr(wrapped, "no_sync", nullcontext)  # DDP's; sharded gradients are reduced each time
        self.optimizers = Optimizers(model, run, self.is_recorded)
        self.rows_at_once = train.micro_batch
        self.clip = float("inf") if train.original else train.clip
        self.replay = Replay(self._take, self._undo, devices.device)

    def __call__(self, tensors: tuple[Tensor, ...], rates: list[float], step: int) -> tuple[Tensor, Tensor]:
        """Take one step.

        Parameters
        ----------
        tensors
            Of the rows of this process, as `kleiber.train.ahead.Rows` has them.
        rates
            One an optimizer.
        step
            Its number, from 0.

        Returns
        -------
        The batch's loss (nats a predicted token), times the processes and this one's part of it, and the norm of the
        gradient; () each, where the model is. The next step may overwrite them.
        """
        self.optimizers.set_rates(rates)
        if not self.is_recorded:
            return self._take(*(tensor.to(self.devices.device, non_blocking=True) for tensor in tensors), step=step)
        return self.replay(*tensors)

    def forget(self) -> None:
        """Record anew before the next step: the optimizers' moments have been replaced."""
        self.replay.forget()

    def gradient(self, tensors: tuple[Tensor, ...], rows: slice, step: int) -> Tensor:
        """Add the gradient of some rows of a batch; return their part of its loss, times the processes.

        Times the processes, because DDP and FSDP average over them. Tensors are those of a batch, (B, …) each; the
        loss is ().
        """
        ids, positions, labels, weights, *padding = (tensor[rows] for tensor in tensors)
        train, device = self.run.train, self.devices.device
        if self.run.model.dropout:  # what is dropped is a function of the row too, or a resumed run would differ
            row = step * train.batch + self.first_row + rows.start
            torch.manual_seed(int(counter.draws(self.run.seed, DROPOUT, row, 1)[0] >> np.uint64(1)))
        half = torch.autocast(device.type, torch.bfloat16, cache_enabled=not self.is_recorded)
        with half if train.precision == "bf16" else nullcontext():
            logits = self.forward(ids, padding[0] if padding else None, positions)
        loss = batch_loss(logits, labels, weights) * self.devices.world
        loss.backward()
        return loss.detach()

    def _take(self, *tensors: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
        self.model.zero_grad(set_to_none=True)
        rows = len(tensors[0])
        size = self.rows_at_once or rows
        total = torch.zeros((), device=tensors[0].device)
        for at in range(0, rows, size):
            with self.no_sync() if at + size < rows else nullcontext():
                total += self.gradient(tensors, slice(at, min(at + size, rows)), step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizers.step()
        return total, whole(norm)

    def _undo(self) -> Callable[[], None]:
        """Return what puts weights and moments back as they are now, in place."""
        parameters = list(self.model.parameters())
        weights = [p.detach().clone() for p in parameters]
        moments = [{m: t.clone() for m, t in self.optimizers.of(p).state.get(p, {}).items()} for p in parameters]

        @torch.no_grad()
        def undo() -> None:
            self.model.zero_grad(set_to_none=True)
            for parameter, weight, before in zip(parameters, weights, moments, strict=True):
                parameter.copy_(weight)
                for moment, tensor in self.optimizers.of(parameter).state[parameter].items():
                    tensor.copy_(before[moment]) if before else tensor.zero_()

        return undo

    def fit(self, tensors: tuple[Tensor, ...]) -> None:
        """Choose a micro-batch by what fits the GPU, where nothing is said and one process computes alone.

        Several would have to fail together, and compute the whole of their share. Tensors are those of a batch, (B, …)
        each.
        """
        if self.rows_at_once or self.devices.device.type != "cuda" or self.devices.is_distributed:
            return
        there = tuple(tensor.to(self.devices.device) for tensor in tensors)
        reserved = RESERVED * sum(p.numel() for p in self.model.parameters())

        def trial(rows: int) -> None:
            room = torch.empty(reserved, dtype=torch.uint8, device=self.devices.device)
            try:
                self.gradient(there, slice(0, rows), 0)
            finally:
                self.model.zero_grad(set_to_none=True)
                del room

        rows = len(tensors[0])
        most = rows_that_fit(rows, trial)
        self.rows_at_once = most if most < rows else 0


def rows_that_fit(rows: int, trial: Callable[[int], None]) -> int:
    """Return how many rows fit at once: all, or half, or half of that, until a trial succeeds.

    Raises
    ------
    torch.OutOfMemoryError
        When not even one can.
    """
    while True:
        try:
            trial(rows)
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        else:
            return rows
        torch.cuda.empty_cache()
        rows = -(-rows // 2)


def no_memory(run: Run, rows_at_once: int, devices: Devices, error: BaseException, stacked: int = 1) -> SystemRefusal:
    """Return what to say when a GPU's memory is not enough for a run, or for so many at once."""
    train = run.train
    rows = rows_at_once or train.batch // devices.world
    models = f"a model of {run.model.n_params:,} parameters"
    others = "cut the model into pieces with --shard,"
    if stacked > 1:
        models, others = f"each of {stacked} models of {run.model.n_params:,} parameters", "or [ladder] stack,"
    return SystemRefusal(
        f"{run.name}: the GPU has no memory for {rows:,} rows of {train.length:,} tokens at once, of {models} "
        f"([train] micro_batch = {train.micro_batch}).\n"
        f"  {str(error).splitlines()[0]}\n"
        f"  Lower [train] micro_batch or length, {others} or end what else is on the GPU."
    )
