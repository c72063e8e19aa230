"""IsoFLOP, approach 2 of Hoffmann et al. 2022 (arXiv:2203.15556): the best size at each budget of compute.

A table that was made for it has budgets of its own, each with its sizes: they are found and taken as they are. In any
other table every size's loss is interpolated in ln C between its annealed points (Akima, as Porian et al. 2024,
arXiv:2406.19146). Rejected: interpolating a table of budgets, of whose sizes each has a single point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from kleiber.scaling.bootstrap import draw_noise
from kleiber.scaling.fit import NARROW, problem_of, refusal
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations
from kleiber.scaling.optima import AT_LEAST, Optimum, power_law
from kleiber.scaling.result import FitResult, identified
from kleiber.scaling.solver import log_law

__all__ = ["isoflop", "own_budgets"]

DRAWS = 200  # of noise, behind the intervals of minima
APART = 0.1  # in ln C: budgets are further apart than that, and points of one budget closer together
SIZES = 4  # that a budget of its own has at least
SHARE = 0.8  # of the points are at such budgets in a table that was made for them


class _Ladder(NamedTuple):
    """One size: ln N, and against ln C (k,) its losses (k, m), as measured and redrawn, and ln D (k,)."""

    n: float
    c: NDArray[np.float64]
    loss: NDArray[np.float64]
    d: NDArray[np.float64]


def isoflop(
    observations: Observations, budgets: Sequence[float] | None = None, *, seed: int = 0, force: bool = False
) -> FitResult:
    """Find the best size of each budget of compute by a parabola in ln N.

    a is the slope of ln N on ln C.

    A budget counts only when at least three sizes have it and the lowest is neither the smallest nor the largest of
    them. Intervals are the wider of the line's own and of those from redrawn noise.

    Parameters
    ----------
    budgets
        In FLOPs; by default the table's own, when few values of C have at least four sizes each, else seven, between
        where three sizes have begun and where three have not ended.
    seed
        Decides the draws of noise.
    force
        Take points that are not annealed too.
    """
    known: dict[str, Any] = {
        "n": len(observations),
        "inputs_sha256": observations.fingerprint,
        "ranges": observations.ranges(),
    }
    losses = observations.loss[:, None] * np.exp(_noise(observations, seed))
    own = own_budgets(observations) if budgets is None else {}
    ladders = [] if own else _ladders(observations, losses)
    asked = list(own) or list(_shared_budgets(ladders) if budgets is None else budgets)
    known["settings"] = {"budgets": [float(b) for b in asked], "columns": observations.columns, "seed": seed}
    known["settings"]["budgets_of"] = "the table" if own else "the reader" if budgets is not None else "the range of C"
    warnings = list(observations.warnings)
    if not observations.annealed and not force:
        return power_law(
            "isoflop",
            [],
            "no point is annealed: at one budget, small models have come further along their schedule than large ones",
            warnings=warnings,
            **known,
        )
    sections = {
        budget: _measured(observations, losses, own[budget]) if own else _interpolated(ladders, budget)
        for budget in asked
    }
    valleys = [valley for budget, at in sections.items() if (valley := _valley(budget, *at))]
    lost = [f"{b:.3g}" for b in asked if b not in [valley["flops"] for valley in valleys]]
    if lost:
        warnings.append(f"not bracketed by smaller and larger models: {', '.join(lost)} FLOPs")
    samples = [valley.pop("drawn") for valley in valleys]  # (n, d) of each draw, or NaN
    for valley, drawn in zip(valleys, samples, strict=True):
        if np.isfinite(drawn[:, 0]).sum() >= DRAWS / 2:
            valley["n_interval"] = [float(q) for q in np.nanquantile(drawn[:, 0], [0.025, 0.975])]
    optima = [Optimum(v["flops"], v["n_opt"], v["d_opt"], v.get("n_interval")) for v in valleys]
    cubic = np.log([(v["flops"], v["n_cubic"]) for v in valleys if v["n_cubic"]])
    if len(cubic) >= AT_LEAST:
        known["settings"]["a_cubic"] = float(np.polyfit(cubic[:, 0], cubic[:, 1], 1)[0])
    result = power_law(
        "isoflop", optima, f"fewer than {AT_LEAST} of {len(asked)} budgets are bracketed", warnings=warnings, **known
    )
    return replace(_widen(result, samples), valleys=tuple(valleys))


def _ladders(observations: Observations, losses: NDArray[np.float64]) -> list[_Ladder]:
    """Return each size's losses (n, m) and data against compute, in logarithms; seeds of one budget are averaged."""
    found = []
    for size in np.unique(observations.N):
        at = np.flatnonzero(size == observations.N)
        flops, which = np.unique(observations.C[at], return_inverse=True)
        share = (which == np.arange(len(flops))[:, None]) / np.bincount(which)[:, None]
        found.append(
            _Ladder(float(np.log(size)), np.log(flops), share @ losses[at], share @ np.log(observations.D[at]))
        )
    return found


def own_budgets(observations: Observations) -> dict[float, NDArray[np.int64]]:
    """Return the budgets that a table was made for, and the points of each; none when it was not made so."""
    order = np.argsort(observations.C, kind="stable")
    c = np.log(observations.C[order])
    found = {}
    for rows in np.split(order, np.flatnonzero(np.diff(c) > APART) + 1):
        here = observations.C[rows]
        if np.ptp(np.log(here)) < APART and len(np.unique(observations.N[rows])) >= SIZES:
            found[float(np.exp(np.log(here).mean()))] = rows
    held = sum(len(rows) for rows in found.values())
    return found if len(found) >= AT_LEAST and held >= SHARE * len(observations) else {}


