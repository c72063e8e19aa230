"""How well a score tells two classes apart, or orders by a number, each with an interval from whole clusters.

Every statistic takes weights, and weights of whole numbers are rows that stand there so often: a bootstrap draw is a
vector of weights, and nothing is sorted again. Neighbouring variants share their sequence, so clusters are drawn and
not rows. Orientation is the caller's, fixed before the labels are looked at: nothing here is turned round when it is
below one half. Rejected: the analytical intervals (DeLong), which know of no clusters; scikit-learn, which has no
weighted rank correlation and which variants then would need.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber import counter

__all__ = ["Estimate", "Weighted", "auprc", "auroc", "cluster_numbers", "estimate", "mcc", "resamples", "spearman"]

Weighted = Callable[[NDArray[np.float64]], float]
"""A statistic as a function of the weights of the rows, (n,); NaN where it is not defined."""
DRAWS, FEWER, MANY = 1000, 200, 50_000  # of the bootstrap; fewer where rows are many and intervals narrow
FEWEST = 5  # clusters: intervals of fewer say less than they seem to
STREAM = counter.stream_id("downstream bootstrap")


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval.

    Attributes
    ----------
    interval
        Percentiles over draws of whole clusters; None where there are fewer than `FEWEST`.
    n, n_clusters
        Rows and clusters.
    """

    value: float
    interval: tuple[float, float] | None
    n: int
    n_clusters: int


def auroc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> Weighted:
    """Return the area under the ROC curve: the share of pairs in order, ties one half.

    Parameters
    ----------
    score, positive
        (n,): higher means positive.
    """
    order, starts = _tied(score)
    is_positive = positive[order]

    def of(weights: NDArray[np.float64]) -> float:
        weights = weights[order]
        ours, others = (np.add.reduceat(np.where(which, weights, 0.0), starts) for which in (is_positive, ~is_positive))
        below = np.cumsum(others) - others
        return _ratio(float(ours @ (below + others / 2)), float(ours.sum() * others.sum()))

    return of


def auprc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> Weighted:
    """Return the average precision: Σ precision · (gain of recall) over thresholds from high to low.

    Parameters
    ----------
    score, positive
        (n,): higher means positive. By chance it is the share of positives.
    """
    order, starts = _tied(-score)
    is_positive = positive[order]

    def of(weights: NDArray[np.float64]) -> float:
        weights = weights[order]
        found, named = np.add.reduceat(np.where(is_positive, weights, 0.0), starts), np.add.reduceat(weights, starts)
        precision = np.cumsum(found) / np.maximum(np.cumsum(named), 1e-300)
        return _ratio(float(found @ precision), float(found.sum()))

    return of


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> Weighted:
    """Return Spearman's rank correlation of two columns, (n,); tied values share their mean rank."""
    tied = [_tied(values) for values in (first, second)]

    def of(weights: NDArray[np.float64]) -> float:
        ranks = [_ranks(*one, weights) for one in tied]
        total = weights.sum()
        x, y = (rank - (weights @ rank) / total for rank in ranks)
        return _ratio(float(weights @ (x * y)), float(np.sqrt((weights @ x**2) * (weights @ y**2))))

    return of


def mcc(truth: NDArray[np.int64], named: NDArray[np.int64]) -> Weighted:
    """Return Matthews' correlation of two columns of classes, (n,), 0, 1, …; 0 where one is named."""
    n_classes = int(max(truth.max(initial=0), named.max(initial=0))) + 1

    def of(weights: NDArray[np.float64]) -> float:
        t, p = (np.bincount(column, weights, n_classes) for column in (truth, named))
        right, total = float(weights[truth == named].sum()), float(weights.sum())
        spread = (total**2 - p @ p) * (total**2 - t @ t)
        return (right * total - float(p @ t)) / float(np.sqrt(spread)) if spread > 0 else 0.0

    return of


def estimate(statistic: Weighted, clusters: NDArray[np.int64], seed: int = 0) -> Estimate:
    """Return a statistic of all rows with its interval.

    Parameters
    ----------
    statistic
        Called with weights, (n,).
    clusters
        (n,): the number of each row's cluster, from 0; each row its own where rows are independent.
    """
    n, groups = len(clusters), int(clusters.max(initial=-1)) + 1
    value = statistic(np.ones(n)) if n else float("nan")
    if groups < FEWEST or not np.isfinite(value):
        return Estimate(value, None, n, groups)
    drawn = np.array([statistic(weights) for weights in resamples(clusters, seed)])
    drawn = drawn[np.isfinite(drawn)]  # a draw may hold one class alone
    if not len(drawn):
        return Estimate(value, None, n, groups)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, (float(low), float(high)), n, groups)


def resamples(clusters: NDArray[np.int64], seed: int = 0) -> Sequence[NDArray[np.float64]]:
    """Return the weights of the rows, (n,), of every bootstrap draw of whole clusters."""
    return _Resamples(clusters, seed)


class _Resamples(Sequence[NDArray[np.float64]]):
    """Draws that are made when they are asked for."""

    def __init__(self, clusters: NDArray[np.int64], seed: int):
        self.clusters, self.seed = clusters, seed
        self.groups = int(clusters.max(initial=-1)) + 1

    def __len__(self) -> int:
        return DRAWS if len(self.clusters) <= MANY else FEWER

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        drawn = counter.uniforms(self.seed, STREAM, index, self.groups) * self.groups
        return np.bincount(drawn.astype(np.int64), minlength=self.groups).astype(float)[self.clusters]


def cluster_numbers(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return the number of each row's key, (n,), in the order in which keys first come."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _tied(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in the order of their values, (n,), and where each run of equal values begins."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    return order, np.flatnonzero(np.r_[True, sorted_values[1:] != sorted_values[:-1]])


def _ranks(order: NDArray[np.int64], starts: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean rank of each row when it stands there `weights` times, but for a constant."""
    here = np.add.reduceat(weights[order], starts)
    middle = np.cumsum(here) - here / 2
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(middle, np.diff(np.r_[starts, len(order)]))
    return ranks


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")
