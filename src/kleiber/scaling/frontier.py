"""Estimators that read a = d ln N_opt / d ln C off losses directly: IsoFLOP, envelope, and the original study's rule.

`isoflop` and `envelope` are approaches 2 and 1 of Hoffmann et al. 2022 (arXiv:2203.15556). `gradient_rule` is what the
original study did: it takes each model's "optimum" where its loss curve has become flat, which is no optimum of
anything under a budget of compute; it is here so that its number can be reproduced and seen for what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator
from scipy.optimize import curve_fit
from scipy.stats import t

from kleiber.scaling.bootstrap import draw_noise
from kleiber.scaling.fit import problem_of, refusal
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations, positive
from kleiber.scaling.result import FitResult, identified
from kleiber.scaling.solver import log_law
from kleiber.storage import digest

__all__ = ["LossCurve", "curves_of", "envelope", "gradient_rule", "isoflop"]

SMOOTH = 100  # steps: the original study's forward window
NEAR_END = 0.95  # of a run: behind it the cooldown, or the end of the schedule, bends the curve
AT_LEAST = 3  # optima that a slope needs
SURE = 5  # and below which it says so
FAR = 0.1  # of a + b from 1
NARROW = 0.5  # an interval of a that is wider decides nothing
DRAWS = 200  # of noise, behind the intervals of minima
SENSITIVITY = (0.6, 1.0, 2.0)  # of the threshold: 1.5e-6 to 5e-6 around the study's 2.5e-6
NOT_OPTIMAL = (
    "not compute-optimal: dL/dstep = constant is no criterion of optimality, and gives a = 1 on any separable law"
)


@dataclass(frozen=True)
class LossCurve:
    """The loss of one run: parameters, then per logged step its number, tokens, FLOPs and loss."""

    N: float
    step: NDArray[np.float64]
    tokens: NDArray[np.float64]
    flops: NDArray[np.float64]
    loss: NDArray[np.float64]

    def smooth(self, steps: int = SMOOTH) -> NDArray[np.float64]:
        """Return the mean of each loss and the following, fewer in short runs, as far as a window fits.

        Shape (n - window + 1,).
        """
        window = max(1, min(steps, len(self.loss) // 10 + 1))
        return np.convolve(self.loss, np.ones(window) / window, "valid")


def curves_of(
    table: pl.DataFrame, columns: Mapping[str, str] | None = None, name: str = "the table", *, exact_flops: bool = False
) -> list[LossCurve]:
    """Group the rows of a table into one curve for each N and seed.

    In the order of D; smallest model first.

    Every row counts, annealed or not. The step is that of a column ``step`` or ``steps``, else D itself.
    """
    points = Observations.of(table.drop("annealed", strict=False), columns, name, exact_flops=exact_flops)
    named = next((column for column in ("step", "steps") if column in table.columns), None)
    row = points.row if points.row is not None else np.arange(1, len(table) + 1)
    step = positive(table[row - 1], named, row, name) if named else points.D
    curves = []
    for trunk in np.unique(points.cluster):
        at = np.flatnonzero(points.cluster == trunk)
        at = at[np.argsort(points.D[at], kind="stable")]
        at = at[np.append(True, np.diff(points.D[at]) > 0)]
        curves.append(LossCurve(float(points.N[at[0]]), step[at], points.D[at], points.C[at], points.loss[at]))
    return sorted(curves, key=lambda curve: curve.N)


@dataclass(frozen=True)
class _Optimum:
    flops: float
    n: float
    d: float
    n_interval: list[float] | None = None


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

    Every size's loss is interpolated in ln C between its annealed points (Akima, as Porian et al. 2024,
    arXiv:2406.19146); a budget counts only when at least three sizes have it and the lowest is neither the smallest
    nor the largest of them. Intervals are the wider of the line's own and of those from redrawn noise.

    Parameters
    ----------
    budgets
        In FLOPs; by default seven, between where three sizes have begun and where three have not ended.
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
    noise = _noise(observations, seed)
    ladders = _ladders(observations, observations.loss[:, None] * np.exp(noise))
    asked = list(_shared_budgets(ladders) if budgets is None else budgets)
    known["settings"] = {"budgets": [float(b) for b in asked], "columns": observations.columns, "seed": seed}
    warnings = list(observations.warnings)
    if not observations.annealed and not force:
        return _power_law(
            "isoflop",
            [],
            "no point is annealed: at one budget, small models have come further along their schedule than large ones",
            warnings=warnings,
            **known,
        )
    valleys = [valley for budget in asked if (valley := _valley(ladders, budget))]
    lost = [f"{b:.3g}" for b in asked if b not in [valley["flops"] for valley in valleys]]
    if lost:
        warnings.append(f"not bracketed by smaller and larger models: {', '.join(lost)} FLOPs")
    samples = [valley.pop("drawn") for valley in valleys]  # (n, d) of each draw, or NaN
    for valley, drawn in zip(valleys, samples, strict=True):
        if np.isfinite(drawn[:, 0]).sum() >= DRAWS / 2:
            valley["n_interval"] = [float(q) for q in np.nanquantile(drawn[:, 0], [0.025, 0.975])]
    optima = [_Optimum(v["flops"], v["n_opt"], v["d_opt"], v.get("n_interval")) for v in valleys]
    cubic = np.log([(v["flops"], v["n_cubic"]) for v in valleys if v["n_cubic"]])
    if len(cubic) >= AT_LEAST:
        known["settings"]["a_cubic"] = float(np.polyfit(cubic[:, 0], cubic[:, 1], 1)[0])
    result = _power_law(
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


def _valley(ladders: list[_Ladder], budget: float) -> dict[str, Any] | None:
    """Return the parabola in ln N through the losses at one budget, or None when they do not bracket a minimum."""
    c = float(np.log(budget))
    inside = [ladder for ladder in ladders if ladder.c[0] <= c <= ladder.c[-1]]
    if len(inside) < 3:
        return None
    n = np.array([ladder.n for ladder in inside])
    d = np.array([np.interp(c, ladder.c, ladder.d) for ladder in inside])
    losses = np.array([_between(ladder.c, ladder.loss, c) for ladder in inside])
    measured = _minimum(n, losses[:, 0])
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
    problem, z, _ = problem_of(observations, 1e-3)
    found = problem.solve(problem.starts(z), z)
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
    known = identified(a=intervals["a"][1] - intervals["a"][0] < NARROW)
    return replace(result, intervals=intervals, identified=known)


def _shared_budgets(ladders: list[_Ladder]) -> list[float]:
    if len(ladders) < 3:
        return []
    begins, ends = sorted(ladder.c[0] for ladder in ladders), sorted(ladder.c[-1] for ladder in ladders)
    return [float(b) for b in np.exp(np.linspace(begins[2], ends[-3], 7))] if begins[2] < ends[-3] else []


def envelope(curves: Sequence[LossCurve]) -> FitResult:
    """Follow the lowest training loss over compute.

    a is the slope of ln N on ln C where the lead changes hands.

    The last 5 % of each run are left out.
    """
    ordered = sorted(curves, key=lambda curve: curve.N)
    grid = np.linspace(
        np.log(max((c.flops[0] for c in curves), default=1.0)),
        np.log(max((c.flops[-1] for c in curves), default=1.0)),
        500,
    )
    losses, tokens = (np.full((len(ordered), len(grid)), np.inf) for _ in range(2))
    for row, curve in enumerate(ordered):
        smooth = curve.smooth()
        keep = slice(0, max(2, min(len(smooth), int(NEAR_END * len(curve.step)))))
        c = np.log(curve.flops[keep])
        inside = (grid >= c[0]) & (grid <= c[-1])
        losses[row, inside] = np.interp(grid[inside], c, smooth[keep])
        tokens[row, inside] = np.interp(grid[inside], c, np.log(curve.tokens[keep]))
    leader = losses.argmin(0) if len(ordered) else np.zeros(len(grid), int)
    optima = []
    for i in np.flatnonzero(np.diff(leader) > 0):
        pair = leader[i : i + 2]
        if np.isfinite(losses[pair, i]).all():
            n = np.exp(np.mean([np.log(ordered[k].N) for k in pair]))
            optima.append(_Optimum(float(np.exp(grid[i])), float(n), float(np.exp(tokens[pair, i].mean()))))
    return _power_law(
        "envelope",
        optima,
        f"the lead passes to a larger model {len(optima)} times, and {AT_LEAST} are needed",
        n=len(curves),
        warnings=["read from training losses, not held-out ones"],
        inputs_sha256=_digest(curves),
    )


def gradient_rule(
    curves: Sequence[LossCurve], threshold: float | None = None, start: float = 0.2, smooth: int = SMOOTH
) -> FitResult:
    """Do what the original study did: N against C where each loss curve's slope falls below one threshold.

    Parameters
    ----------
    threshold
        In nats a step (2.5e-6 in the study); by default the slope at which the largest model's run ends.
    start
        Share of a run that is left out before L0 + B / step^β is fitted.
    smooth
        Logged steps in the forward mean; 1 for curves that are smooth already.
    """
    fits = []
    warnings = [NOT_OPTIMAL]
    for curve in sorted(curves, key=lambda curve: curve.N):
        smoothed = curve.smooth(smooth)
        step = curve.step[: len(smoothed)]
        late = step >= start * curve.step[-1]
        if late.sum() < 4:
            warnings.append(f"{int(late.sum())} late points of {curve.N:.3g} parameters are too few for a curve")
            continue
        try:
            (_, scale, power), _ = curve_fit(
                lambda s, level, b, p: level + b * s**-p,
                step[late],
                smoothed[late],
                p0=(smoothed[-1] * 0.8, 1.0, 0.3),
                bounds=([0, 0, 1e-6], [100, 100, 1]),
            )
        except (RuntimeError, ValueError, TypeError):
            warnings.append(f"the loss of {curve.N:.3g} parameters follows no power law in the step")
            continue
        if scale > 0:
            fits.append((curve, float(scale), float(power)))
    if threshold is None and fits:
        curve, scale, power = fits[-1]
        threshold = float(scale * power * curve.step[-1] ** (-power - 1))
    band = {}
    for level in [threshold * f for f in SENSITIVITY] if threshold and len(fits) >= AT_LEAST else ():
        optima = _flat(fits, level)
        band[f"{level:.3g}"] = _line(np.log([o.flops for o in optima]), np.log([o.n for o in optima]))[0]
    if band:
        warnings.append(
            f"a moves from {min(band.values()):.3f} to {max(band.values()):.3f} as the threshold, a free choice, goes "
            f"from {min(band, key=float)} to {max(band, key=float)} nats a step"
        )
    optima = _flat(fits, threshold) if threshold else []
    return _power_law(
        "gradient-rule",
        optima,
        f"{len(optima)} curves flatten to the threshold, and {AT_LEAST} are needed",
        n=len(curves),
        warnings=warnings,
        settings={"threshold": threshold, "start": start, "smooth": smooth, "sensitivity": band},
        inputs_sha256=_digest(curves),
    )


def _flat(fits: list[tuple[LossCurve, float, float]], threshold: float) -> list[_Optimum]:
    """Return where each curve L0 + B / step^β has fallen to a slope; beyond its end, as the study did, if need be."""
    found = []
    for curve, scale, power in fits:
        share = float((scale * power / threshold) ** (1 / (power + 1)) / curve.step[-1])
        found.append(_Optimum(float(curve.flops[-1] * share), curve.N, float(curve.tokens[-1] * share)))
    return found


def _power_law(method: str, optima: list[_Optimum], refusal: str, *, warnings: list[str], **known: Any) -> FitResult:
    """Regress ln N and ln D on ln C, each alone; REFUSED below `AT_LEAST` optima."""
    rows = [{key: value for key, value in vars(optimum).items() if value is not None} for optimum in optima]
    known |= {"method": method, "form": "power", "optima": tuple(rows)}
    if len(optima) < AT_LEAST or len({optimum.flops for optimum in optima}) < 2:
        return FitResult(status="REFUSED", warnings=(*warnings, refusal), **known)
    c, n, d = (np.log([getattr(optimum, name) for optimum in optima]) for name in ("flops", "n", "d"))
    (a, a_low, a_high), (b, b_low, b_high) = _line(c, n), _line(c, d)
    if abs(a + b - 1) > FAR:
        warnings.append(f"a + b = {a + b:.3f} is far from 1: compute does not grow as N · D along these optima")
    if len(optima) < SURE:
        warnings.append(f"{len(optima)} optima decide the slope")
    return FitResult(
        status="CONVERGED",
        estimates={"a": a, "b": b},
        intervals={"a": [a_low, a_high], "b": [b_low, b_high]},
        identified=identified(a=a_high - a_low < NARROW),
        warnings=tuple(warnings),
        **known,
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the slope of y on x with its 95 % interval (Student's)."""
    slope, intercept = np.polyfit(x, y, 1)
    free = len(x) - 2
    error = np.sqrt(((y - slope * x - intercept) ** 2).sum() / free / ((x - x.mean()) ** 2).sum())
    half = t.ppf(0.975, free) * error
    return float(slope), float(slope - half), float(slope + half)


def _digest(curves: Sequence[LossCurve]) -> str:
    return digest([[c.N, c.step.tolist(), c.flops.tolist(), c.loss.tolist()] for c in curves])
