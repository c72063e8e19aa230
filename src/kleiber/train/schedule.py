"""Learning rate by step: a trunk that warms up and stays, and the branches that leave it and fall to zero."""

from __future__ import annotations

from math import cos, pi, sqrt

from kleiber.train.config import Branch

__all__ = ["branch_lr", "trunk_lr", "warmup_steps"]


def warmup_steps(schedule: str, warmup: float, first: Branch, branch: Branch) -> int:
    """Return the steps of the warm-up: of WSD's one trunk, or of a budget that trains alone."""
    return max(1, round(warmup * (first if schedule == "wsd" else branch).end))


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
