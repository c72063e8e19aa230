"""What changes the weights: AdamW, or Muon on the hidden matrices with AdamW on everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, so that every direction of it learns at one rate. It is for matrices that map hidden vectors to hidden
vectors: the embedding (which is the decoder), convolutions, norms and biases keep AdamW. Queries, keys, values, gates
and values of a feed-forward are matrices of their own, although they are stored stacked. Rejected: `torch.optim.Muon`,
which takes a stack for one matrix, works on one matrix at a time (small ones are then all overhead), always in bf16,
and orthogonalises the pieces of a sharded matrix each for itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from kleiber.model.dnabert2 import DNABERT2
from kleiber.train.config import OPTIMIZERS, Run, TrainConfig
from kleiber.train.devices import whole

__all__ = [
    "MatrixOptimizer",
    "Muon",
    "Optimizers",
    "by_role",
    "changes",
    "moments",
    "muon_flops",
    "n_stacked",
    "orthogonalise",
]

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic iteration: steep at 0, so that five steps are enough
STEPS = 5
STACKED = {"Wqkv.weight": 3, "gated_layers.weight": 2}  # by the end of a name; others hold one


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest orthogonal matrix of each, roughly.

    Singular values end between about 0.7 and 1.2. Five steps of a Newton-Schulz iteration, all matrices in one batched
    product.

    Parameters
    ----------
    matrices
        (n, rows, columns).
    dtype
        What the products are computed in.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def changes(stacks: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return what Muon moves matrices by at a rate of 1: orthogonal, and larger where they are tall.

    Parameters
    ----------
    stacks
        (n, rows, columns) each; matrices of one shape, or its transpose, are orthogonalised together.
    """
    by_shape: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
    for i, matrices in enumerate(stacks):
        lying = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
        by_shape[tuple(lying.shape[1:])].append((i, lying))
    found = list(stacks)
    for members in by_shape.values():
        sizes = [len(matrices) for _, matrices in members]
        done = orthogonalise(torch.cat([matrices for _, matrices in members]), dtype).float().split(sizes)
        for (i, _), matrices in zip(members, done, strict=True):
            rows, columns = stacks[i].shape[1:]
            found[i] = (matrices if rows <= columns else matrices.mT) * sqrt(max(1.0, rows / columns))
    return found


def muon_flops(rows: int, columns: int) -> int:
    """Count the operations of `orthogonalise` on one matrix: three products a step."""
    short, long = sorted((rows, columns))
    return STEPS * (2 * 2 * short * short * long + 2 * short**3)


class MatrixOptimizer(torch.optim.Optimizer):
    """What changes hidden matrices, when AdamW does not (see `kleiber.train.config.OPTIMIZERS`).

    Attributes
    ----------
    moments
        What it remembers of a parameter by these names: tensors of the parameter's shape.
    """

    moments: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, parameters: Iterable[tuple[Tensor, int]], train: TrainConfig, lr: float | Tensor) -> Self:
        """Make it for parameters, each with the number of matrices stacked in it; a rate may be a tensor ().

        Raises
        ------
        NotImplementedError
            Here; a kind of optimizer says how it is made.
        """
        raise NotImplementedError

    @staticmethod
    def flops(rows: int, columns: int) -> int:
        """Count the operations of its own products in a step of one matrix."""
        return 0


