"""Two models on the same held-out DNA: the difference of their losses, and how far that DNA decided it.

What is held out is cut into clusters, and each model keeps its nats and bases of each. A loss is a ratio of sums over
clusters, and the difference of two such ratios is linear in the clusters to first order, so its error is that of a
sum of independent parts (the linearised, or Taylor, variance of survey sampling: Cochran 1977, ch. 6). What a cluster
makes hard for both models cancels, whatever their tokenizers, because clusters are places on the genome. Rejected: two
errors added in quadrature, which for models on the same DNA are many times too wide; and tokens or rows as units, which
are alike within an isochore or a repeat, so that the error would be too small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite, log, sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.scaling.quantiles import student

__all__ = ["PairedDifference", "bits_between", "difference_of", "error_of", "influence"]

Clusters = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True)
class PairedDifference:
    """A difference and how sure it is.

    Attributes
    ----------
    value
        First minus second.
    se
        Its paired standard error over clusters; NaN where there is but one.
    n
        Clusters.
    """

    value: float
    se: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, by Student's t with one degree of freedom fewer than there are clusters."""
        half = student(self.n - 1) * self.se if self.n > 1 else inf
        return self.value - half, self.value + half

    def exceeds(self, errors: float) -> bool:
        """Say whether the difference is above zero by more than so many known standard errors."""
        return isfinite(self.se) and self.value > errors * self.se


def influence(sums: Clusters, sizes: Clusters) -> NDArray[np.float64]:
    """Return what each cluster adds to Σ sums / Σ sizes beyond the mean; their sum is zero.

    Parameters
    ----------
    sums, sizes
        (G,): nats and bases, say, of each cluster; zero where a model was not scored.

    Returns
    -------
    float64 (G,).
    """
    total = sizes.sum()
    pulls: NDArray[np.float64] = (sums - sums.sum() / total * sizes) / total
    return pulls


def error_of(parts: NDArray[np.float64], present: NDArray[np.bool_] | None = None) -> float:
    """Return the standard error of a sum of independent parts, one of each cluster; NaN below two.

    Parameters
    ----------
    parts
        (G,): `influence`, or differences or means of several.
    present
        (G,): which clusters there are at all; all when None.
    """
    n = len(parts) if present is None else int(np.count_nonzero(present))
    return sqrt(n / (n - 1) * float((parts**2).sum())) if n > 1 else float("nan")


def difference_of(first: tuple[Clusters, Clusters], second: tuple[Clusters, Clusters]) -> PairedDifference:
    """Return the difference of two ratios over the same clusters, first minus second, with its error.

    Parameters
    ----------
    first, second
        (sums, sizes), each (G,): nats and bases of each cluster, in the same order for both.
    """
    present = (first[1] > 0) | (second[1] > 0)
    value = float(first[0].sum() / first[1].sum() - second[0].sum() / second[1].sum())
    parts = influence(*first) - influence(*second)
    return PairedDifference(value, error_of(parts, present), int(np.count_nonzero(present)))


def bits_between(first: pl.DataFrame, second: pl.DataFrame) -> PairedDifference:
    """Return the difference of two models in bits per base, first minus second, paired by cluster.

    Parameters
    ----------
    first, second
        A row a cluster of held-out DNA (``clusters.csv``): ``contig``, ``start``, ``n_bases``, ``nats``.

    Raises
    ------
    DataError
        When they were not scored on the same clusters.
    """
    place = ["contig", "start"]
    if not first.select(place).equals(second.select(place)):
        raise DataError(
            f"The models were scored on other held-out DNA: {len(first)} clusters and {len(second)}, which begin at "
            f"{_begins(first)} and {_begins(second)}.\n  Score both on the same: kleiber evaluate A B."
        )
    gap = difference_of(*((one["nats"].to_numpy(), one["n_bases"].to_numpy()) for one in (first, second)))
    return replace(gap, value=gap.value / log(2), se=gap.se / log(2))


def _begins(clusters: pl.DataFrame) -> str:
    return ", ".join(f"{contig}:{start:,}" for contig, start in clusters.select("contig", "start").head(2).iter_rows())
