"""Studies that are small, odd or unlucky still give figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from kleiber.report import doubts, findings
from kleiber.report.figures import all_figures
from kleiber.report.reader import read_study
from kleiber.report.tables import tables
from report.synthetic import TWO_ARMS, write_study

BARE = ("arm", "size", "n_params", "n_tokens", "loss", "flops")


def again(table: pl.DataFrame, **changes: int | float) -> pl.DataFrame:
    columns = [pl.lit(value, table.schema[name]).alias(name) for name, value in changes.items()]
    return pl.concat([table, table.with_columns(columns)])


CASES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "one model": lambda table: table.head(1),
    "one budget": lambda table: table.filter(pl.col("n_tokens") == 500_000),
    "one size": lambda table: table.filter(pl.col("size") == "0.1M"),
    "no standard errors": lambda table: table.drop("loss_se", "bits_per_base_se"),
    "no bits per base": lambda table: table.with_columns(bits_per_base=None),
    "a stranger's table": lambda table: table.select(BARE),
    "two seeds": lambda table: again(table, seed=18),
    "repeats on purpose": lambda table: again(table, n_unique_bases=600_000, epochs=12.0),
    "diverged models": lambda table: table.with_columns(
        loss=pl.when(pl.col("size") != "0.8M").then("loss").otherwise(None)
    ),
    "losses that are no numbers": lambda table: table.with_columns(loss=float("nan")),
    "nothing annealed": lambda table: table.with_columns(annealed=False),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_studies_are_reported(tmp_path: Path, case: str):
    study_folder = write_study(tmp_path / "odd", arms=TWO_ARMS)
    path = study_folder / "observations.csv"
    CASES[case](pl.read_csv(path)).write_csv(path)
    study = read_study(study_folder)
    drawn = all_figures(study)
    assert all(one.spec()["data"]["values"] for one in drawn)
    assert tables(study)
    words = [*findings.in_brief(study), *findings.between_arms(study), *doubts.sureness(study), *doubts.limits(study)]
    words += [findings.subject(study), doubts.basis(study), doubts.verdict(study).says, *doubts.verdict(study).reasons]
    assert words
    assert not any(bad in text for text in words for bad in ("None", "nan", "inf "))


def test_repeats_on_purpose_are_paired_with_their_like(study_folder: Path):
    from kleiber.report.measures import differences

    path = study_folder / "observations.csv"
    once = {(d.arm, d.other): d.mean for d in differences(read_study(study_folder))}
    again(pl.read_csv(path), n_unique_bases=600_000).write_csv(path)
    twice = differences(read_study(study_folder))
    assert {(d.arm, d.other): d.mean for d in twice} == pytest.approx(once)
    assert {(d.n_cells, d.n_runs) for d in twice} == {(30, 10)}
