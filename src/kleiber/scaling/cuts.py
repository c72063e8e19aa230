"""The law without some of its points: does a stay, and are the points left out predicted?

Each cut leaves out an edge of the table and refits once. If the law holds, a moves by no more than the information
that went with the points (Hausman 1978, doi:10.2307/1913827), and the points are predicted as well as luck and the
refitted law allow. A law that bends follows its middle and fails at an edge.
Rejected: points left out at random (cross-validation), which lie between others, where every smooth curve is right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.bootstrap import Fitted
from kleiber.scaling.misfit import Residuals
from kleiber.scaling.observations import Observations
from kleiber.scaling.solver import log_law

__all__ = ["Refit", "cuts", "naive_errors", "refits"]

Array = NDArray[np.float64]
MANY = 16  # distinct values beyond which an edge is a share of the points
SHARES = (0.15, 0.3)
SIZES, AMOUNTS = 5, 4  # that have to stay when more than one is left out
EVERY = 4  # of a problem's starts are enough beside the optimum of all points


class Refit(NamedTuple):
    """The law without some points.

    Attributes
    ----------
    a, spread, moved, allowed
        The exponent with its standard error, how far it moved, and the standard deviation that luck gives such a move.
    error, luck
        Root mean square error of the points left out, in nats, and what luck and the refit's own error allow.
    nearest, line
        Errors of two naive guesses: the loss of the nearest point seen, and a straight line of ln L on ln C.
    """

    left_out: str
    points: int
    a: float
    spread: float
    moved: float
    allowed: float
    error: float
    luck: float
    nearest: float
    line: float | None


def cuts(observations: Observations) -> dict[str, NDArray[np.bool_]]:
    """Return which points stay without each edge of N and D, and without a fifth of the range of ln C."""
    found = {}
    for key, most, stay in (("N", 3, SIZES), ("D", 2, AMOUNTS)):
        value = getattr(observations, key)
        own = np.unique(value)
        if len(own) > MANY:
            for share in SHARES:
                low, high = np.quantile(value, [share, 1 - share])
                found[f"the smallest {share:.0%} of {key}"] = value > low
                found[f"the largest {share:.0%} of {key}"] = value < high
            continue
        for k in range(1, most + 1):
            if k == 1 or len(own) - k >= stay:
                count = "" if k == 1 else f"{k} "
                found[f"{count}smallest {key}"] = value > own[k - 1]
                found[f"{count}largest {key}"] = value < own[-k]
    c = np.log(observations.C)
    found["smallest C"] = c > c.min() + 0.2 * np.ptp(c)
    found["largest C"] = c < c.max() - 0.2 * np.ptp(c)
    return found


def refits(observations: Observations, fitted: Fitted, residuals: Residuals) -> list[Refit]:
    """Refit without each edge that leaves at least three sizes and amounts of data."""
    problem, whole = fitted.problem, _influence(fitted.theta, residuals.slopes)
    found = []
    for name, keep in cuts(observations).items():
        left = ~keep
        if not left.any() or any(len(np.unique(v[keep])) < 3 for v in (observations.N, observations.D)):
            continue
        z = fitted.z[keep]
        part = replace(problem, x=problem.x[keep], y=problem.y[keep], lowest=float(z.min()))
        solved = part.solve(np.concatenate([fitted.theta[None], part.starts(z)[::EVERY]]), z)
        theta = solved.theta[solved.objective.argmin()]
        law, slopes = log_law(theta, problem.x, problem.y)
        through = np.zeros((5, len(keep)))  # how luck of each point moves the refitted parameters
        through[:, keep] = np.linalg.pinv(slopes[keep], rcond=1e-9)
        own = _direction(theta) @ through
        move = own - whole
        unforeseen = np.eye(len(keep))[left] - slopes[left] @ through
        nearest, line = naive_errors(observations, keep)
        loss = observations.loss[left]
        found.append(
            Refit(
                name,
                int(left.sum()),
                _exponent(theta),
                float(np.sqrt(own @ residuals.covariance @ own)),
                _exponent(theta) - _exponent(fitted.theta),
                float(np.sqrt(move @ residuals.covariance @ move)),
                _rms(np.exp(law[left]) - loss),
                float(loss.mean() * np.sqrt(np.trace(unforeseen @ residuals.covariance @ unforeseen.T) / left.sum())),
                nearest,
                line,
            )
        )
    return found


def naive_errors(observations: Observations, keep: NDArray[np.bool_]) -> tuple[float, float | None]:
    """Return errors in nats on the points left out: of the nearest that stays, and of a line in ln C.

    `keep` is a mask of the points, (n,). No line where all C are the same.
    """
    n, d, c, z = (np.log(getattr(observations, key)) for key in ("N", "D", "C", "loss"))
    loss = observations.loss
    distance = (n[~keep][:, None] - n[keep]) ** 2 + (d[~keep][:, None] - d[keep]) ** 2
    nearest = _rms(loss[keep][distance.argmin(1)] - loss[~keep])
    if np.ptp(c[keep]) <= 0:
        return nearest, None
    slope, level = np.polyfit(c[keep], z[keep], 1)
    return nearest, _rms(np.exp(level + slope * c[~keep]) - loss[~keep])


def _exponent(theta: Array) -> float:
    return float(theta[4] / (theta[3] + theta[4]))


def _direction(theta: Array) -> Array:
    """Return the derivative of a = β / (α + β) by θ."""
    alpha, beta = theta[3:]
    slopes: Array = np.array([0.0, 0.0, 0.0, -beta, alpha]) / (alpha + beta) ** 2
    return slopes


def _influence(theta: Array, slopes: Array) -> Array:
    """Return how luck of each point moves a, (n,)."""
    return np.asarray(_direction(theta) @ np.linalg.pinv(slopes, rcond=1e-9))


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))
