"""Every method on one table, under one verdict: what ``kleiber fit`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from kleiber.scaling.exclusions import leave_out
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import curves_of, envelope, gradient_rule
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.valleys import isoflop
from kleiber.scaling.witnesses import agree, examine

__all__ = ["METHODS", "fit_table"]

METHODS = ("parametric", "isoflop", "envelope", "gradient-rule")


def fit_table(
    table: pl.DataFrame,
    methods: Sequence[str] = METHODS,
    *,
    name: str = "the table",
    columns: Mapping[str, str] | None = None,
    exact_flops: bool = False,
    budgets: Sequence[float] = (),
    frequencies: float | None = None,
    form: str = "chinchilla",
    **options: Any,
) -> list[FitResult]:
    """Return the result of each method.

    Witnesses are asked, and plateaus and diverged runs left out and named.

    Parameters
    ----------
    columns, exact_flops
        As in `Observations.of`.
    budgets
        Of IsoFLOP, in FLOPs; none for the table's own.
    frequencies
        The loss of token frequencies alone (`kleiber.scaling.exclusions`).
    form, options
        Of `kleiber.scaling.fit.fit`: delta, bootstrap, seed, force.

    Raises
    ------
    DataError, ConfigError
        As `Observations.of` and `fit`.
    """
    found: dict[str, FitResult] = {}
    if {"parametric", "isoflop"} & set(methods):
        points = leave_out(Observations.of(table, columns, name, exact_flops=exact_flops), frequencies)
        law = fit(points, form, **options)
        own = {key: options[key] for key in ("seed", "force") if key in options}
        valleys = isoflop(points, budgets or None, **own)
        found["parametric"] = judge = examine(law, points, valleys)
        if form != "chinchilla" and "isoflop" in methods:
            judge = examine(fit(points, **options), points, valleys)
        found["isoflop"] = agree(valleys, judge)
    if {"envelope", "gradient-rule"} & set(methods):
        curves = curves_of(table, columns, name, exact_flops=exact_flops)
        found |= {"envelope": envelope(curves), "gradient-rule": gradient_rule(curves)}
    return [found[method] for method in methods]
