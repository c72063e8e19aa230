"""How far luck goes: profiles of the objective, and differences of two arms.

Rejected: standard errors from the curvature at the optimum, which are right where nobody doubts and wrong in a valley.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.bootstrap import Fitted, refit
from kleiber.scaling.fit import natural, problem_of, refusal
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations
from kleiber.scaling.quantiles import chi_squared
from kleiber.scaling.solver import Restriction, Solution

__all__ = ["PROFILED", "Comparison", "Profile", "compare", "profile"]

PROFILED = ("E", "alpha", "beta", "a")
GRID = 41


@dataclass(frozen=True)
class Profile:
    """The best objective at each fixed value of one parameter, above the optimum.

    Attributes
    ----------
    interval
        Where the rise stays below what 95 % of a normal error would allow; an end that the grid does not reach is the
        grid's end, and then `is_identified` is False.
    """

    parameter: str
    values: tuple[float, ...]
    rise: tuple[float, ...]
    interval: tuple[float, float]
    is_identified: bool


def profile(observations: Observations, parameter: str, *, delta: float | None = None) -> Profile:
    """Minimise the objective with E, α, β or a held at each of 41 values.

    Raises
    ------
    ConfigError
        When the parameter is none of these.
    DataError
        When the points cannot carry the law.
    """
    if parameter not in PROFILED:
        raise ConfigError(f"{parameter} has no profile: choose one of {', '.join(PROFILED)}.")
    if reason := refusal(observations, len(PARAMETERS), force=True):
        raise DataError(f"There is no profile of {parameter}: {reason}.")
    problem, z, centre = problem_of(observations, delta)
    starts = problem.starts(z)
    best = _best(problem.solve(starts, z))
    found = float(natural(best[0][None], centre)[parameter][0])
    values = np.unique(np.append(_profile_grid(parameter, found, float(observations.loss.min())), found))
    objective = []
    for value in values:
        if parameter == "a":
            held = Restriction.ratio(value)
        else:
            held = Restriction.fixed(PARAMETERS.index(parameter), float(np.log(value)) if parameter == "E" else value)
        from_optimum = np.concatenate([best[0][None], starts[:1], starts[1::16]])
        objective.append(_best(replace(problem, restriction=held).solve(from_optimum, z))[1])
    rise = np.maximum(np.array(objective) - best[1], 0.0)
    allowed = chi_squared(0.95, 1) * best[1] / max(len(z) - len(PARAMETERS), 1) + 1e-15
    inside = np.flatnonzero(rise <= allowed)
    low, high = int(inside[0]), int(inside[-1])
    return Profile(
        parameter,
        tuple(map(float, values)),
        tuple(map(float, rise)),
        (float(values[max(low - 1, 0)]), float(values[min(high + 1, len(values) - 1)])),
        bool(low > 0 and high < len(values) - 1),
    )


@dataclass(frozen=True)
class Comparison:
    """What separates two arms: second minus first.

    Attributes
    ----------
    differences, intervals
        Of E, α, β, a; of ``loss at C`` and ``bits per base at C``, at the same parameters and tokens; of ``bits per
        base at bases``, at the same parameters and bases; 95 %.
    is_paired
        Whether point i of both belongs to the same size, data and seed, so that shared luck cancels.
    """

    differences: dict[str, float]
    intervals: dict[str, list[float]]
    is_paired: bool
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return {"schema": 1, **self.__dict__, "warnings": list(self.warnings)}


def compare(
    first: Observations,
    second: Observations,
    *,
    delta: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    bases_per_token: tuple[float, float] = (1.0, 1.0),
    compute: float | None = None,
) -> Comparison:
    """Compare the laws of two corpora or tokenizers.

    Parameters
    ----------
    bases_per_token
        Of both, measured; losses per token of two tokenizers do not compare, and bits per base do.
    compute
        The budget, 6·N·D, in FLOPs; by default the largest size on the most data that both have.

    Raises
    ------
    DataError
        When one of them cannot carry the law.
    """
    for which, points in (("first", first), ("second", second)):
        if reason := refusal(points, len(PARAMETERS)):
            raise DataError(f"The {which} arm cannot be compared: {reason}.")
    pairs = _paired(first, second)
    arms = (first, second) if pairs is None else (first.take(pairs[0]), second.take(pairs[1]))
    settings: dict[str, Any] = {"delta": delta, "bootstrap": bootstrap, "seed": seed, "compute": compute}
    settings |= {"bases_per_token": list(bases_per_token), "points": [len(arm) for arm in arms]}
    size = float(min(arm.N.max() for arm in arms))
    budget = compute if compute is not None else 6 * size * float(min(arm.D.max() for arm in arms))
    bases = min(float(arm.D.max()) * b for arm, b in zip(arms, bases_per_token, strict=True))
    fits, centres = [], []
    for arm in arms:
        problem, z, centre = problem_of(arm, delta)
        fits.append(Fitted(problem, z, _best(problem.solve(problem.starts(z), z))[0]))
        centres.append(centre)

    def measure(thetas: list[NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        both = [natural(theta, centre) for theta, centre in zip(thetas, centres, strict=True)]
        found = {key: both[1][key] - both[0][key] for key in PROFILED}
        at_compute, at_bases = (
            [v["E"] + v["A"] * size ** -v["alpha"] + v["B"] * d ** -v["beta"] for v, d in zip(both, data, strict=True)]
            for data in ([budget / (6 * size)] * 2, [bases / b for b in bases_per_token])
        )
        for name, losses in (("C", at_compute), ("bases", at_bases)):
            bits = [loss / (b * np.log(2)) for loss, b in zip(losses, bases_per_token, strict=True)]
            found[f"bits per base at {name}"] = bits[1] - bits[0]
        return {**found, "loss at C": at_compute[1] - at_compute[0]}

    measured = measure([one.theta[None] for one in fits])
    if pairs is None:
        draws = [
            refit([one], arm.cluster, bootstrap, seed + k)[0]
            for k, (one, arm) in enumerate(zip(fits, arms, strict=True))
        ]
    else:
        draws = refit(fits, arms[0].cluster, bootstrap, seed)
    intervals = {key: [float(q) for q in np.quantile(v, [0.025, 0.975])] for key, v in measure(draws).items()}
    warnings = [] if pairs is not None else ["the arms share no design: their luck is taken as independent"]
    return Comparison(
        {key: float(value[0]) for key, value in measured.items()},
        intervals,
        pairs is not None,
        tuple(warnings),
        settings | {"compute": budget, "bases": bases, "N": size},
    )


def _paired(first: Observations, second: Observations) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the order in which both have the same runs and data, or None when they do not."""
    orders = [np.lexsort((points.D, points.cluster, points.N)) for points in (first, second)]
    one, other = first.take(orders[0]), second.take(orders[1])
    same = len(one) == len(other) and all(
        np.allclose(getattr(one, key), getattr(other, key), rtol=0.02) for key in ("N", "D")
    )
    return (orders[0], orders[1]) if same and (one.cluster == other.cluster).all() else None


def _best(found: Solution) -> tuple[NDArray[np.float64], float]:
    i = int(found.objective.argmin())
    return found.theta[i], float(found.objective[i])


def _profile_grid(parameter: str, found: float, lowest: float) -> NDArray[np.float64]:
    if parameter == "a":
        return np.linspace(0.02, 0.98, GRID)
    if parameter == "E":
        return np.linspace(0.02, 0.999, GRID) * lowest
    return np.geomspace(max(found / 8, 0.011), min(found * 8, 2.9), GRID)
