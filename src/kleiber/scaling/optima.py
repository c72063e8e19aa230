"""Optima at several budgets of compute, and the power law through them: a and b, each alone, with a + b as a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.fit import NARROW
from kleiber.scaling.quantiles import student
from kleiber.scaling.result import FitResult, identified

__all__ = ["AT_LEAST", "Optimum", "line", "power_law"]

AT_LEAST = 3  # optima that a slope needs
SURE = 5  # and below which it says so
FAR = 0.1  # of a + b from 1


@dataclass(frozen=True)
class Optimum:
    """The best size and data of one budget, with the 95 % interval of the size where it is known."""

    flops: float
    n: float
    d: float
    n_interval: list[float] | None = None


def power_law(method: str, optima: list[Optimum], refusal: str, *, warnings: list[str], **known: Any) -> FitResult:
    """Regress ln N and ln D on ln C, each alone; REFUSED below `AT_LEAST` optima."""
    rows = [{key: value for key, value in vars(optimum).items() if value is not None} for optimum in optima]
    known |= {"method": method, "form": "power", "optima": tuple(rows)}
    if len(optima) < AT_LEAST or len({optimum.flops for optimum in optima}) < 2:
        return FitResult(status="REFUSED", warnings=(*warnings, refusal), **known)
    c, n, d = (np.log([getattr(optimum, name) for optimum in optima]) for name in ("flops", "n", "d"))
    (a, a_low, a_high), (b, b_low, b_high) = line(c, n), line(c, d)
    if abs(a + b - 1) > FAR:
        warnings.append(f"a + b = {a + b:.3f} is far from 1: compute does not grow as N · D along these optima")
    if len(optima) < SURE:
        warnings.append(f"{len(optima)} optima decide the slope")
    return FitResult(
        status="CONVERGED",
        estimates={"a": a, "b": b},
        intervals={"a": [a_low, a_high], "b": [b_low, b_high]},
        identified=identified(a=a_high - a_low <= NARROW),
        warnings=tuple(warnings),
        **known,
    )


def line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the slope of y, (n,), on x, (n,), with its 95 % interval (Student's)."""
    slope, intercept = np.polyfit(x, y, 1)
    free = len(x) - 2
    error = np.sqrt(((y - slope * x - intercept) ** 2).sum() / free / ((x - x.mean()) ** 2).sum())
    half = student(free) * error
    return float(slope), float(slope - half), float(slope + half)
