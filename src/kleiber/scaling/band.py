"""The exponent under every choice that one could defend: form, δ, count of N and of FLOPs, and points left out.

Rejected: one choice, defended well. What a reader would have found with another is part of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kleiber.scaling.fit import natural, problem_of, refusal
from kleiber.scaling.forms import FORMS, Form, Points, fit_form
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations

__all__ = ["OTHER_FORMS", "band", "frontier_slope", "other_forms"]

FACTORS = (1 / 3, 1.0, 3.0)  # of δ
OTHER_FORMS = {"delayed": "D_0", "joint": "gamma"}  # that contain the law, and what they add to it
UNIT = {"N": "size", "D": "data"}
EVERY = 4
BUDGETS = 9


def band(
    observations: Observations, delta: float, forms: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Return a for each form, δ, count of N and of FLOPs, and cut of one edge.

    `forms` are those of `other_forms`, where they have been fitted.
    """
    cuts = {"all points": np.ones(len(observations), bool)}
    for key, unit in UNIT.items():
        value = getattr(observations, key)
        cuts |= {
            f"without the smallest {unit}": value > value.min(),
            f"without the largest {unit}": value < value.max(),
        }
    found = []
    for count, points in _counts(observations).items():
        for cut, keep in cuts.items():
            part = points.take(keep)
            if refusal(part, len(PARAMETERS), force=True):
                continue
            for factor in FACTORS:
                problem, z, _ = problem_of(part, factor * delta)
                solved = problem.solve(problem.starts(z)[::EVERY], z)
                theta = solved.theta[int(solved.objective.argmin())]
                alpha, beta = theta[3:]
                row = {"form": "chinchilla", "cut": cut, "delta": factor * delta, "N": count}
                found.append(row | {"FLOPs": "6ND", "a": float(beta / (alpha + beta))})
                if count == "as counted":
                    # C = 6·D·n(N) with n ∝ N^k turns the exponent that a budget of exact FLOPs gives
                    k = float(np.polyfit(np.log(points.N), np.log(points.C / points.D), 1)[0])
                    found.append(row | {"FLOPs": "exact", "a": float(beta / (k * beta + alpha))})
    return found + [
        {"form": row["form"], "cut": "all points", "delta": delta, "N": "effective", "FLOPs": "6ND", "a": row["a"]}
        for row in (other_forms(observations, delta) if forms is None else forms)
    ]


def _counts(observations: Observations) -> dict[str, Observations]:
    """Return the points with N as C = 6·N·D has it, and as the table counts it where that is something else."""
    found = {"effective": observations}
    if observations.counted is not None:
        found["as counted"] = observations.recounted()
    return found


def other_forms(observations: Observations, delta: float) -> list[dict[str, Any]]:
    """Fit the forms that contain the law, begun at the law.

    Returns
    -------
    ``form``, ``a`` (the slope of its frontier over the measured budgets), ``adds`` (the value of what it adds),
    ``objective``, and that of the law, ``law``.
    """
    problem, z, centre = problem_of(observations, delta)
    solved = problem.solve(problem.starts(z)[::EVERY], z)
    theta = solved.theta[[int(solved.objective.argmin())]]
    law = {key: float(value[0]) for key, value in natural(theta, centre).items() if key in PARAMETERS}
    found = []
    for name, extra in OTHER_FORMS.items():
        begin = {**law, extra: 0.05 * float(observations.D.min()) if extra == "D_0" else 1.0}
        points = Points.of(observations)
        values, objective, _, _ = fit_form(FORMS[name], points, z, delta, {}, begin)
        slope = frontier_slope(FORMS[name], values, observations)
        row = {"form": name, "a": slope, "adds": values[extra], "objective": objective}
        found.append(row | {"law": float(solved.objective.min())})
    return found


def frontier_slope(form: Form, values: dict[str, float], observations: Observations) -> float:
    """Return the slope of ln N_opt on ln C over the measured budgets, by search."""
    c = np.log(6 * observations.N * observations.D)
    budgets = np.linspace(float(np.quantile(c, 0.1)), float(np.quantile(c, 0.9)), BUDGETS)
    n = np.linspace(np.log(observations.N.min() / 300), np.log(observations.N.max() * 300), 4001)
    least = values.get("D_0", 0.0) * (1 + 1e-9) if form.name == "delayed" else 0.0
    best = []
    for budget in budgets:
        d = np.exp(budget - n) / 6
        with np.errstate(all="ignore"):
            loss = form.log_loss(values, Points(np.exp(n), d, d))
        best.append(n[int(np.where((d > least) & np.isfinite(loss), loss, np.inf).argmin())])
    return float(np.polyfit(budgets, best, 1)[0])
