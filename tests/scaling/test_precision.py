"""Rows that were trained in another precision are named, and errors that are not known are not used."""

from __future__ import annotations

import polars as pl

from kleiber.scaling.observations import Observations

TABLE = pl.DataFrame({"N": [1e5, 2e5, 4e5], "D": [1e6, 1e6, 1e6], "loss": [5.0, 4.9, 4.8], "annealed": [True] * 3})


def test_rows_of_another_precision_are_named():
    assert Observations.of(TABLE.with_columns(precision=pl.lit("bf16"))).warnings == ()
    mixed = TABLE.with_columns(precision=pl.Series(["bf16", "fp32", "bf16"]))
    (warning,) = Observations.of(mixed).warnings
    assert warning == "rows of different precision share this fit: fp32 in row 2, bf16 in the others"


def test_errors_that_one_cluster_cannot_tell_are_not_used():
    known = Observations.of(TABLE.with_columns(loss_se=pl.Series([0.1, 0.1, 0.1])))
    assert known.se is not None
    unknown = Observations.of(TABLE.with_columns(loss_se=pl.Series([0.1, float("nan"), 0.1])))
    assert unknown.se is None
    assert unknown.warnings == ("standard errors are not used: 1 of 3 in column 'loss_se' are zero or missing",)
