"""The quantiles and tails that intervals and tests are made of.

Rejected: `scipy.stats`, which has them by better names and takes half a second to import, in every process that trains
or scores a model. These are what it computes them with.
"""

from __future__ import annotations

from scipy.special import fdtrc, gammaincinv, stdtrit

__all__ = ["chi_squared", "fisher_tail", "student"]


def student(free: float) -> float:
    """Return how many errors of `free` degrees of freedom a 95 % interval reaches to either side."""
    return float(stdtrit(free, 0.975))


def fisher_tail(statistic: float, of: float, free: float) -> float:
    """Return the chance that an F of `of` and `free` degrees is above a statistic, at least 0."""
    return float(fdtrc(of, free, statistic))


def chi_squared(probability: float, free: float) -> float:
    """Return what a χ² of `free` degrees of freedom stays below with a probability."""
    return float(2 * gammaincinv(free / 2, probability))
