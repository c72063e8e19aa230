"""What twice the data, and twice the parameters, take off the bits per base, on average over an arm's grid.

No law is assumed and no exponent needed, so that a study whose law is not identified still has an answer. One slope
over the whole grid is asked for, since differences between neighbouring models are mostly luck; where the gain shrinks
along the grid, the bend counts as scatter between runs and widens the interval. Rejected: elasticities at the largest
models, which two sizes and two budgets decide, and a mixed model, which has more to estimate than five sizes tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.report.measures import Paired, half_width, size_count
from kleiber.report.reader import StudyOutput
from kleiber.scaling.pairs import error_of

__all__ = ["Gain", "gains"]


@dataclass(frozen=True)
class Gain:
    """Bits per base that a doubling takes off, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0


def gains(study: StudyOutput, arm: str) -> tuple[Gain | None, Gain | None]:
    """Return what twice the data and twice the parameters take off; None for what was not varied.

    Data are compared within a run, sizes at equal data and seed. The runs are the units of training and clusters of
    held-out DNA those of scoring; both kinds of luck are in the interval.
    """
    table = study.fitted(arm).drop_nulls("bits_per_base")
    table = table.with_columns(seed=pl.col("seed").fill_null(0), N=pl.col(size_count(study, arm)))
    paired = Paired(study)
    by_data = _slope(table, "n_tokens", ["size", "seed"], 1, paired)
    return by_data, _slope(table, "N", ["n_tokens", "seed"], 2, paired)


def _slope(table: pl.DataFrame, along: str, within: list[str], lost: int, paired: Paired) -> Gain | None:
    """Return minus the slope of bits per base on log2 of `along`, with a level of its own for each group of `within`.

    The error is clustered by run; `lost` degrees of freedom are taken off the number of runs.
    """
    x = pl.col(along).log(2)
    table = table.with_columns(x=x - x.mean().over(within))
    table = table.with_columns(y=pl.col("bits_per_base") - pl.col("bits_per_base").mean().over(within))
    total = float((table["x"] ** 2).sum())
    runs = table.select("size", "seed").n_unique()
    if total <= 1e-9 or runs <= lost:
        return None
    weights = table["x"] / total
    slope = float((weights * table["y"]).sum())
    left = table.with_columns(part=weights * (pl.col("y") - slope * pl.col("x")))
    of_runs = left.group_by("size", "seed").agg(pl.col("part").sum())["part"].to_numpy()
    errors = [(math.sqrt(runs / (runs - lost) * float((of_runs**2).sum())), runs - lost)]
    influence = _influence(table, weights.to_numpy(), paired)
    if influence is not None:
        errors.append((error_of(influence), paired.n - 1))
    half = half_width(errors)
    return Gain(-slope, -slope - half, -slope + half)


def _influence(table: pl.DataFrame, weights: NDArray[np.float64], paired: Paired) -> NDArray[np.float64] | None:
    """Return what each cluster of held-out DNA adds to a weighted sum of scores; None where one is not known."""
    parts = [paired.influence(row) for row in table.iter_rows(named=True)] if paired.is_known else []
    known = [weight * part for weight, part in zip(weights, parts, strict=True) if part is not None] if parts else []
    return np.sum(known, axis=0) if len(known) == len(table) and paired.n > 1 else None
