"""From rows to a table: which runs have learned anything."""

from __future__ import annotations

import polars as pl

from kleiber.study.analysis import name_stuck

RUNS = {"good": [1.97, 1.90], "stuck": [1.97, 1.966], "barely": [1.97, 1.954]}  # by budget


def test_runs_that_never_got_better_than_frequencies():
    rows = [
        {"run": run, "arm": "ref", "n_tokens": d, "bits_per_base": bits, "bits_per_base_se": 0.01, "status": "done"}
        for run, both in RUNS.items()
        for d, bits in zip((1, 2), both, strict=True)
    ]
    found = name_stuck(pl.DataFrame(rows), {"ref": 1.965})
    assert found.filter(pl.col("status") == "stuck")["run"].to_list() == ["stuck", "stuck"]
    assert found.filter(pl.col("status") == "done")["run"].n_unique() == 2


def test_an_error_that_is_not_known_counts_as_none():
    row = {"run": "r", "arm": "a", "n_tokens": 1, "bits_per_base": 1.96, "bits_per_base_se": float("nan")}
    assert name_stuck(pl.DataFrame([row | {"status": "done"}]), {"a": 1.965})["status"].to_list() == ["done"]
    assert name_stuck(pl.DataFrame([row | {"status": "done"}]), {"a": 1.95})["status"].to_list() == ["stuck"]
