"""What one more e-fold of parameters, or of data, would have bought: differences of neighbours, no law assumed.

Rejected as the headline: slopes of a fitted law, which are the law again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.scaling.observations import Observations
from kleiber.scaling.quantiles import student
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
    luck = _luck(observations, noise)
    seeds = np.array([len(np.unique(observations.cluster[size == observations.N])) for size in sizes])
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
                if luck is not None:
                    by_n, by_d = luck.of_cell(block, seeds[i : i + 2])
                    cell |= {"by_n_interval": [n_gain - by_n / wide_n, n_gain + by_n / wide_n]}
                    cell |= {"by_d_interval": [d_gain - by_d / wide_d, d_gain + by_d / wide_d]}
                cells.append(cell)
    known: dict[str, Any] = {
        "method": "elasticities",
        "form": "none",
        "n": len(observations),
        "ranges": observations.ranges(),
        "inputs_sha256": observations.fingerprint,
    }
    settings = {
        "columns": observations.columns,
        "noise": luck and luck.spread,
        "noise_of": luck.source if luck else "unknown",
        "cells": cells,
    }
    if not cells:
        reason = "no two sizes were measured at two amounts of data that they share"
        return FitResult(status="REFUSED", warnings=(*observations.warnings, reason), settings=settings, **known)
    last = max(cells, key=lambda cell: (cell["n"], cell["d"]))
    pays = "data" if last["by_d"] > last["by_n"] else "parameters"
    warnings = [f"between the two largest models, at the most data, {pays} pay more for the same compute"]
    if luck is None:
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


@dataclass(frozen=True)
class _Luck:
    """How far losses stray: variances of ln L, of a run's mean over `over` points and of a point within its run.

    `free_run` and `free_point` are their degrees of freedom.
    """

    mean: float
    point: float
    free_run: float
    free_point: float
    over: float
    source: str
    spread: float  # of a single loss, in its unit
    is_relative: bool = False  # to the loss; else in nats

    def of_cell(self, block: NDArray[np.float64], seeds: NDArray[np.int64]) -> tuple[float, float]:
        """Return half the 95 % intervals of a step in ln N and in ln D, in nats, for the four losses of a cell.

        A run's luck stays in a step from size to size, and leaves a step along its own data. Both variances are
        estimates, so that their sum has degrees of freedom of its own (Satterthwaite 1946, doi:10.2307/3002019).
        """
        level = float(block.mean()) if self.is_relative else 1.0
        extra = self.point * (0.5 - 1 / self.over)
        variance = max(self.mean + extra, 1e-300)
        doubt = self.mean**2 / self.free_run + extra**2 / self.free_point
        free = variance**2 / doubt if doubt > 0 else np.inf
        share = float((1 / seeds).sum())
        by_n = student(free) * np.sqrt(variance * share)
        by_d = student(self.free_point) * np.sqrt(self.point * share / 2)
        return level * float(by_n), level * float(by_d)


def _luck(observations: Observations, given: float | None) -> _Luck | None:
    """Take the noise that is given, else that of seeds in two strata, else standard errors, else none."""
    if given is not None:
        return _Luck(given**2, given**2, np.inf, np.inf, 2.0, "given", given)
    found = _of_seeds(observations)
    if found is None and observations.se is not None:
        variance = float((observations.se**2).mean())
        found = _Luck(variance, variance, np.inf, np.inf, 2.0, "standard errors", float(np.sqrt(variance)))
    return found


def _of_seeds(observations: Observations) -> _Luck | None:
    """Part what seeds of a size differ by into their means over the data and the rest; None without two of each."""
    z = np.log(observations.loss)
    mean, point, free_run, free_point, over = 0.0, 0.0, 0, 0, []
    for size in np.unique(observations.N):
        at = size == observations.N
        runs, row = np.unique(observations.cluster[at], return_inverse=True)
        data, column = np.unique(observations.D[at], return_inverse=True)
        table = np.full((len(runs), len(data)), np.nan)
        table[row, column] = z[at]
        shared = table[:, np.isfinite(table).all(0)]
        if len(runs) > 1 and shared.shape[1] > 1:
            off = shared - shared.mean(0)
            own = off.mean(1)
            mean, free_run = mean + float((own**2).sum()), free_run + len(runs) - 1
            point += float(((off - own[:, None]) ** 2).sum())
            free_point += (len(runs) - 1) * (shared.shape[1] - 1)
            over.append(shared.shape[1])
    if free_run < 2 or free_point < 2:
        return None
    mean, point, points = mean / free_run, point / free_point, float(np.mean(over))
    spread = float(np.exp(np.median(z)) * np.sqrt(mean + point * (1 - 1 / points)))
    return _Luck(mean, point, free_run, free_point, points, "seeds", spread, True)


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
