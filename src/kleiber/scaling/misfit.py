"""Whether a law leaves more than luck: patterns of its residuals, and residuals against runs made twice.

A law that does not hold can still fit with a narrow interval, because an interval only asks how much luck would move
the fit. What betrays it is order in what is left: by D, by N, by their product, at one size, beyond a step. Each such
pattern is a direction that the law could not follow; an F test asks whether the residuals follow it further than luck
of runs and of points explains, and where runs were made twice, whether all of the residuals are larger than luck.
Rejected: R² and its kin, which call every smooth table a success.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.bootstrap import Fitted
from kleiber.scaling.observations import Observations
from kleiber.scaling.quantiles import fisher_tail
from kleiber.scaling.solver import log_law

__all__ = ["UNLIKELY", "Finding", "Residuals", "between_sizes", "lack_of_fit", "patterns"]

Array = NDArray[np.float64]
UNLIKELY = 0.001  # as much by luck alone: there are ten such tests
FEW = 3  # degrees of freedom that a test needs
MANY = 16  # sizes or amounts of data that are looked at one by one
TINY = 1e-18  # a variance that is rounding
LUCK, WEIGHT = 2.0, 4  # until seeds say otherwise, a run's luck is this many times a point's own; degrees of freedom


class Finding(NamedTuple):
    """A pattern, the probability of as much of it by luck alone, and its spread in ln L."""

    pattern: str
    probability: float
    spread: float


@dataclass(frozen=True)
class Residuals:
    """What a fit leaves, and how luck is shared.

    Attributes
    ----------
    value, x, y
        float64 (n,): ln L less the law, and ln N and ln D less their means.
    slopes
        float64 (n, 5): derivatives of the law.
    cluster
        int64 (n,): the run of each point.
    run, point
        Variances of a run's luck and of a point's own, in ln L. A run's is that of seeds of one size, and as long as
        there are few, at most what is usual: the scatter of sizes about the law would hide that the law is wrong.
    """

    value: Array
    x: Array
    y: Array
    N: Array
    D: Array
    slopes: Array
    cluster: NDArray[np.int64]
    run: float = 0.0
    point: float = 1.0

    @classmethod
    def of(cls, observations: Observations, fitted: Fitted) -> Residuals:
        """Take the residuals of a fit to observations."""
        law, slopes = log_law(fitted.theta, fitted.problem.x, fitted.problem.y)
        at = (fitted.problem.x, fitted.problem.y, observations.N, observations.D)
        found = cls(fitted.z - law, *at, slopes, observations.cluster)
        run, point = found._variances()
        return replace(found, run=run, point=point)

    def _variances(self) -> tuple[float, float]:
        if not self.are_runs_shared:
            free = max(len(self.value) - self.slopes.shape[1], 1)
            return 0.0, max(float(self.value @ self.value) / free, TINY)
        runs, count, mean = self._runs()
        inside, free = self._within_runs(self.value)
        point = max(float(inside @ inside) / max(free, 1), TINY)
        pure, pure_free = _pure_error(self, self.cluster)
        misfit = _tested("within runs", float(inside @ inside) - pure, free - pure_free, pure, pure_free)
        if misfit and misfit[0].probability < UNLIKELY:  # what is left is not luck: second seeds tell what luck is
            point = pure / pure_free
        size = np.unique(self.N, return_inverse=True)[1][np.unique(self.cluster, return_index=True)[1]]
        own = (np.bincount(size, mean) / np.bincount(size))[size]
        seeds = max(float(((mean - own) ** 2).sum()) - (runs - len(np.unique(size))) * point / count.mean(), 0.0)
        return (seeds + WEIGHT * LUCK**2 * point) / (runs - len(np.unique(size)) + WEIGHT), point

    def _runs(self) -> tuple[int, Array, Array]:
        """Return how many runs there are, the points of each, and the mean of each."""
        count = np.bincount(self.cluster).astype(float)
        return len(count), count, np.bincount(self.cluster, self.value) / count

    def _within_runs(self, value: Array) -> tuple[Array, int]:
        """Return what varies within runs and no law can follow, and its degrees of freedom."""
        _, count, _ = self._runs()

        def centred(columns: Array) -> Array:
            means = np.stack([np.bincount(self.cluster, c) for c in columns.T], 1) / count[:, None]
            return np.asarray(columns - means[self.cluster])

        basis = _basis(centred(self.slopes), 1e-6 * float(np.linalg.norm(self.slopes)))
        left = centred(value[:, None])[:, 0]
        return left - basis @ (basis.T @ left), len(value) - len(count) - basis.shape[1]

    @property
    def covariance(self) -> Array:
        """The covariance of the noise, (n, n)."""
        same = self.cluster[:, None] == self.cluster
        return np.asarray(self.run * same + self.point * np.eye(len(self.value)))

    @property
    def are_runs_shared(self) -> bool:
        """Whether runs have several points, so that sizes and amounts of data are judged apart."""
        return bool(self.cluster.max() + 1 < 0.7 * len(self.value))


def patterns(residuals: Residuals) -> list[Finding]:
    """Test each pattern in D, least likely first; each probability allows for the number of its like."""
    root, left, basis = _whitened(residuals)
    found = []
    for name, tried, direction in _along_data(residuals):
        inner = _unfollowed(root, basis, direction)
        q, free = inner.shape[1], len(left) - basis.shape[1] - inner.shape[1]
        if not q or free < FEW:
            continue
        follows = inner @ (inner.T @ left)
        rest = max(float(left @ left - follows @ follows), TINY)
        statistic = (float(follows @ follows) / q) / (rest / free)
        probability = min(1.0, tried * fisher_tail(statistic, q, free))
        found.append(Finding(name, probability, float(np.sqrt(np.mean((root @ follows) ** 2)))))
    return sorted(found, key=lambda one: one.probability)


def between_sizes(residuals: Residuals) -> tuple[float, str]:
    """Return how far sizes lie off the law, as a multiple of what luck of runs allows, and where most.

    The multiple is a ratio of variances; 0 where there are too few sizes, or too many to be told from points.
    """
    sizes = np.unique(residuals.N)
    if not (5 <= len(sizes) <= MANY and residuals.are_runs_shared):
        return 0.0, ""
    root, left, basis = _whitened(residuals)
    inner = _unfollowed(root, basis, (residuals.N[:, None] == sizes).astype(float))
    if not inner.shape[1]:
        return 0.0, ""
    along = {}
    for size in sizes:
        along[f"at N = {size:.3g}"] = (size == residuals.N).astype(float)[:, None]
    for size, larger in pairwise(sizes[1:-1]):
        along[f"as a step between N = {size:.3g} and {larger:.3g}"] = (larger <= residuals.N).astype(float)[:, None]
    strength = {name: float(((_unfollowed(root, basis, one).T @ left) ** 2).sum()) for name, one in along.items()}
    return float(((inner.T @ left) ** 2).sum()) / inner.shape[1], max(strength, key=lambda name: strength[name])


def _whitened(residuals: Residuals) -> tuple[Array, Array, Array]:
    """Return a root of the covariance of luck, the whitened residuals less what the law follows, and its basis."""
    root = np.linalg.cholesky(residuals.covariance)
    value, slopes = np.linalg.solve(root, residuals.value), np.linalg.solve(root, residuals.slopes)
    basis = _basis(slopes)
    return np.asarray(root), value - basis @ (basis.T @ value), basis


def _unfollowed(root: Array, basis: Array, direction: Array) -> Array:
    """Return a basis of what the law cannot follow of a direction, whitened."""
    white = np.linalg.solve(root, direction)
    return _basis(white - basis @ (basis.T @ white), 1e-6 * float(np.linalg.norm(white)))


def _along_data(residuals: Residuals) -> Iterator[tuple[str, int, Array]]:
    """Yield patterns that a law cannot follow: a name, how many alike are tried, and (n, q)."""
    x, y = residuals.x / max(np.ptp(residuals.x), 1e-9), residuals.y / max(np.ptp(residuals.y), 1e-9)
    yield "by D", 1, np.stack([y**2, y**3], 1)
    yield "of a delay at small D", 1, (residuals.slopes[:, 2] * np.exp(-residuals.y))[:, None]
    yield "by N × D", 1, (x * y)[:, None]
    yield "by N and D together", 1, np.stack([x * y, x**2 * y, x * y**2, y**2], 1)
    if not residuals.are_runs_shared:
        yield "by N", 1, np.stack([x**2, x**3], 1)
    amounts = np.unique(residuals.D)
    if 4 <= len(amounts) <= MANY:
        for amount in amounts:
            yield f"at D = {amount:.3g}", len(amounts), (amount == residuals.D).astype(float)[:, None]
        mean = [float(residuals.value[amount == residuals.D].mean()) for amount in amounts]
        worst = amounts[int(np.argmax(np.abs(mean)))]
        name = f"of the means at each D, most at {worst:.3g}"
        yield name, 1, (residuals.D[:, None] == amounts).astype(float)


def lack_of_fit(residuals: Residuals) -> list[Finding]:
    """Test the residuals against replicates: within runs, and between sizes; none without replicates.

    Here the spread is the ratio of both, root mean square.
    """
    if not residuals.are_runs_shared:
        pure, free = _pure_error(residuals, None)
        total = float(residuals.value @ residuals.value)
        return _tested("of points", total - pure, len(residuals.value) - residuals.slopes.shape[1] - free, pure, free)
    runs, count, mean = residuals._runs()
    inside, all_free = residuals._within_runs(residuals.value)
    pure, free = _pure_error(residuals, residuals.cluster)
    found = _tested("within runs", float(inside @ inside) - pure, all_free - free, pure, free)
    size = np.unique(residuals.N, return_inverse=True)[1][np.unique(residuals.cluster, return_index=True)[1]]
    own = np.bincount(size, mean) / np.bincount(size)
    seeds = float((count * (mean - own[size]) ** 2).sum())
    off = float((count * own[size] ** 2).sum())
    return found + _tested("between sizes", off, len(own) - 3, seeds, runs - len(own))


def _pure_error(residuals: Residuals, run: NDArray[np.int64] | None) -> tuple[float, int]:
    """Return the squares among replicates of one (N, D), and their degrees of freedom; free of the luck of runs."""
    _, cell = np.unique(np.stack([residuals.N, residuals.D]), axis=1, return_inverse=True)
    inside = cell[:, None] == np.arange(cell.max() + 1)
    design = inside.astype(float)
    if run is not None:
        design = np.hstack([design, (run[:, None] == np.arange(run.max() + 1)).astype(float)])
    twice = np.bincount(cell)[cell] > 1
    basis = _basis(design[twice]) if twice.any() else np.zeros((0, 0))
    value = residuals.value[twice]
    left = value - basis @ (basis.T @ value) if len(value) else value
    return float(left @ left), int(twice.sum() - basis.shape[1])


def _tested(where: str, misfit: float, free: int, pure: float, pure_free: int) -> list[Finding]:
    if free < 1 or pure_free < FEW or pure <= 0:
        return []
    statistic = max(misfit, 0.0) / free / (pure / pure_free)
    return [Finding(where, fisher_tail(statistic, free, pure_free), float(np.sqrt(statistic)))]


def _basis(columns: Array, least: float = 0.0) -> Array:
    """Return an orthonormal basis of the columns' span, (n, rank)."""
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, size > max(least, 1e-9 * max(size.max(initial=0.0), 1e-300))])