def _measured(
    observations: Observations, losses: NDArray[np.float64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ln N (k,), ln D (k,) and losses (k, m) at a budget of the table's own; seeds of one size are averaged."""
    sizes, which = np.unique(observations.N[rows], return_inverse=True)
    share = (which == np.arange(len(sizes))[:, None]) / np.bincount(which)[:, None]
    return np.log(sizes), share @ np.log(observations.D[rows]), share @ losses[rows]


def _interpolated(
    ladders: list[_Ladder], budget: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return ln N (k,), ln D (k,) and losses (k, m) of the sizes that reach a budget."""
    c = float(np.log(budget))
    inside = [ladder for ladder in ladders if ladder.c[0] <= c <= ladder.c[-1]]
    n = np.array([ladder.n for ladder in inside])
    d = np.array([np.interp(c, ladder.c, ladder.d) for ladder in inside])
    return n, d, np.array([_between(ladder.c, ladder.loss, c) for ladder in inside])


def _valley(
    budget: float, n: NDArray[np.float64], d: NDArray[np.float64], losses: NDArray[np.float64]
) -> dict[str, Any] | None:
    """Return the parabola in ln N through the losses at one budget, or None when they do not bracket a minimum."""
    measured = _minimum(n, losses[:, 0]) if len(n) >= AT_LEAST else None
    if measured is None:
        return None
    best, near, parabola = measured
    others = [found[0] if (found := _minimum(n, loss)) else np.nan for loss in losses[:, 1:].T]
    loss, drawn = losses[:, 0], np.linspace(n[near][0], n[near][-1], 25)
    return {
        "flops": float(budget),
        "n": np.exp(n).tolist(),
        "loss": loss.tolist(),
        "curve_n": np.exp(drawn).tolist(),
        "curve_loss": np.polyval(parabola, drawn).tolist(),
        "n_opt": float(np.exp(best)),
        "d_opt": float(np.exp(np.interp(best, n, d))),
        "loss_opt": float(np.polyval(parabola, best)),
        "n_cubic": _cubic_minimum(n[near], loss[near]),
        "drawn": np.exp(np.array([[other, np.interp(other, n, d)] for other in others]).reshape(-1, 2)),
    }


def _between(c: NDArray[np.float64], loss: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """Interpolate losses (k, m) at one ln C."""
    if len(c) > 2:
        return np.asarray(Akima1DInterpolator(c, loss)(at))
    return np.array([np.interp(at, c, column) for column in loss.T])


def _minimum(n: NDArray[np.float64], loss: NDArray[np.float64]) -> tuple[float, slice, NDArray[np.float64]] | None:
    """Return ln N of a parabola's minimum, the sizes that it is fitted to, and its coefficients."""
    lowest = int(loss.argmin())
    if lowest in (0, len(loss) - 1):
        return None
    near = slice(max(0, lowest - 2), lowest + 3)
    parabola = np.polyfit(n[near], loss[near], 2)
    return float(np.clip(-parabola[1] / (2 * parabola[0]), n[0], n[-1])), near, parabola


def _cubic_minimum(n: NDArray[np.float64], loss: NDArray[np.float64]) -> float | None:
    """Return where a cubic through the losses has its minimum, if it has one among them."""
    if len(n) < 4:
        return None
    middle = n.mean()
    third, second, first, _ = np.polyfit(n - middle, loss, 3)
    under = second**2 - 3 * third * first
    if under <= 0 or third == 0:
        return None
    best = middle + (-second + np.sqrt(under)) / (3 * third)
    return float(np.exp(best)) if n[0] <= best <= n[-1] else None


def _noise(observations: Observations, seed: int) -> NDArray[np.float64]:
    """Draw noise of ln L as a parametric fit sees it, (n, 1 + DRAWS), none in the first; only that where none fits."""
    none = np.zeros((len(observations), 1))
    if refusal(observations, len(PARAMETERS), force=True):
        return none
    problem, z, _ = problem_of(observations)
    found = problem.solve(problem.starts(z)[::4], z)
    fitted, slopes = log_law(found.theta[found.objective.argmin()], problem.x, problem.y)
    return np.hstack([none, draw_noise((z - fitted)[None], slopes, observations.cluster, DRAWS, seed)[:, 0].T])


def _widen(result: FitResult, samples: list[NDArray[np.float64]]) -> FitResult:
    """Return the result with intervals that also hold the slopes of the redrawn valleys."""
    if result.status != "CONVERGED" or not all(len(sample) for sample in samples):
        return result
    c, minima = np.log([optimum["flops"] for optimum in result.optima]), np.log(samples)
    slopes = []
    for drawn in minima.transpose(1, 2, 0):
        has = np.isfinite(drawn[0])
        if has.sum() >= AT_LEAST:
            slopes.append([np.polyfit(c[has], values[has], 1)[0] for values in drawn])
    if len(slopes) < DRAWS / 2:
        return result
    intervals = {}
    for key, values in zip(("a", "b"), np.array(slopes).T, strict=True):
        low, high = np.quantile(values, [0.025, 0.975])
        intervals[key] = [min(float(low), result.intervals[key][0]), max(float(high), result.intervals[key][1])]
    known = identified(a=intervals["a"][1] - intervals["a"][0] <= NARROW)
    return replace(result, intervals=intervals, identified=known)


def _shared_budgets(ladders: list[_Ladder]) -> list[float]:
    if len(ladders) < 3:
        return []
    begins, ends = sorted(ladder.c[0] for ladder in ladders), sorted(ladder.c[-1] for ladder in ladders)
    return [float(b) for b in np.exp(np.linspace(begins[2], ends[-3], 7))] if begins[2] < ends[-3] else []