class Muon(MatrixOptimizer):
    """Momentum, orthogonalised, for stacks of hidden matrices.

    Parameters
    ----------
    parameters
        Each with the number of matrices that are stacked in it, one below the other.
    momentum
        Its memory of gradients; Nesterov's form.
    weight_decay
        Of the matrices, times the rate.
    dtype
        What the iterations are computed in.
    lr
        The first rate; a tensor (), where the matrices are, can be changed between the replays of a recorded step.
    """

    moments = ("momentum",)
    flops = staticmethod(muon_flops)

    @classmethod
    def of(cls, parameters: Iterable[tuple[Tensor, int]], train: TrainConfig, lr: float | Tensor) -> Self:
        """Make it by ``[train]``; a tensor of a rate is ()."""
        dtype = torch.bfloat16 if train.precision == "bf16" else torch.float32
        return cls(parameters, train.momentum, train.weight_decay, dtype, lr)

    def __init__(
        self,
        parameters: Iterable[tuple[Tensor, int]],
        momentum: float,
        weight_decay: float,
        dtype: Any,
        lr: float | Tensor = 0.0,
    ):
        stacks = list(parameters)
        super().__init__([{"params": [p for p, _ in stacks]}], {"lr": lr})
        self.stacked = dict(stacks)
        self.momentum, self.weight_decay, self.dtype = momentum, weight_decay, dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; matrices of one shape (or its transpose) are orthogonalised together."""
        (group,) = self.param_groups
        parameters, gradients = group["params"], [p.grad for p in group["params"]]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, momenta, self.momentum)  # Nesterov's form
        rate, moved = group["lr"], self._orthogonal(ahead)
        torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
        if isinstance(rate, Tensor):
            torch._foreach_mul_(moved, rate)
            torch._foreach_sub_(parameters, moved)
        else:
            torch._foreach_add_(parameters, moved, alpha=-rate)

    def _orthogonal(self, updates: Sequence[Tensor]) -> list[Tensor]:
        """Return each update with its matrices orthogonalised and scaled, in the pieces that it came in."""
        parameters = self.param_groups[0]["params"]
        stacks = [whole(u).unflatten(0, (self.stacked[p], -1)) for p, u in zip(parameters, updates, strict=True)]
        found = []
        for parameter, matrices in zip(parameters, changes(stacks, self.dtype), strict=True):
            change = matrices.flatten(0, 1)
            if isinstance(parameter, DTensor):
                change = distribute_tensor(change, parameter.device_mesh, parameter.placements)
            found.append(change)
        return found


def by_role(parameters: Mapping[str, Tensor], train: TrainConfig) -> tuple[list[str], list[str], list[str]]:
    """Return the names of a network's parameters by what changes them, each in the network's order.

    Returns
    -------
    Muon's, or those of what takes its place: matrices, or stacks of them, from hidden vectors to hidden vectors.
    AdamW's that decay, and its others.
    """
    has_own = bool(OPTIMIZERS[train.optimizer].matrices)
    hidden = [
        n
        for n, p in parameters.items()
        if has_own and p.ndim == 2 and not {"embeddings", "convolution"} & {*n.split(".")}
    ]
    others = [name for name in parameters if name not in hidden]
    decayed = [name for name in others if parameters[name].ndim == 2 or train.original]
    return hidden, decayed, [name for name in others if name not in decayed]


def n_stacked(name: str) -> int:
    """Return how many matrices a parameter of a network holds, one below the other."""
    return next((k for end, k in STACKED.items() if name.endswith(end)), 1)


def moments(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of what an optimizer remembers of a parameter; all but AdamW's step have its shape."""
    return optimizer.moments if isinstance(optimizer, MatrixOptimizer) else ("exp_avg", "exp_avg_sq", "step")


class Optimizers:
    """The optimizers of one run, as one.

    Attributes
    ----------
    peaks
        The peak rate of each, AdamW's first.
    flops
        Operations of the products of Muon, or of what takes its place, in one step; AdamW has none.

    Parameters
    ----------
    is_recorded
        Whether the rates are tensors where the model is, which a recorded step (a CUDA graph) reads.
    """

    def __init__(self, model: DNABERT2, run: Run, is_recorded: bool = False):
        train = run.train
        device = next(model.parameters()).device

        def first_rate() -> float | Tensor:
            return torch.zeros((), device=device) if is_recorded else 0.0

        by_name = dict(model.named_parameters())
        hidden, *others = by_role(by_name, train)
        decayed, plain = ([by_name[name] for name in names] for names in others)
        groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        betas = train.beta1, train.beta2
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                groups, lr=first_rate(), betas=betas, eps=train.epsilon, fused=True, capturable=is_recorded
            )
        ]
        self.peaks, self.flops = [train.peak_lr(run.model)], 0
        if hidden:
            stacks = [(by_name[name], n_stacked(name)) for name in hidden]
            made: type[MatrixOptimizer] = resolve_name(OPTIMIZERS[train.optimizer].matrices)
            self.flops = sum(k * made.flops(p.shape[0] // k, p.shape[1]) for p, k in stacks)
            self.parts.append(made.of(stacks, train, first_rate()))
            self.peaks.append(train.matrices_lr)

        self.owner = {p: each for each in self.parts for group in each.param_groups for p in group["params"]}

    def set_rates(self, rates: list[float]) -> None:
        """Let each take its next steps at its rate."""
        for optimizer, rate in zip(self.parts, rates, strict=True):
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def step(self) -> None:
        """Take one step."""
        for optimizer in self.parts:
            optimizer.step()

    def of(self, parameter: Tensor) -> torch.optim.Optimizer:
        """Return the one that changes a parameter of the model, of any shape."""
        return self.owner[parameter]
