"""What else could have been measured: refits to other draws of the runs or of their noise.

Points of one training run share its luck. With many runs, runs are drawn with replacement, which is the published
procedure where every point is a run of its own. With few runs that under-covers; then the noise of a point is taken
as that of its run (size and seed) plus its own, the two variances are estimated free of what the fit has absorbed,
seeds of one size counting fully, and a draw first draws the variances, as uncertain as they are. Arms of one study
are drawn together, so that luck which they share leaves their difference.
Rejected: resampling single points, which takes the points of a run for independent; and turning residuals run by run
(wild cluster bootstrap), which narrows Chinchilla's intervals where its few influential points are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from kleiber import counter
from kleiber.scaling.solver import Problem, log_law

__all__ = ["MANY_RUNS", "Fitted", "draw_noise", "draw_runs", "noise_variances", "refit"]

STREAM = counter.stream_id("bootstrap")
MANY_RUNS = 30


class Fitted(NamedTuple):
    """A minimisation that has been done: the problem, ln L of its points, and θ at the optimum."""

    problem: Problem
    z: NDArray[np.float64]
    theta: NDArray[np.float64]


def refit(fits: Sequence[Fitted], cluster: NDArray[np.int64], draws: int, seed: int) -> list[NDArray[np.float64]]:
    """Return θ of each fit on other draws of the data, (draws, 5) each.

    Parameters
    ----------
    fits
        Of arms with the same points: point i of each belongs to the same run of the design.
    cluster
        (n,): the run of each point, from 0.
    """
    starts = [np.tile(one.theta, (draws, 1)) for one in fits]
    if cluster.max() >= MANY_RUNS:
        count = draw_runs(cluster, draws, seed).astype(np.float64)
        return [one.problem.solve(start, one.z, count).theta for one, start in zip(fits, starts, strict=True)]
    laws = [log_law(one.theta, one.problem.x, one.problem.y) for one in fits]
    residuals = np.array([one.z - fitted for one, (fitted, _) in zip(fits, laws, strict=True)])
    noise = draw_noise(residuals, laws[0][1], cluster, draws, seed)
    return [
        one.problem.solve(start, law[0] + noise[:, k]).theta
        for k, (one, law, start) in enumerate(zip(fits, laws, starts, strict=True))
    ]


def draw_runs(cluster: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.int64]:
    """Draw runs with replacement, and return how often each point counts, (draws, n)."""
    runs = int(cluster.max()) + 1
    uniforms = counter.uniforms(seed, STREAM, 0, draws * runs).reshape(draws, runs)
    drawn = (uniforms * runs).astype(np.int64) + runs * np.arange(draws)[:, None]
    return np.asarray(np.bincount(drawn.ravel(), minlength=draws * runs).reshape(draws, runs)[:, cluster])


def draw_noise(
    residuals: NDArray[np.float64], slopes: NDArray[np.float64], cluster: NDArray[np.int64], draws: int, seed: int
) -> NDArray[np.float64]:
    """Draw noise like that of some fits (k, n) to the same points, (draws, k, n); slopes are (n, p)."""
    n, runs, k = residuals.shape[1], int(cluster.max()) + 1, len(residuals)
    between, within, free_between, free_within = _noise(residuals, slopes, cluster)
    uniforms = counter.uniforms(seed, STREAM, 0, draws * (k * (runs + n) + 2)).reshape(draws, -1)
    uniforms = np.clip(uniforms, 1e-16, None)
    scale_between, scale_within = (
        np.sqrt(f / (2 * gammaincinv(f / 2, uniforms[:, i])))[:, None, None]
        for i, f in enumerate((free_between, free_within))
    )
    normal = ndtri(uniforms[:, 2:])
    luck = (_root(between) @ normal[:, : k * runs].reshape(draws, k, runs)) * scale_between
    own = (_root(within) @ normal[:, k * runs :].reshape(draws, k, n)) * scale_within
    drawn: NDArray[np.float64] = luck[..., cluster] + own
    return drawn


def noise_variances(
    residuals: NDArray[np.float64], slopes: NDArray[np.float64], cluster: NDArray[np.int64]
) -> tuple[float, float, float, float]:
    """Return the variances of ln L by luck, of runs and of their points, and what they rest on.

    Parameters
    ----------
    residuals, slopes, cluster
        Of one fit, (n,), its derivatives, (n, p), and the run of each point, (n,).

    Returns
    -------
    The variance that all points of a run share, that which each has beside it, and the degrees of freedom of both.
    """
    between, within, free_between, free_within = _noise(residuals[None], slopes, cluster)
    return max(float(between[0, 0]), 0.0), max(float(within[0, 0]), 0.0), free_between, free_within


def _noise(
    residuals: NDArray[np.float64], slopes: NDArray[np.float64], cluster: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Return what `_components` does, for residuals (k, n) of fits with the same slopes, (n, p)."""
    basis, size, _ = np.linalg.svd(slopes, full_matrices=False)
    basis = basis[:, size > 1e-9 * size[0]]
    belongs = (cluster[:, None] == np.arange(cluster.max() + 1)).astype(np.float64)
    left = np.eye(residuals.shape[1]) - basis @ basis.T  # what a fit leaves of the noise
    # Residuals of a Huber fit are larger than those of least squares, whose moments are known.
    return _components(residuals @ left, left, belongs)


def _components(
    residuals: NDArray[np.float64], left: NDArray[np.float64], belongs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Estimate the covariances of runs and of points (k, k), and their degrees of freedom, by moments.

    With noise u + e the residuals are left · (belongs · u + e); the expectations of two quadratic forms, the sum of
    squares and the sum of squares of the sums over runs, are linear in the two variances.
    """
    inner = belongs.T @ left @ belongs
    all_squares, run_squares = residuals @ residuals.T, (residuals @ belongs) @ (residuals @ belongs).T
    system = np.array([[np.trace(inner), np.trace(left)], [(inner * inner).sum(), np.trace(inner)]])
    free = float(np.trace(left))
    only_within = all_squares / max(free, 1e-9)
    own_runs = belongs.shape[1] == len(left)
    if own_runs or abs(np.linalg.det(system)) < 1e-9 * abs(system).max() ** 2:
        return np.zeros_like(all_squares), only_within, 1.0, max(free, 1.0)
    inverse = np.linalg.inv(system)
    between = inverse[0, 0] * all_squares + inverse[0, 1] * run_squares
    within = inverse[1, 0] * all_squares + inverse[1, 1] * run_squares
    free_between = float(np.trace(inner) ** 2 / (inner * inner).sum())
    return between, within, free_between, max(free - free_between, 1.0)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a square root; what the moments made negative is zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
