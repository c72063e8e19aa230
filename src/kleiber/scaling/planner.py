"""What to train next: the size and data for a budget, and the runs that would sharpen a the most.

Rejected: a single best N. Near the optimum the loss is flat, and the interval of N is the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.bootstrap import Fitted, refit
from kleiber.scaling.fit import natural, problem_of, refusal
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations
from kleiber.scaling.solver import log_law

__all__ = ["Plan", "next_runs", "plan_budget"]

FAR = 10.0  # times the largest measured compute


@dataclass(frozen=True)
class Plan:
    """The best model for a budget by the fitted law, each with its 95 % interval.

    Attributes
    ----------
    label
        interpolation, extrapolation, or far extrapolation (beyond 10 times the largest measured C): there the
        intervals hold the law's parameters, and not the question whether the law goes on.
    """

    flops: float
    n: float
    d: float
    loss: float
    intervals: dict[str, list[float]]
    label: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return {"schema": 1, **self.__dict__, "warnings": list(self.warnings)}


def plan_budget(
    observations: Observations, flops: float, *, delta: float | None = None, bootstrap: int = 1000, seed: int = 0
) -> Plan:
    """Return N, D and the loss that the fitted law gives for a budget of C = 6·N·D.

    Raises
    ------
    ConfigError
        When the budget is no positive number.
    DataError
        When the points cannot carry the law.
    """
    if not 0 < flops < float("inf"):
        raise ConfigError(f"flops = {flops} is no budget: it has to be a positive number.")
    fitted, centre = _fitted(observations, delta)
    n, d, loss = (float(v[0]) for v in _optimum(natural(fitted.theta[None], centre), flops))
    draws = refit([fitted], observations.cluster, bootstrap, seed)[0] if bootstrap > 1 else fitted.theta[None]
    spread = dict(zip(("n", "d", "loss"), _optimum(natural(draws, centre), flops), strict=True))
    most = float(observations.C.max())
    label = "far extrapolation" if flops > FAR * most else "extrapolation" if flops > most else "interpolation"
    warnings = list(observations.warnings)
    if label != "interpolation":
        warnings.append(f"{flops / most:.3g} times the largest measured compute")
    outside = [
        f"{name} = {value:.3g} lies outside the measured {low:.3g} to {high:.3g}"
        for name, value, (low, high) in (("N", n, observations.ranges()["N"]), ("D", d, observations.ranges()["D"]))
        if not low <= value <= high
    ]
    intervals = {key: [float(q) for q in np.quantile(v, [0.025, 0.975])] for key, v in spread.items()}
    return Plan(flops, n, d, loss, intervals, label, (*warnings, *outside))


def next_runs(
    observations: Observations, sizes: Sequence[float], data: Sequence[float], *, delta: float | None = None
) -> list[dict[str, float]]:
    """Rank candidate runs by how much each would shrink the interval of a.

    And by how much for its compute.

    The variance of a is that of the linearised law with equal noise at every point (D-optimal design, Fedorov 1972,
    asked for one parameter): where a run would go, not how wide the interval will be.

    Returns
    -------
    One entry a candidate, best first: ``n``, ``d``, ``flops``, ``shrinks`` (share of the interval's width that goes).
    """
    fitted, centre = _fitted(observations, delta)
    _, slopes = log_law(fitted.theta, fitted.problem.x, fitted.problem.y)
    alpha, beta = fitted.theta[3:]
    direction = np.array([0.0, 0.0, 0.0, -beta, alpha]) / (alpha + beta) ** 2  # derivative of β / (α + β)
    information = slopes.T @ slopes
    before = float(direction @ np.linalg.pinv(information, hermitian=True) @ direction)
    found = []
    for n in sizes:
        for d in data:
            _, row = log_law(fitted.theta, np.log([n]) - centre[0], np.log([d]) - centre[1])
            after = float(direction @ np.linalg.pinv(information + row.T @ row, hermitian=True) @ direction)
            shrinks = 1 - float(np.sqrt(after / before))
            found.append({"n": float(n), "d": float(d), "flops": float(6 * n * d), "shrinks": shrinks})
    return sorted(found, key=lambda run: -run["shrinks"])


def _fitted(observations: Observations, delta: float | None) -> tuple[Fitted, tuple[float, float]]:
    if reason := refusal(observations, len(PARAMETERS)):
        raise DataError(f"Nothing can be planned from these points: {reason}.")
    problem, z, centre = problem_of(observations, delta)
    found = problem.solve(problem.starts(z), z)
    return Fitted(problem, z, found.theta[found.objective.argmin()]), centre


def _optimum(
    values: dict[str, NDArray[np.float64]], flops: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return N, D and loss of each law at its optimum (Hoffmann et al. 2022, eq. 4)."""
    E, A, B, alpha, beta = (values[key] for key in PARAMETERS)
    log_n = (np.log(alpha * A) - np.log(beta * B) + beta * np.log(flops / 6)) / (alpha + beta)
    log_d = np.log(flops / 6) - log_n
    loss = E + np.exp(np.log(A) - alpha * log_n) + np.exp(np.log(B) - beta * log_d)
    return np.exp(log_n), np.exp(log_d), loss
