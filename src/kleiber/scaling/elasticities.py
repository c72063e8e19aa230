"""What one more e-fold of parameters, or of data, would have bought: differences of neighbours, no law assumed.

Rejected as the headline: slopes of a fitted law, which are the law again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult

__all__ = ["elasticities", "spread_of_seeds"]

STEPS = 8  # of D that a dense curve is read at


def elasticities(observations: Observations, *, noise: float | None = None) -> FitResult:
    """Compute -dL/dlnN and -dL/dlnD between neighbouring sizes and amounts of data.

    And where they are equal.

    At equal compute, data pay more than parameters where -dL/dlnD is the larger of the two.

    Parameters
    ----------
    noise
        Standard deviation of a loss; by default that of seeds, else the standard errors of the table, else unknown.

    Returns
    -------
    ``settings["cells"]``: n, d, the two elasticities and their 95 % intervals, between each two neighbouring sizes and
    amounts of data; `estimates`: those of the largest size and data; `optima`: for each pair of sizes, where they
    balance. REFUSED where no two sizes share two amounts of data.
    """
    sizes, grid, loss = _table(observations)
    spread, free, source = _noise(observations, noise)
    cells = []
    for i in range(len(sizes) - 1):
        for j in range(len(grid) - 1):
            block = loss[i : i + 2, j : j + 2]
            if np.isfinite(block).all():
                wide_n, wide_d = np.log(sizes[i + 1] / sizes[i]), np.log(grid[j + 1] / grid[j])
                n_gain = float((block[0] - block[1]).mean() / wide_n)
                d_gain = float((block[:, 0] - block[:, 1]).mean() / wide_d)
                cell: dict[str, Any] = {"n": float(np.sqrt(sizes[i] * sizes[i + 1]))}
                cell |= {"d": float(np.sqrt(grid[j] * grid[j + 1])), "by_n": n_gain, "by_d": d_gain}
                if spread is not None:  # points of one run share their luck, and those of two runs do not
                    half = float(t.ppf(0.975, free)) * spread
                    by_n, by_d = np.sqrt(2) * half / wide_n, half / wide_d
                    cell |= {"by_n_interval": [n_gain - by_n, n_gain + by_n]}
                    cell |= {"by_d_interval": [d_gain - by_d, d_gain + by_d]}
                cells.append(cell)
    known: dict[str, Any] = {
        "method": "elasticities",
        "form": "none",
        "n": len(observations),
        "ranges": observations.ranges(),
        "inputs_sha256": observations.fingerprint,
    }
    settings = {"columns": observations.columns, "noise": spread, "noise_of": source, "cells": cells}
    if not cells:
        reason = "no two sizes were measured at two amounts of data that they share"
        return FitResult(status="REFUSED", warnings=(*observations.warnings, reason), settings=settings, **known)
    last = max(cells, key=lambda cell: (cell["n"], cell["d"]))
    pays = "data" if last["by_d"] > last["by_n"] else "parameters"
    warnings = [f"between the two largest models, at the most data, {pays} pay more for the same compute"]
    if spread is None:
        warnings.append("neither seeds nor standard errors say how far a loss strays: no intervals")
    return FitResult(
        status="CONVERGED",
        estimates={key: last[key] for key in ("by_n", "by_d")},
        intervals={key: last[f"{key}_interval"] for key in ("by_n", "by_d") if f"{key}_interval" in last},
        optima=tuple(_balances(cells)),
        warnings=(*observations.warnings, *warnings),
        settings=settings,
        **known,
    )


def spread_of_seeds(observations: Observations) -> tuple[float, int]:
    """Return the standard deviation of losses among seeds of one (N, D).

    Pooled, with its degrees of freedom.
    """
    _, cell = np.unique(np.stack([observations.N, observations.D]), axis=1, return_inverse=True)
    mean = np.bincount(cell, observations.loss) / np.bincount(cell)
    free = len(observations) - len(mean)
    return float(np.sqrt(((observations.loss - mean[cell]) ** 2).sum() / max(free, 1))), free


def _table(observations: Observations) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return sizes, amounts of data, and the mean loss of each (s, d): interpolated in ln D, NaN outside a size's."""
    sizes, data = np.unique(observations.N), np.unique(observations.D)
    if len(data) > STEPS:
        data = np.exp(np.linspace(np.log(data[0]), np.log(data[-1]), STEPS))
        data[[0, -1]] = observations.D.min(), observations.D.max()
    loss = np.full((len(sizes), len(data)), np.nan)
    for row, size in enumerate(sizes):
        at = np.flatnonzero(size == observations.N)
        own, which = np.unique(observations.D[at], return_inverse=True)
        mean = np.bincount(which, observations.loss[at]) / np.bincount(which)
        loss[row] = np.interp(np.log(data), np.log(own), mean, left=np.nan, right=np.nan)
    return sizes, data, loss


def _noise(observations: Observations, given: float | None) -> tuple[float | None, float, str]:
    if given is not None:
        return given, np.inf, "given"
    spread, free = spread_of_seeds(observations)
    if free >= 2:
        return spread, free, "seeds"
    if observations.se is not None:
        return float(np.sqrt((observations.se**2).mean())), np.inf, "standard errors"
    return None, np.inf, "unknown"


def _balances(cells: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return, for each pair of sizes, the data at which the two elasticities cross, by linear interpolation in ln D."""
    found = []
    for n in dict.fromkeys(cell["n"] for cell in cells):
        row = [cell for cell in cells if cell["n"] == n]
        excess = [cell["by_d"] - cell["by_n"] for cell in row]
        for k in range(len(row) - 1):
            if excess[k] > 0 >= excess[k + 1]:
                share = excess[k] / (excess[k] - excess[k + 1])
                d = float(np.exp((1 - share) * np.log(row[k]["d"]) + share * np.log(row[k + 1]["d"])))
                found.append({"flops": 6 * n * d, "n": n, "d": d})
    return found
