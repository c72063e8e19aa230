"""Estimators that read a = d ln N_opt / d ln C off loss curves: the envelope, and the original study's rule.

`envelope` is approach 1 of Hoffmann et al. 2022 (arXiv:2203.15556). `gradient_rule` is what the original study did: it
takes each model's "optimum" where its loss curve has become flat, which is no optimum of anything under a budget of
compute; it is here so that its number can be reproduced and seen for what it is. Both need curves: dense ones, at a
constant rate. Rejected: straight lines between a few finished models, which cross where the larger model begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from kleiber import counter
from kleiber.scaling.fit import NARROW
from kleiber.scaling.observations import Observations, positive
from kleiber.scaling.optima import AT_LEAST, Optimum, line, power_law
from kleiber.scaling.result import FitResult, identified
from kleiber.scaling.valleys import isoflop
from kleiber.storage import digest

__all__ = ["LossCurve", "curves_of", "envelope", "gradient_rule", "isoflop"]

STREAM = counter.stream_id("curves")
SMOOTH = 100  # steps: the original study's forward window
DENSE = 30  # points that a curve has at least
NEAR_END = 0.95  # of a run: behind it the cooldown, or the end of the schedule, bends the curve
INSIDE = 0.1  # in ln C: a lead that passes sooner after a curve begins is where it begins, and no crossing
DRAWS = 200  # of curves, behind the intervals
SENSITIVITY = (0.6, 1.0, 2.0)  # of the threshold: 1.5e-6 to 5e-6 around the study's 2.5e-6
NOT_OPTIMAL = (
    "not compute-optimal: dL/dstep = constant is no criterion of optimality, and gives a = 1 on any separable law"
)


@dataclass(frozen=True)
class LossCurve:
    """The loss of one run: parameters, then per logged step its number, tokens, FLOPs and loss.

    Attributes
    ----------
    is_final
        Whether each point is a finished model of its own, and none of them a step of one run.
    """

    N: float
    step: NDArray[np.float64]
    tokens: NDArray[np.float64]
    flops: NDArray[np.float64]
    loss: NDArray[np.float64]
    is_final: bool = False

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

    Every row counts; where the table says that all are annealed, each is a model of its own and the curves are final.
    The step is that of a column ``step`` or ``steps``, else D itself.
    """
    is_final = "annealed" in table.columns and Observations.of(table, columns, name, exact_flops=exact_flops).annealed
    points = Observations.of(table.drop("annealed", strict=False), columns, name, exact_flops=exact_flops)
    named = next((column for column in ("step", "steps") if column in table.columns), None)
    row = points.row if points.row is not None else np.arange(1, len(table) + 1)
    step = positive(table[row - 1], named, row, name) if named else points.D
    curves = []
    for trunk in np.unique(points.cluster):
        at = np.flatnonzero(points.cluster == trunk)
        at = at[np.argsort(points.D[at], kind="stable")]
        at = at[np.append(True, np.diff(points.D[at]) > 0)]
        curves.append(
            LossCurve(float(points.N[at[0]]), step[at], points.D[at], points.C[at], points.loss[at], is_final)
        )
    return sorted(curves, key=lambda curve: curve.N)


def envelope(curves: Sequence[LossCurve], *, seed: int = 0) -> FitResult:
    """Follow the lowest training loss over compute.

    a is the slope of ln N on ln C where the lead changes hands, inside both curves; the last 5 % of each run are left
    out. The interval comes from other draws of the curves. REFUSED unless every curve has 30 points along one run.
    """
    known = {"n": len(curves), "inputs_sha256": _digest(curves)}
    warnings = ["read from training losses, not held-out ones"]
    if reason := _unfit(curves):
        return power_law("envelope", [], reason, warnings=warnings, **known)
    optima = _crossings(curves)
    reason = f"the lead passes to a larger model {len(optima)} times inside both curves, and {AT_LEAST} are needed"
    return _resampled(power_law("envelope", optima, reason, warnings=warnings, **known), curves, _crossings, seed)


