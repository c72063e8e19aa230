"""One optimizer step of many runs of one shape at once: their weights are the rows of one matrix.

A small model's kernels do not fill a GPU; those of many do. The network is the one that single runs compute, its
products batched over runs by `torch.func.vmap`; clipping, rates, counts of steps and moments are each run's own, so
that one which ends or diverges leaves the others' numbers as they are. Weights and moments lie row by row with the
columns in the order of what changes them (Muon, AdamW with decay, AdamW without): a gradient is one tensor, each
optimizer a few calls for all runs, and to keep a run's state or put it back is to copy a row. Attention is by plain
matrix products, the way that vmap can batch on every device. Rejected: a stack of each parameter and an optimizer of
`torch.optim` on those, which have one rate and one count of steps for all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from kleiber.model.dnabert2 import DNABERT2
from kleiber.train.config import Run
from kleiber.train.devices import Devices
from kleiber.train.optimizers import by_role, changes, muon_flops, n_stacked
from kleiber.train.step import GRAPHED, RESERVED, Replay, batch_loss, rows_that_fit

__all__ = ["StackStep"]


class StackStep:
    """The optimizer step of n runs that differ in rates, seeds, budgets and data.

    Attributes
    ----------
    state
        What a step changes, a row a run: ``weights`` (n, P), ``first`` (n, P), the running means of gradients,
        ``second`` (n, Q), those of their squares that AdamW keeps of its Q columns, and ``count`` (n,), its steps.
    peaks
        The peak rates of each run, AdamW's first.
    flops
        Operations of Muon's own products in one step of one run.
    rows_at_once
        Rows of each run in a micro-batch; 0 for all.
    is_recorded
        Whether the step is recorded once and replayed.

    Parameters
    ----------
    model
        Lends its modules, and is one run's while that is begun or scored (`put`, `lend`).
    """

    def __init__(self, model: DNABERT2, runs: Sequence[Run], devices: Devices):
        self.model, self.device, self.train = model, devices.device, runs[0].train
        train, n = self.train, len(runs)
        parameters = dict(model.named_parameters())
        self.hidden, decayed, plain = by_role(parameters, train)
        self.names = [*self.hidden, *decayed, *plain]
        self.shapes = [parameters[name].shape for name in self.names]
        self.sizes = [shape.numel() for shape in self.shapes]
        total = sum(self.sizes)
        self.n_hidden = sum(parameters[name].numel() for name in self.hidden)
        self.n_matrices = total - sum(parameters[name].numel() for name in plain)
        self.state = {
            "weights": torch.zeros(n, total, device=self.device),
            "first": torch.zeros(n, total, device=self.device),
            "second": torch.zeros(n, total - self.n_hidden, device=self.device),
            "count": torch.zeros(n, device=self.device),
        }
        self.peaks = [[run.train.peak_lr(run.model)] + [run.train.matrices_lr] * bool(self.hidden) for run in runs]
        shapes = [(n_stacked(name), *parameters[name].shape) for name in self.hidden]
        self.flops = sum(k * muon_flops(rows // k, columns) for k, rows, columns in shapes)
        self.rows_at_once = train.micro_batch
        self.is_recorded = devices.records and n * runs[0].flops_per_step <= GRAPHED
        self.adamw = self._adamw()
        self.replay = Replay(self._take, self._undo, self.device)

    def _adamw(self) -> torch.optim.AdamW:
        """Return AdamW at a rate of 1 on rows of their own, `moved`: each run's rate scales what it finds there."""
        train, columns = self.train, slice(self.n_hidden, None)
        self.moved = torch.zeros_like(self.state["second"])
        betas = train.beta1, train.beta2
        adamw = torch.optim.AdamW(
            list(self.moved), 1.0, betas, train.epsilon, 0.0, fused=True, capturable=self.is_recorded
        )
        for i, row in enumerate(adamw.param_groups[0]["params"]):
            means, squares, count = (self.state[key][i] for key in ("first", "second", "count"))
            adamw.state[row] = {"exp_avg": means[columns], "exp_avg_sq": squares, "step": count}
        return adamw

    def __call__(self, tensors: tuple[Tensor, ...], rates: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of every run.

        Parameters
        ----------
        tensors
            Those of a batch, (n, B, …) each.
        rates
            (n, 1) for each optimizer, AdamW's first, one behind the other; 0 for a run that stays as it is.

        Returns
        -------
        The losses (nats a predicted token) and the norms of the gradients, (n,) each, where the model is. The next step
        may overwrite them.
        """
        inputs = rates, *tensors
        if self.is_recorded:
            return self.replay(*inputs)
        return self._take(*(tensor.to(self.device, non_blocking=True) for tensor in inputs))

    def put(self, i: int) -> None:
        """Let run i begin with the model's weights."""
        parameters = dict(self.model.named_parameters())
        values = torch.cat([parameters[name].detach().flatten() for name in self.names])
        self.state["weights"][i].copy_(values)

    @torch.no_grad()
    def lend(self, i: int) -> DNABERT2:
        """Return the model with the weights of run i, until it is lent again."""
        parameters = dict(self.model.named_parameters())
        for name, values in zip(self.names, self.state["weights"][i].split(self.sizes), strict=True):
            parameters[name].copy_(values.view_as(parameters[name]))
        return self.model

    def gradient(self, tensors: tuple[Tensor, ...], rows: slice) -> tuple[Tensor, Tensor]:
        """Return the gradients of some rows of every run's batch, (n, P), and their parts of its loss, (n,)."""
        weights = self.state["weights"].detach().requires_grad_()
        bf16 = self.train.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if bf16 else nullcontext():
            parts = zip(self.names, weights.split(self.sizes, 1), self.shapes, strict=True)
            own = {name: part.unflatten(1, shape) for name, part, shape in parts}
            losses = vmap(self._loss)(own, *(tensor[:, rows] for tensor in tensors))
        (found,) = torch.autograd.grad(losses.sum(), weights)
        return found, losses.detach()

    def _loss(self, own: dict[str, Tensor], ids: Tensor, positions: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        return batch_loss(functional_call(self.model, own, (ids, None, positions)), labels, weights)

    def _take(self, rates: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        rows = tensors[0].shape[1]
        size = self.rows_at_once or rows
        gradient, losses = self.gradient(tensors, slice(0, min(size, rows)))
        for at in range(size, rows, size):
            more, part = self.gradient(tensors, slice(at, min(at + size, rows)))
            gradient += more
            losses = losses + part
        norms = torch.linalg.vector_norm(gradient, dim=1)
        gradient *= (self.train.clip / (norms + 1e-6)).clamp(max=1.0)[:, None]  # as clip_grad_norm_ has it
        self._move(gradient, rates)
        return losses, norms

    @torch.no_grad()
    def _move(self, gradient: Tensor, rates: Tensor) -> None:
        """Let each run's optimizers take a step at its rates."""
        weights, split, decay = self.state["weights"], self.n_hidden, self.train.weight_decay
        self.moved.zero_()
        for row, own in zip(self.adamw.param_groups[0]["params"], gradient[:, split:], strict=True):
            row.grad = own
        self.adamw.step()
        weights[:, split : self.n_matrices] *= 1 - rates[0] * decay
        weights[:, split:].addcmul_(self.moved, rates[0])
        if self.hidden:
            weights[:, :split] *= 1 - rates[1] * decay
            weights[:, :split].addcmul_(self._muon(gradient[:, :split]), rates[1], value=-1.0)

    def _muon(self, gradient: Tensor) -> Tensor:
        """Return what Muon moves the hidden matrices by at a rate of 1; all of them are (n, columns)."""
        momentum, n = self.state["first"][:, : self.n_hidden], len(gradient)
        momentum.lerp_(gradient, 1 - self.train.momentum)
        ahead = gradient.lerp(momentum, self.train.momentum)  # Nesterov's form
        parts = zip(self.hidden, ahead.split(self.sizes[: len(self.hidden)], 1), self.shapes, strict=False)
        stacks = [part.reshape(n * n_stacked(name), -1, shape[1]) for name, part, shape in parts]
        dtype = torch.bfloat16 if self.train.precision == "bf16" else torch.float32
        return torch.cat([change.reshape(n, -1) for change in changes(stacks, dtype)], 1)

    def _undo(self) -> Callable[[], None]:
        """Return what puts weights and moments back as they are now, in place."""
        before = {key: tensor.clone() for key, tensor in self.state.items()}

        def undo() -> None:
            for key, tensor in before.items():
                self.state[key].copy_(tensor)

        return undo

    def fit(self, tensors: tuple[Tensor, ...]) -> None:
        """Choose a micro-batch by what fits the GPU, where nothing is said; tensors (n, B, …) as in a step."""
        if self.rows_at_once or self.device.type != "cuda":
            return
        there = tuple(tensor.to(self.device) for tensor in tensors)
        reserved = RESERVED * self.state["weights"].numel()

        def trial(rows: int) -> None:
            room = torch.empty(reserved, dtype=torch.uint8, device=self.device)
            self.gradient(there, slice(0, rows))
            del room

        rows = tensors[0].shape[1]
        most = rows_that_fit(rows, trial)
        self.rows_at_once = most if most < rows else 0
