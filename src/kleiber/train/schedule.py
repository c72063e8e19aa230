"""Learning rate by step: a trunk that warms up and stays, and the branches that leave it and fall to zero."""

from __future__ import annotations

from math import cos, pi, sqrt

from kleiber.train.config import Branch, TrainConfig
from kleiber.train.original import original_lr

__all__ = ["branch_lr", "learning_rate", "trunk_lr"]


def learning_rate(train: TrainConfig, peak: float, first: Branch, branch: Branch | None, step: int) -> float:
    """Return the rate of one step (from 0), on the trunk (`branch` is None) or in a branch.

    Parameters
    ----------
    first
        The run's smallest budget, which the warm-up of WSD's one trunk is a share of.
    """
    if branch is None:
        return trunk_lr(peak, _warmup(train, first), step)
    if train.original:
        return original_lr(train, peak, branch.end, step)
    return branch_lr(train.schedule, peak, _warmup(train, first if train.has_trunk else branch), branch, step)


def _warmup(train: TrainConfig, of: Branch) -> int:
    return max(1, round(train.warmup * of.end))


def trunk_lr(peak: float, warmup: int, step: int) -> float:
    """Return the rate of one trunk step (from 0): linear warm-up over `warmup` steps, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup))


def branch_lr(schedule: str, peak: float, warmup: int, branch: Branch, step: int) -> float:
    """Return the rate of one step of a branch, 0 just after its end.

    WSD falls as 1 - sqrt of the branch's progress (Hägele et al. 2024), linear and cosine from the warm-up on.
    """
    if schedule == "wsd":
        progress = (step + 1 - branch.start) / (branch.end - branch.start + 1)
        return trunk_lr(peak, warmup, branch.start) * (1.0 - sqrt(progress))
    progress = max(0.0, (step + 1 - warmup) / (branch.end + 1 - warmup)) if branch.end >= warmup else 0.0
    share = 1.0 - progress if schedule == "linear" else (1.0 + cos(pi * progress)) / 2
    return trunk_lr(peak, warmup, step) * share
