"""Predictions of what a law has not seen, for any form; the forms are ranked by them.

The error is told in nats, in units of what luck allows (of the points left out, and of the refitted law), and beside
two naive guesses. Rejected: ranking by AICc alone, which rewards a good description of what has been seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.bootstrap import Fitted
from kleiber.scaling.cuts import cuts, naive_errors, refits
from kleiber.scaling.fit import natural, problem_of, refusal
from kleiber.scaling.forms import FORMS, Form, Points, fit_form, form_named
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.misfit import Residuals
from kleiber.scaling.observations import Observations

__all__ = ["compare_forms", "fit_best", "holdout", "predict"]

EDGES = tuple(f"{end} {key}" for end in ("largest", "smallest") for key in "NDC")
EVERY = 4


def fit_best(observations: Observations, delta: float | None) -> tuple[Fitted, tuple[float, float]]:
    """Return the law at its optimum, and the means of ln N and ln D that it is centred on."""
    problem, z, centre = problem_of(observations, delta)
    found = problem.solve(problem.starts(z)[::EVERY], z)
    return Fitted(problem, z, found.theta[int(found.objective.argmin())]), centre


def holdout(
    observations: Observations, form: str = "chinchilla", *, delta: float | None = None
) -> list[dict[str, Any]]:
    """Predict points that a fit has not seen.

    Each edge of N, D and C, and each amount of data from those below it.

    Returns
    -------
    ``left_out``, ``points``, root mean square ``error`` in nats (None where the rest cannot be fitted),
    ``error_in_noise`` (in units of what luck of the points left out and of the refit allows; None for forms other than
    the law), and the errors of two naive guesses: ``nearest``, the loss of the nearest point that was seen, and
    ``line``, a straight line of ln L on ln C.
    """
    chosen = form_named(form)
    if refusal(observations, len(chosen.parameters), chosen.needs, force=True):
        return []
    data = np.unique(observations.D)
    splits = {name: keep for name, keep in cuts(observations).items() if name in EDGES or name.startswith("the ")}
    known = {}
    if form == "chinchilla":
        fitted, _ = fit_best(observations, delta)
        known = {one.left_out: one for one in refits(observations, fitted, Residuals.of(observations, fitted))}
    found = [_row(observations, chosen, name, keep, ~keep, delta, known.get(name)) for name, keep in splits.items()]
    for d in data[-4:-1]:
        seen = d > observations.D
        name = f"D = {d:.3g} from less"
        found.append(_row(observations, chosen, name, seen, d == observations.D, delta, None))
    return found


def _row(
    observations: Observations,
    form: Form,
    name: str,
    seen: NDArray[np.bool_],
    left: NDArray[np.bool_],
    delta: float | None,
    known: Any,
) -> dict[str, Any]:
    row: dict[str, Any] = {"left_out": name, "points": int(left.sum()), "error": None, "error_in_noise": None}
    if known is not None:
        return row | {
            "error": known.error,
            "error_in_noise": known.error / known.luck if known.luck > 0 else None,
            "nearest": known.nearest,
            "line": known.line,
        }
    part = observations.take(seen | left)
    kept = seen[seen | left]
    if kept.any() and not refusal(part.take(kept), len(form.parameters), form.needs, force=True):
        law = predict(form, part, kept, delta)
        row["error"] = float(np.sqrt(np.mean((np.exp(law) - part.loss[~kept]) ** 2)))
    if kept.any():
        row["nearest"], row["line"] = naive_errors(part, kept)
    return row


def predict(
    form: Form, observations: Observations, keep: NDArray[np.bool_], delta: float | None
) -> NDArray[np.float64]:
    """Return ln L of the points that do not stay, (m,), by a form fitted to those that do."""
    part, left = observations.take(keep), Points.of(observations.take(~keep))
    fitted, centre = fit_best(part, delta)
    begin = {key: float(value[0]) for key, value in natural(fitted.theta[None], centre).items() if key in PARAMETERS}
    if form.name == "chinchilla":
        return form.log_loss(begin, left)
    points, delta = Points.of(part), fitted.problem.delta
    begin |= {"D_0": 0.05 * float(part.D.min()), "gamma": 1.0}
    start = begin if set(form.parameters) <= set(begin) and form.name != "kaplan" else None
    return form.log_loss(fit_form(form, points, fitted.z, delta, {}, start)[0], left)


def compare_forms(observations: Observations, *, delta: float | None = None) -> list[dict[str, Any]]:
    """Rank the forms: by the error of the largest C left out, then by AICc.

    Those that cannot be fitted come last.
    """
    keep = cuts(observations)["largest C"]
    found = []
    for form in FORMS.values():
        if form.needs and getattr(observations, form.needs) is None:
            continue
        k, n = len(form.parameters) + 1, len(observations)  # and the spread of the residuals
        row: dict[str, Any] = {"form": form.name, "parameters": k - 1, "error": None, "aicc": None}
        if not refusal(observations, k - 1, form.needs) and n > k + 1:
            problem, z, _ = problem_of(observations, delta)
            objective = fit_form(form, Points.of(observations), z, problem.delta, {})[1]
            row["aicc"] = float(n * np.log(2 * objective / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))
            row["error"] = _row(observations, form, "largest C", keep, ~keep, problem.delta, None)["error"]
        found.append(row)
    return sorted(found, key=lambda r: (r["error"] is None, r["error"] or 0.0, r["aicc"] or 0.0))
