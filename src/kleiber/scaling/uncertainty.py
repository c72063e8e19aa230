"""How far to believe a fitted law: profiles, the band of defensible choices, hold-outs, and differences of two arms.

Rejected: standard errors from the curvature at the optimum, which are right where nobody doubts and wrong in a valley.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.bootstrap import Fitted, refit
from kleiber.scaling.elasticities import spread_of_seeds
from kleiber.scaling.fit import natural, problem_of, refusal
from kleiber.scaling.forms import FORMS, Points, fit_form, form_named
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.solver import Restriction, Solution, log_law

__all__ = ["Comparison", "Profile", "band", "compare", "compare_forms", "examine", "holdout", "profile"]

PROFILED = ("E", "alpha", "beta", "a")
GRID = 41
DELTAS = (1e-4, 1e-3, 1e-2)
UNIT = {"N": "size", "D": "data", "C": "compute"}


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


def profile(observations: Observations, parameter: str, *, delta: float = 1e-3) -> Profile:
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
    allowed = chi2.ppf(0.95, 1) * best[1] / max(len(z) - len(PARAMETERS), 1) + 1e-15
    inside = np.flatnonzero(rise <= allowed)
    low, high = int(inside[0]), int(inside[-1])
    return Profile(
        parameter,
        tuple(map(float, values)),
        tuple(map(float, rise)),
        (float(values[max(low - 1, 0)]), float(values[min(high + 1, len(values) - 1)])),
        bool(low > 0 and high < len(values) - 1),
    )


def band(observations: Observations) -> list[dict[str, Any]]:
    """Return a under every defensible choice.

    δ, and all points, or those without the smallest size or data.
    """
    cuts = {"all points": np.ones(len(observations), bool)}
    cuts |= {f"without the smallest {UNIT[k]}": getattr(observations, k) > getattr(observations, k).min() for k in "ND"}
    found = []
    for (cut, keep), delta in product(cuts.items(), DELTAS):
        part = observations.take(keep)
        if not refusal(part, len(PARAMETERS), force=True):
            problem, z, centre = problem_of(part, delta)
            theta = _best(problem.solve(problem.starts(z)[::4], z))[0]
            found.append({"cut": cut, "delta": delta, "a": float(natural(theta[None], centre)["a"][0])})
    return found


def examine(result: FitResult, observations: Observations) -> FitResult:
    """Add profiles, hold-outs and the band of choices to a parametric fit.

    The wider of band and interval is the headline.

    ``settings["band_of_choices"]`` is the range of a; `warnings` says so where it is wider than the interval, and
    where a flat profile leaves a parameter undecided, which then is not identified.
    """
    if result.status == "REFUSED" or result.form != "chinchilla" or result.method != "parametric":
        return result
    delta = float(result.settings["delta"])
    profiles = {key: profile(observations, key, delta=delta) for key in PROFILED}
    choices = [entry["a"] for entry in band(observations)]
    spread = [min(choices), max(choices)]
    warnings = list(result.warnings)
    known = dict(result.identified)
    for key, one in profiles.items():
        if known[key] and not one.is_identified:
            known[key] = False
            warnings.append(f"{key} is not identified: its profile is flat to the edge")
    if "a" in result.intervals and spread[1] - spread[0] > result.intervals["a"][1] - result.intervals["a"][0]:
        warnings.append(
            f"a goes from {spread[0]:.3f} to {spread[1]:.3f} over δ and points left out, further than its interval: "
            "believe the wider"
        )
    return replace(
        result,
        identified=known,
        warnings=tuple(warnings),
        settings=result.settings | {"band_of_choices": spread},
        profiles={key: {"values": list(one.values), "rise": list(one.rise)} for key, one in profiles.items()},
        holdouts=tuple(holdout(observations, delta=delta)),
    )


def holdout(observations: Observations, form: str = "chinchilla", *, delta: float = 1e-3) -> list[dict[str, Any]]:
    """Predict points that a fit has not seen.

    The largest N, D and C, and each amount of data from those below it.

    Returns
    -------
    ``left_out``, ``points``, root mean square ``error`` in nats (None where the rest cannot be fitted),
    ``error_in_noise`` (in standard deviations of seeds, else standard errors; None where neither is known), and the
    errors of two naive guesses: ``nearest``, the loss of the nearest point that was seen, and ``line``, a straight
    line of ln L on ln C.
    """
    chosen = form_named(form)
    data = np.unique(observations.D)
    edges = {"largest N": observations.N.max() == observations.N, "largest D": data[-1] == observations.D}
    c = np.log(observations.C)
    edges["largest C"] = c > c.min() + 0.8 * (c.max() - c.min())
    rolling = {f"D = {d:.3g} from less": (d == observations.D, d > observations.D) for d in data[-4:-1]}
    splits = {**{name: (left, ~left) for name, left in edges.items()}, **rolling}
    spread, free = spread_of_seeds(observations)
    noise = spread if free >= 2 else None if observations.se is None else float(np.sqrt((observations.se**2).mean()))
    found = []
    for name, (left, seen) in splits.items():
        train, test = observations.take(seen), observations.take(left)
        row: dict[str, Any] = {"left_out": name, "points": len(test), "error": None, "error_in_noise": None}
        if len(train) and not refusal(train, len(chosen.parameters), chosen.needs, force=True):
            z, at = np.log(train.loss), Points.of(test)
            if form == "chinchilla":
                problem, _, centre = problem_of(train, delta)
                theta = _best(problem.solve(problem.starts(z), z))[0]
                predicted = log_law(theta, np.log(test.N) - centre[0], np.log(test.D) - centre[1])[0]
            else:
                predicted = chosen.log_loss(fit_form(chosen, Points.of(train), z, delta, {})[0], at)
            row["error"] = _rms(np.exp(predicted) - test.loss)
            row["error_in_noise"] = row["error"] / noise if noise else None
        if len(train):
            row["nearest"] = _rms(_nearest(train, test) - test.loss)
            slope, level = np.polyfit(np.log(train.C), np.log(train.loss), 1) if len(np.unique(train.C)) > 1 else (0, 0)
            row["line"] = _rms(np.exp(level + slope * np.log(test.C)) - test.loss) if slope else None
        found.append(row)
    return found


def compare_forms(observations: Observations, *, delta: float = 1e-3) -> list[dict[str, Any]]:
    """Rank the forms: by the error of the largest C left out, then by AICc.

    Those that cannot be fitted come last.
    """
    found = []
    for form in FORMS.values():
        if form.needs and getattr(observations, form.needs) is None:
            continue
        k, n = len(form.parameters) + 1, len(observations)  # and the spread of the residuals
        row: dict[str, Any] = {"form": form.name, "parameters": k - 1, "error": None, "aicc": None}
        if not refusal(observations, k - 1, form.needs) and n > k + 1:
            objective = fit_form(form, Points.of(observations), np.log(observations.loss), delta, {})[1]
            row["aicc"] = float(n * np.log(2 * objective / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))
            row["error"] = next(
                r["error"] for r in holdout(observations, form.name, delta=delta) if "C" in r["left_out"]
            )
        found.append(row)
    return sorted(found, key=lambda r: (r["error"] is None, r["error"] or 0.0, r["aicc"] or 0.0))


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
    delta: float = 1e-3,
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


def _nearest(train: Observations, test: Observations) -> NDArray[np.float64]:
    distance = sum((np.log(getattr(test, key))[:, None] - np.log(getattr(train, key))) ** 2 for key in ("N", "D"))
    return train.loss[np.argmin(distance, axis=1)]


def _rms(errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors**2)))
