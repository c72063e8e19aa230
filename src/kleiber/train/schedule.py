"""Learning rate by step: a trunk that warms up and stays, and cooldowns that leave it."""

from __future__ import annotations

from math import sqrt

from kleiber.train.config import Branch

__all__ = ["cooldown_lr", "trunk_lr"]


def trunk_lr(peak: float, warmup_steps: int, step: int) -> float:
    """Return the rate of one trunk step (from 0): linear warm-up, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup_steps))


def cooldown_lr(peak: float, warmup_steps: int, branch: Branch, step: int) -> float:
    """Return the rate of one cooldown step: 1 - sqrt of its progress (Hägele et al. 2024), 0 just after the end."""
    progress = (step + 1 - branch.start) / (branch.end - branch.start + 1)
    return trunk_lr(peak, warmup_steps, branch.start) * (1.0 - sqrt(progress))
