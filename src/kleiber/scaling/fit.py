"""The parametric law, fitted so that one can see whether to believe it.

The objective is the published one, the sum of Huber losses of the log residuals (Hoffmann et al. 2022,
arXiv:2203.15556). Rejected: its mean, with which quasi-Newton optimizers stop early (Besiroglu et al. 2024,
arXiv:2404.10102).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.bootstrap import MANY_RUNS, Fitted, draw_noise, draw_runs, refit
from kleiber.scaling.forms import Form, Points, fit_form, form_named, form_slopes
from kleiber.scaling.laws import PARAMETERS, optimum_exponents
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import IDENTIFIABLE, FitResult
from kleiber.scaling.solver import EXPONENTS, Problem, log_law

__all__ = ["NARROW", "fit", "natural", "problem_of", "refusal", "spread_delta"]

SAME = 1e-6  # relative difference of objectives that is one optimum
OTHER_DRAWS = 200
EFFICIENT = 1.345  # spreads: where the Huber loss turns linear at 95 % of the efficiency of least squares
SPREAD_OF_MEDIAN = 1.4826  # a normal spread, in medians of absolute residuals
DELTAS = (1e-5, 0.05)
NARROW = 0.2  # an interval of a that is wider decides nothing
NEAR_E = 3.0  # spreads of the residuals: losses nearer to E than that leave nothing to follow


def fit(
    observations: Observations,
    form: str = "chinchilla",
    *,
    delta: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    force: bool = False,
) -> FitResult:
    """Fit L = E + A/N^α + B/D^β, or another form.

    Parameters
    ----------
    form
        One of `kleiber.scaling.forms.FORMS`.
    delta
        Where the Huber loss of the log residuals turns linear; by default 1.345 spreads of the residuals
        (`spread_delta`). 1e-3 is what published fits took.
    bootstrap
        Draws of the runs or of their noise (see `kleiber.scaling.bootstrap`) behind the intervals; 0 for none.
        Other forms than chinchilla are drawn 200 times at most.
    seed
        Decides the draws.
    fixed
        Parameters that are known, by name.
    force
        Take points that are not annealed too.

    Returns
    -------
    Status REFUSED, with the reason as a warning, when there are fewer than 3 sizes or 3 budgets, fewer distinct
    (N, D) than parameters, or only points that are not annealed.

    Raises
    ------
    ConfigError
        When `delta` or `bootstrap` cannot be.
    DataError
        When the form needs a column of unique data and there is none.
    """
    if delta is not None and not 0 < delta < 1:
        raise ConfigError(f"delta = {delta} cannot be: it is a log residual between 0 and 1.")
    if bootstrap < 0 or bootstrap == 1:
        raise ConfigError(f"bootstrap = {bootstrap} cannot be: it is 0 for no intervals, or at least 2 draws.")
    chosen = form_named(form)
    if chosen.needs and getattr(observations, chosen.needs) is None:
        raise DataError(f"The form {form} needs the data before repeats.\n  Name its column: --columns unique=NAME.")
    settings = {"delta": delta, "bootstrap": bootstrap, "seed": seed, "columns": observations.columns}
    common: dict[str, Any] = {
        "method": "parametric",
        "form": form,
        "n": len(observations),
        "ranges": observations.ranges() if len(observations) else {},
        "settings": settings,
        "inputs_sha256": observations.fingerprint,
    }
    if reason := refusal(observations, len(chosen.parameters) - len(fixed or {}), chosen.needs, force):
        return FitResult(status="REFUSED", warnings=(*observations.warnings, reason), **common)
    problem, z, centre = problem_of(observations, delta)
    settings["delta"] = problem.delta
    if form != "chinchilla" or fixed:
        return _fit_other(observations, chosen, dict(fixed or {}), common)
    found = problem.solve(problem.starts(z), z)
    best = int(found.objective.argmin())
    theta, objective = found.theta[best], float(found.objective[best])
    estimates = {key: float(value[0]) for key, value in natural(theta[None], centre).items()}
    fitted, _ = log_law(theta, problem.x, problem.y)
    warnings = list(observations.warnings)
    intervals: dict[str, list[float]] = {}
    covariance = None
    if bootstrap:
        (draws,) = refit([Fitted(problem, z, theta)], observations.cluster, bootstrap, seed)
        samples = natural(draws, centre)
        intervals = {key: [float(q) for q in np.quantile(v, [0.025, 0.975])] for key, v in samples.items()}
        covariance = np.cov(np.array([samples[key] for key in PARAMETERS])).tolist()
    lowest = float(observations.loss.min())
    identified = {key: _is_identified(key, intervals.get(key), lowest) for key in IDENTIFIABLE}
    on_bound = [PARAMETERS[i] for i in problem.on_bound(theta)]
    if on_bound:
        warnings.append(f"{', '.join(on_bound)} ended on the edge of what is allowed")
        identified.update(dict.fromkeys(on_bound, False))
    identified["A"] &= identified["alpha"]
    identified["B"] &= identified["beta"]
    status = "BOUND_HIT" if on_bound else "CONVERGED" if found.settled[best] else "MAX_ITER"
    identified["a"] &= status == "CONVERGED" and identified["alpha"] and identified["beta"]
    if observations.unique is not None and (repeated := int((observations.unique < observations.D).sum())):
        warnings.append(f"{repeated} points read data repeatedly, which this form counts as new; see data-constrained")
    spread = float(np.sqrt(np.mean((z - fitted) ** 2))) * lowest
    if lowest - estimates["E"] < NEAR_E * spread:
        warnings.append(
            f"the lowest loss, {lowest:.4g}, lies within {NEAR_E:g} spreads of the residuals ({spread:.2g}) of "
            f"E = {estimates['E']:.4g}: there is nothing left to follow"
        )
    if bootstrap:
        warnings += [f"{key} is not identified" for key in ("E", "alpha", "beta", "a") if not identified[key]]
    return FitResult(
        status=status,
        objective=objective,
        estimates=estimates,
        intervals=intervals,
        identified=identified,
        covariance=covariance,
        warnings=tuple(warnings),
        **{**common, "settings": {**settings, **_basins(found.objective, found.settled)}},
    )


def _fit_other(observations: Observations, form: Form, fixed: dict[str, float], common: dict[str, Any]) -> FitResult:
    """Fit a form by general least squares: a hundred times slower, and seldom needed."""
    settings = common["settings"]
    draws = min(settings["bootstrap"], OTHER_DRAWS)
    points, z, cluster = Points.of(observations), np.log(observations.loss), observations.cluster
    values, objective, has_settled, on_bound = fit_form(form, points, z, settings["delta"], fixed)
    samples: list[dict[str, float]] = []
    if draws:
        fitted = form.log_loss(values, points)
        if cluster.max() >= MANY_RUNS:
            counts = draw_runs(cluster, draws, settings["seed"])
            drawn = [(points.take(rows), z[rows]) for rows in (np.repeat(np.arange(len(z)), c) for c in counts)]
        else:
            slopes = form_slopes(form, values, points, fixed)
            noise = draw_noise((z - fitted)[None], slopes, cluster, draws, settings["seed"])[:, 0]
            drawn = [(points, fitted + one) for one in noise]
        samples = [fit_form(form, at, y, settings["delta"], fixed, values)[0] for at, y in drawn]
    estimates = _with_optimum(values)
    spread = {key: [_with_optimum(one)[key] for one in samples] for key in estimates if key not in fixed and samples}
    intervals = {key: [float(q) for q in np.quantile(v, [0.025, 0.975])] for key, v in spread.items()}
    lowest = float(observations.loss.min())
    known = {key: _is_identified(key, intervals.get(key), lowest) and key not in on_bound for key in IDENTIFIABLE}
    known["a"] &= has_settled and not on_bound and known["alpha"] and known["beta"]
    warnings = list(observations.warnings)
    if "beta" not in form.parameters:
        known["a"] = False
        warnings.append("a = b = 0.5 is assumed by this form, not found")
    if on_bound:
        warnings.append(f"{', '.join(on_bound)} ended on the edge of what is allowed")
    if samples:
        warnings += [f"{k} is not identified" for k in ("E", "alpha", "beta", "a") if k in intervals and not known[k]]
        warnings += [f"the intervals come from {draws} draws"] if draws < settings["bootstrap"] else []
    return FitResult(
        status="BOUND_HIT" if on_bound else "CONVERGED" if has_settled else "MAX_ITER",
        objective=objective,
        estimates=estimates,
        intervals=intervals,
        identified=known,
        warnings=tuple(warnings),
        **{**common, "settings": {**settings, "bootstrap": draws, "fixed": fixed}},
    )


def _with_optimum(values: dict[str, float]) -> dict[str, float]:
    beta = values.get("beta", values["alpha"])
    a, b = optimum_exponents(values["alpha"], beta)
    return {**values, "beta": beta, "a": a, "b": b}


def problem_of(
    observations: Observations, delta: float | None = None
) -> tuple[Problem, NDArray[np.float64], tuple[float, float]]:
    """Return the minimisation, ln L, (n,), and the means of ln N and ln D that it is centred on.

    Without a δ it is that of `spread_delta`.
    """
    x, y, z = (np.log(v) for v in (observations.N, observations.D, observations.loss))
    centre = float(x.mean()), float(y.mean())
    problem = Problem(x - centre[0], y - centre[1], delta or 1e-3, float(z.min()))
    return (replace(problem, delta=spread_delta(problem, z)) if delta is None else problem), z, centre


def spread_delta(problem: Problem, z: NDArray[np.float64]) -> float:
    """Return 1.345 robust spreads of the residuals.

    As sharp as least squares to 95 %, and deaf to what lies far off.

    A smaller δ is a median regression, which needs half as many runs again for the same interval; 1e-3, which the
    published fits took, is one at the noise of most tables (Huber 1964, doi:10.1214/aoms/1177703732).
    """
    starts = problem.starts(z)[::4]
    for _ in range(3):
        found = problem.solve(starts, z)
        theta = found.theta[int(found.objective.argmin())]
        residuals = np.abs(log_law(theta, problem.x, problem.y)[0] - z)
        free = max(len(z) - len(theta), 1)
        spread = SPREAD_OF_MEDIAN * float(np.median(residuals)) * np.sqrt(len(z) / free)
        problem, starts = replace(problem, delta=float(np.clip(EFFICIENT * spread, *DELTAS))), theta[None]
    return problem.delta


def natural(theta: NDArray[np.float64], centre: tuple[float, float]) -> dict[str, NDArray[np.float64]]:
    """Return E, A, B, α, β, a, b of centred parameters (m, 5)."""
    e, a, b, alpha, beta = theta.T
    best_n, best_d = optimum_exponents(alpha, beta)
    A, B = np.exp(a + alpha * centre[0]), np.exp(b + beta * centre[1])
    return {"E": np.exp(e), "A": A, "B": B, "alpha": alpha, "beta": beta, "a": best_n, "b": best_d}


def refusal(observations: Observations, parameters: int, needs: str = "", force: bool = False) -> str:
    """Say why the points cannot carry a law of so many free parameters; empty when they can."""
    if not observations.annealed and not force:
        return "no point is annealed: what separates the losses is how far each run has come"
    if needs and observations.unique is not None and (observations.unique >= observations.D).all():
        return "no data are repeated: nothing can be said of repeats"
    sizes, budgets = len(np.unique(observations.N)), len(np.unique(observations.D))
    cells = len(np.unique(np.stack([observations.N, observations.D]), axis=1).T) if len(observations) else 0
    if budgets < 2:
        return f"all {len(observations)} points have the same D: nothing can be said of B, β or a"
    if sizes < 3 or budgets < 3:
        return f"{sizes} sizes and {budgets} budgets of data; at least 3 of each are needed"
    if cells <= parameters:
        return f"{cells} distinct (N, D) for {parameters} parameters"
    return ""


def _basins(objective: NDArray[np.float64], settled: NDArray[np.bool_]) -> dict[str, Any]:
    """Say how many of the starts ended at the optimum, and where the next best ended."""
    best = objective.min()
    other = objective[settled & (objective > best * (1 + 1e3 * SAME) + 1e-15)]
    return {
        "starts": len(objective),
        "starts_at_optimum": float((objective <= best * (1 + SAME) + 1e-18).mean()),
        "second_basin": float(other.min()) if len(other) else None,
    }


def _is_identified(key: str, interval: list[float] | None, smallest_loss: float) -> bool:
    """Say whether an interval is narrow enough to mean anything."""
    if interval is None:
        return False
    low, high = interval
    if key == "E":
        return low > 0.1 * smallest_loss and high - low < 0.5 * smallest_loss
    if key in ("alpha", "beta"):
        return low > 2 * EXPONENTS[0] and high < 0.9 * EXPONENTS[1] and high < 5 * low
    if key == "a":
        return high - low <= NARROW
    return True
