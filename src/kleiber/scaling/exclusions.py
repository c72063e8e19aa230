"""Points that no law of N and D goes through: found, named and left out before anything is fitted.

Small models and short runs can stay at the loss of token frequencies; runs that diverged end far above the others. A
few such points make a confident and wrong exponent of the rest.
Rejected: a form with a cap, which has to guess where the plateau ends from the points that it shares with the law.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.elasticities import spread_of_seeds
from kleiber.scaling.fit import refusal
from kleiber.scaling.holdouts import fit_best
from kleiber.scaling.laws import PARAMETERS
from kleiber.scaling.observations import Observations
from kleiber.scaling.solver import log_law

__all__ = ["diverged", "leave_out", "plateau"]

NEAR = 4.0  # spreads of seeds: nearer to the level than that, a loss is the level
USUAL = 0.0015  # of the loss: the spread where no seeds tell it
LEAST = 4  # points, at two sizes or more, that make a level
FALL = 2.0  # times the data, at the same loss, that make a size stand still
FAR = 7.0  # robust spreads above the law, where a run has diverged
FEW = 0.1  # of the points, at most, that are told from the others by that
NAMED = 6


def plateau(observations: Observations, frequencies: float | None = None) -> NDArray[np.bool_]:
    """Return which points are on the plateau, (n,).

    Parameters
    ----------
    frequencies
        The loss of token frequencies, in the unit of the table. Without it a plateau is a level at the highest
        losses at which at least two sizes stand still while their data double.
    """
    loss = observations.loss
    spread, free = spread_of_seeds(observations)
    usual = USUAL * float(np.median(loss)) if observations.se is None else float(np.median(observations.se))
    noise = NEAR * (spread if free >= 2 else usual)
    if frequencies is not None:
        return np.asarray(loss > frequencies - noise)
    level, on = float(loss.max()), np.zeros(len(loss), bool)
    for _ in range(10):  # the highest loss is luck: the level is the mean of those near it
        on = np.abs(loss - level) <= noise
        level = float(np.median(loss[on])) if on.any() else level
    still = 0
    for size in np.unique(observations.N[on]):
        data = observations.D[on & (size == observations.N)]
        still += bool(data.max() >= FALL * data.min())
    above = loss > level - noise
    return np.asarray(above if still >= 2 and on.sum() >= LEAST else np.zeros(len(loss), bool))


def diverged(observations: Observations) -> NDArray[np.bool_]:
    """Return which points lie further above the law than luck goes, (n,); none if they are many."""
    none = np.zeros(len(observations), bool)
    if refusal(observations, len(PARAMETERS), force=True):
        return none
    fitted, _ = fit_best(observations, None)
    residuals = fitted.z - log_law(fitted.theta, fitted.problem.x, fitted.problem.y)[0]
    spread = 1.4826 * float(np.median(np.abs(residuals)))
    found = residuals > FAR * max(spread, 1e-9)
    return found if found.sum() <= FEW * len(found) else none


def leave_out(observations: Observations, frequencies: float | None = None) -> Observations:
    """Return the points that are neither on the plateau nor diverged; warnings name the others."""
    on = plateau(observations, frequencies)
    level = float(np.median(observations.loss[on])) if on.any() and frequencies is None else frequencies
    kept = _without(observations, on, f"stay at a loss of {level or 0:.4g}, where token frequencies alone are learned")
    return _without(kept, diverged(kept), "end far above the law of the others, as diverged runs do")


def _without(observations: Observations, which: NDArray[np.bool_], what: str) -> Observations:
    if not which.any() or which.all():
        return observations
    at = zip(observations.N[which], observations.D[which], strict=True)
    points = [f"N = {n:.3g} with D = {d:.3g}" for n, d in at]
    named = ", ".join(points[:NAMED]) + (", …" if len(points) > NAMED else "")
    warning = f"{len(points)} points {what}, and are left out: {named}"
    kept = observations.take(~which)
    return replace(kept, warnings=(*kept.warnings, warning))
