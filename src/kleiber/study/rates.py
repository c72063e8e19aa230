"""What steps of kleiber's networks were measured to do on GPUs, by size, so that a plan need not guess a share of peak.

Steps alone, in bf16, one run on a card at a time or one stack of runs, small ones recorded as CUDA graphs and those
from 15M on compiled (60M was not): data preparation, which runs beside them, and scoring are not in it. Between the
sizes and batches that were measured operations a second are interpolated by their logarithms, beyond them they stay
what they were at the edge. Rejected: one share of peak for all sizes, which is 1 % for the smallest models and 50 % for
the largest.
``python benchmarks/gpu.py`` measures such a table.
"""

from __future__ import annotations

from bisect import bisect
from functools import cache
from math import exp, log

from kleiber.model.config import ModelConfig, shape_for

__all__ = ["RATES", "STACKS", "measured_rate"]

RATES: dict[str, dict[str, dict[int, float]]] = {
    "h100": {
        "0.2M": {16: 2.3e6, 128: 7.7e6},
        "0.5M": {16: 1.65e6, 128: 4.8e6},
        "2M": {16: 1.2e6, 128: 3.3e6},
        "5M": {16: 0.70e6, 128: 1.25e6},
        "15M": {1024: 4.67e6},
        "60M": {1024: 0.88e6},
        "117M": {1024: 0.563e6},
        "230M": {512: 0.273e6},
    }
}
"""Tokens a second by kind of GPU, size and rows of 128 tokens in a step: DNABERT-2 of 4,096 tokens, 15 % of them
predicted, AdamW. H100 80 GB with torch 2.11, prototypes of this package's step on a card of the project's own."""
STACKS: dict[str, dict[str, tuple[int, float]]] = {
    "h100": {"0.2M": (32, 10.5e6), "0.5M": (16, 5.5e6), "2M": (8, 2.3e6)},
}
"""Runs trained at once, 16 rows of each in a step, and tokens a second of all together, by kind of GPU and size."""
LENGTH, SHARE, VOCABULARY = 128, 0.15, 4096


def measured_rate(gpu: str, model: ModelConfig, tokens: int, stacked: int = 1) -> float:
    """Return the operations a second of training a model on a GPU of a kind, or several at once.

    Parameters
    ----------
    gpu
        A key of `RATES`.
    tokens
        In a step of one model.
    stacked
        Models that are trained at once.
    """
    small, large = _curves(gpu)
    at = log(model.n_params_non_embedding)
    few, many = log(16 * LENGTH), log(128 * LENGTH)
    share = min(1.0, max(0.0, (log(tokens) - few) / (many - few)))
    alone = exp((1 - share) * _interpolated(small, at) + share * _interpolated(large, at))
    if stacked == 1:
        return alone
    # From one model with 16 rows to as many models as were measured; no slower than one after the other.
    together, runs = (_interpolated(curve, at) for curve in _stacked_curves(gpu))
    share = min(1.0, (max(0.0, log(tokens) - few) + log(stacked)) / runs)
    return max(alone, exp((1 - share) * _interpolated(small, at) + share * together))


@cache
def _curves(gpu: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return (log parameters of the blocks, log operations a second) with steps of 16 rows, and of 128 and more."""
    small: list[tuple[float, float]] = []
    large: list[tuple[float, float]] = []
    for size, rates in RATES[gpu].items():
        at, each = _size(size)
        for rows, rate in rates.items():
            (small if rows == 16 else large).append((at, log(rate * each)))
    return sorted(small), sorted(large)


@cache
def _stacked_curves(gpu: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return (log parameters of the blocks, log operations a second of all) of stacks, and (…, log runs in them)."""
    found = [(*_size(size), *measured) for size, measured in STACKS[gpu].items()]
    return [(at, log(rate * each)) for at, each, _, rate in found], [(at, log(n)) for at, _, n, _ in found]


def _size(size: str) -> tuple[float, float]:
    """Return the logarithm of a size's parameters of the blocks, and its operations a token."""
    model = shape_for(size, VOCABULARY)
    scored = round(SHARE * (LENGTH - 2))
    return log(model.n_params_non_embedding), sum(model.flops(1, LENGTH, scored).values()) / LENGTH


def _interpolated(curve: list[tuple[float, float]], at: float) -> float:
    i = bisect(curve, (at,))
    if i in (0, len(curve)):
        return curve[min(i, len(curve) - 1)][1]
    (a, low), (b, high) = curve[i - 1], curve[i]
    return low + (high - low) * (at - a) / (b - a)