def _crossings(curves: Sequence[LossCurve]) -> list[Optimum]:
    """Return where a larger model, which was behind, takes the lead."""
    ordered = sorted(curves, key=lambda curve: curve.N)
    if not ordered:
        return []
    grid = np.linspace(
        np.log(max(curve.flops[0] for curve in ordered)), np.log(max(curve.flops[-1] for curve in ordered)), 500
    )
    losses, tokens = (np.full((len(ordered), len(grid)), np.inf) for _ in range(2))
    begins = np.empty(len(ordered))
    for row, curve in enumerate(ordered):
        smooth = curve.smooth()
        middle = (len(curve.step) - len(smooth)) // 2  # a mean belongs to the middle of its window, or curves shift
        keep = slice(0, max(2, min(len(smooth), int(NEAR_END * len(curve.step)) - middle)))
        at = slice(keep.start + middle, keep.stop + middle)
        c = np.log(curve.flops[at])
        inside = (grid >= c[0]) & (grid <= c[-1])
        begins[row] = c[0]
        losses[row, inside] = np.interp(grid[inside], c, smooth[keep])
        tokens[row, inside] = np.interp(grid[inside], c, np.log(curve.tokens[at]))
    leader = losses.argmin(0)
    optima = []
    for i in np.flatnonzero(np.diff(leader) > 0):
        pair = leader[i : i + 2]
        is_crossing = np.isfinite(losses[pair, i : i + 2]).all() and grid[i] > begins[pair[1]] + INSIDE
        if is_crossing:
            n = np.exp(np.mean([np.log(ordered[k].N) for k in pair]))
            optima.append(Optimum(float(np.exp(grid[i])), float(n), float(np.exp(tokens[pair, i].mean()))))
    return optima


def _unfit(curves: Sequence[LossCurve]) -> str:
    """Say why curves are none along a run; empty when they are."""
    final = sum(curve.is_final for curve in curves)
    if final:
        return (
            f"{final} of {len(curves)} curves join finished models, each with a schedule of its own: no run went there"
        )
    short = [curve for curve in curves if len(curve.step) < DENSE]
    if short:
        return (
            f"{len(short)} of {len(curves)} curves have fewer than {DENSE} points (N = {short[0].N:.3g} has "
            f"{len(short[0].step)}): lines between a few points cross where they begin, whatever the truth"
        )
    return ""


def _resampled(
    result: FitResult, curves: Sequence[LossCurve], optima_of: Callable[[Sequence[LossCurve]], list[Optimum]], seed: int
) -> FitResult:
    """Widen the intervals to those of curves drawn with replacement, as the next study would have other sizes."""
    if result.status != "CONVERGED":
        return result
    rows = (counter.uniforms(seed, STREAM, 0, DRAWS * len(curves)).reshape(DRAWS, -1) * len(curves)).astype(int)
    slopes = []
    for drawn in rows:
        found = optima_of([curves[i] for i in np.unique(drawn)])
        if len(found) >= AT_LEAST and len({optimum.flops for optimum in found}) > 1:
            c = np.log([optimum.flops for optimum in found])
            slopes.append([line(c, np.log([getattr(optimum, key) for optimum in found]))[0] for key in ("n", "d")])
    if len(slopes) < DRAWS / 4:
        warning = "most draws of the curves have too few optima: the interval is that of one line"
        return replace(result, identified=identified(), warnings=(*result.warnings, warning))
    intervals = {}
    for key, values in zip(("a", "b"), np.array(slopes).T, strict=True):
        low, high = np.quantile(values, [0.025, 0.975])
        intervals[key] = [min(float(low), result.intervals[key][0]), max(float(high), result.intervals[key][1])]
    known = intervals["a"][1] - intervals["a"][0] <= NARROW
    return replace(result, intervals=intervals, identified=identified(a=known), usable=known)


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
    warnings = [NOT_OPTIMAL]
    known = {"n": len(curves), "inputs_sha256": _digest(curves)}
    if reason := _unfit(curves):
        return power_law("gradient-rule", [], reason, warnings=warnings, **known)
    fits = []
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
        band[f"{level:.3g}"] = line(np.log([o.flops for o in optima]), np.log([o.n for o in optima]))[0]
    if band:
        warnings.append(
            f"a moves from {min(band.values()):.3f} to {max(band.values()):.3f} as the threshold, a free choice, goes "
            f"from {min(band, key=float)} to {max(band, key=float)} nats a step"
        )
    optima = _flat(fits, threshold) if threshold else []
    result = power_law(
        "gradient-rule",
        optima,
        f"{len(optima)} curves flatten to the threshold, and {AT_LEAST} are needed",
        warnings=warnings,
        settings={"threshold": threshold, "start": start, "smooth": smooth, "sensitivity": band},
        **known,
    )
    if result.status != "CONVERGED":
        return result
    slope = f"the rule's slope is {result.estimates['a']:.4f}: what the study computed, and no exponent of a best size"
    return replace(result, identified=identified(), warnings=(*result.warnings, slope))


def _flat(fits: list[tuple[LossCurve, float, float]], threshold: float) -> list[Optimum]:
    """Return where each curve L0 + B / step^β has fallen to a slope; beyond its end, as the study did, if need be."""
    found = []
    for curve, scale, power in fits:
        share = float((scale * power / threshold) ** (1 / (power + 1)) / curve.step[-1])
        found.append(Optimum(float(curve.flops[-1] * share), curve.N, float(curve.tokens[-1] * share)))
    return found


def _digest(curves: Sequence[LossCurve]) -> str:
    return digest([[c.N, c.step.tolist(), c.flops.tolist(), c.loss.tolist()] for c in curves])
