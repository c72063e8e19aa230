"""Estimators that read a = d ln N_opt / d ln C off losses directly: IsoFLOP, envelope, and the original study's rule.

`isoflop` and `envelope` are approaches 2 and 1 of Hoffmann et al. 2022 (arXiv:2203.15556). `gradient_rule` is what the
original study did: it takes each model's "optimum" where its loss curve has become flat, which is no optimum of
anything under a budget of compute; it is here so that its number can be reproduced and seen for what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from kleiber.scaling.observations import Observations, positive
from kleiber.scaling.result import FitResult, identified
from kleiber.storage import digest

__all__ = ["LossCurve", "curves_of", "envelope", "gradient_rule", "isoflop"]

SMOOTH = 100  # steps: the original study's forward window
NEAR_END = 0.95  # of a run: behind it the cooldown, or the end of the schedule, bends the curve
AT_LEAST = 3  # optima that a slope needs
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

    def smooth(self) -> NDArray[np.float64]:
        """Return the mean of each step's loss and the next 99, fewer in short runs, as far as a window fits."""
        window = max(1, min(SMOOTH, len(self.loss) // 10 + 1))
        return np.convolve(self.loss, np.ones(window) / window, "valid")


def curves_of(
    table: pl.DataFrame, columns: Mapping[str, str] | None = None, name: str = "the table", *, exact_flops: bool = False
) -> list[LossCurve]:
    """Group the rows of a table into one curve for each N and seed, in the order of D; smallest model first.

    Every row counts, annealed or not. The step is that of a column ``step`` or ``steps``, else D itself.
    """
    points = Observations.of(table.drop("annealed", strict=False), columns, name, exact_flops=exact_flops)
    named = next((column for column in ("step", "steps") if column in table.columns), None)
    step = positive(table, named, np.arange(1, len(table) + 1), name) if named else points.D
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


def isoflop(observations: Observations, budgets: Sequence[float] | None = None) -> FitResult:
    """Find the best size of each budget of compute by a parabola in ln N, and a as the slope of ln N on ln C.

    Every size's loss is interpolated in ln C between its annealed points; a budget counts only when at least three
    sizes have it and the lowest is neither the smallest nor the largest of them.

    Parameters
    ----------
    budgets
        In FLOPs; by default seven, between where three sizes have begun and where three have not ended.
    """
    warnings = list(observations.warnings)
    ladders = []
    for size in np.unique(observations.N):
        at = np.flatnonzero(size == observations.N)
        at = at[np.argsort(observations.C[at])]
        ladders.append((np.log(size), np.log(observations.C[at]), observations.loss[at], np.log(observations.D[at])))
    optima, lost = [], []
    budgets = list(_shared_budgets(ladders) if budgets is None else budgets)
    for budget in budgets:
        c = np.log(budget)
        inside = [ladder for ladder in ladders if ladder[1][0] <= c <= ladder[1][-1]]
        n = np.array([ladder[0] for ladder in inside])
        loss = np.array([np.interp(c, ladder[1], ladder[2]) for ladder in inside])
        lowest = int(loss.argmin()) if len(loss) else 0
        if len(loss) < 3 or lowest in (0, len(loss) - 1):
            lost.append(f"{budget:.3g}")
            continue
        near = slice(max(0, lowest - 2), lowest + 3)
        square, slope, _ = np.polyfit(n[near], loss[near], 2)
        best = float(np.clip(-slope / (2 * square), n[0], n[-1]))
        data = np.interp(best, n, [np.interp(c, ladder[1], ladder[3]) for ladder in inside])
        optima.append(_Optimum(float(budget), float(np.exp(best)), float(np.exp(data))))
    if lost:
        warnings.append(f"not bracketed by smaller and larger models: {', '.join(lost)} FLOPs")
    return _power_law(
        "isoflop",
        optima,
        f"fewer than {AT_LEAST} of {len(budgets)} budgets are bracketed",
        n=len(observations),
        warnings=warnings,
        settings={"budgets": [float(b) for b in budgets], "columns": observations.columns},
        inputs_sha256=observations.fingerprint,
        ranges=observations.ranges(),
    )


def _shared_budgets(ladders: list[tuple[Any, ...]]) -> list[float]:
    if len(ladders) < 3:
        return []
    begins, ends = sorted(ladder[1][0] for ladder in ladders), sorted(ladder[1][-1] for ladder in ladders)
    return [float(b) for b in np.exp(np.linspace(begins[2], ends[-3], 7))] if begins[2] < ends[-3] else []


def envelope(curves: Sequence[LossCurve]) -> FitResult:
    """Follow the lowest training loss over compute, and a as the slope of ln N on ln C where the lead changes hands.

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


def gradient_rule(curves: Sequence[LossCurve], threshold: float | None = None, start: float = 0.2) -> FitResult:
    """Do what the original study did: N against C where each loss curve's slope falls below one threshold.

    Parameters
    ----------
    threshold
        In nats a step (2.5e-6 in the study); by default the slope at which the largest model's run ends.
    start
        Share of a run that is left out before L0 + B / step^β is fitted.
    """
    fits = []
    warnings = [NOT_OPTIMAL]
    for curve in sorted(curves, key=lambda curve: curve.N):
        smooth = curve.smooth()
        step = curve.step[: len(smooth)]
        late = (step >= start * curve.step[-1]) & np.isfinite(smooth)
        if late.sum() < 4:
            warnings.append(f"{int(late.sum())} late points of {curve.N:.3g} parameters are too few for a curve")
            continue
        try:
            (_, scale, power), _ = curve_fit(
                lambda s, level, b, p: level + b * s**-p,
                step[late],
                smooth[late],
                p0=(smooth[-1] * 0.8, 1.0, 0.3),
                bounds=([0, 0, 1e-6], [100, 100, 1]),
            )
        except (RuntimeError, ValueError, TypeError):
            warnings.append(f"the loss of {curve.N:.3g} parameters follows no power law in the step")
            continue
        fits.append((curve, scale, power))
    if threshold is None and fits:
        curve, scale, power = fits[-1]
        threshold = float(scale * power * curve.step[-1] ** (-power - 1))
    optima = []
    for curve, scale, power in fits:
        until = (scale * power / threshold) ** (1 / (power + 1)) if threshold and scale > 0 else np.inf
        if np.isfinite(until) and until > 0:
            share = float(until / curve.step[-1])  # beyond 1 the rule extrapolates the run, as the study's did
            optima.append(_Optimum(float(curve.flops[-1] * share), curve.N, float(curve.tokens[-1] * share)))
    return _power_law(
        "gradient-rule",
        optima,
        f"{len(optima)} curves flatten to the threshold, and {AT_LEAST} are needed",
        n=len(curves),
        warnings=warnings,
        settings={"threshold": threshold, "start": start, "smooth": SMOOTH},
        inputs_sha256=_digest(curves),
    )


def _power_law(method: str, optima: list[_Optimum], refusal: str, *, warnings: list[str], **known: Any) -> FitResult:
    """Regress ln N and ln D on ln C, each alone; REFUSED below `AT_LEAST` optima."""
    known |= {"method": method, "form": "power", "optima": tuple(optimum.__dict__ for optimum in optima)}
    if len(optima) < AT_LEAST or len({optimum.flops for optimum in optima}) < 2:
        return FitResult(status="REFUSED", warnings=(*warnings, refusal), **known)
    c, n, d = (np.log([getattr(optimum, name) for optimum in optima]) for name in ("flops", "n", "d"))
    (a, a_low, a_high), (b, b_low, b_high) = _line(c, n), _line(c, d)
    return FitResult(
        status="CONVERGED",
        estimates={"a": a, "b": b},
        intervals={"a": [a_low, a_high], "b": [b_low, b_high]},
        identified=identified(a=a_high - a_low < 0.5),
        warnings=tuple(warnings),
        **known,
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the slope of y on x with its 95 % interval (Student's)."""
    from scipy.stats import t

    slope, intercept = np.polyfit(x, y, 1)
    free = len(x) - 2
    error = np.sqrt(((y - slope * x - intercept) ** 2).sum() / free / ((x - x.mean()) ** 2).sum())
    half = t.ppf(0.975, free) * error
    return float(slope), float(slope - half), float(slope + half)


def _digest(curves: Sequence[LossCurve]) -> str:
    return digest([[c.N, c.step.tolist(), c.flops.tolist(), c.loss.tolist()] for c in curves])
