"""The first screen: what a doubling buys against a regression done otherwise, and the one figure from a bare table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student_t

from kleiber.report import findings
from kleiber.report.compute import bits_against_compute, opponents_over_compute
from kleiber.report.doublings import gains
from kleiber.report.reader import read_study
from kleiber.report.style import save


def by_hand(bits: np.ndarray, log_n: np.ndarray, log_d: np.ndarray) -> tuple[float, float]:
    """Least squares with a column a run for data, and a column a budget for sizes; (sizes, budgets) of bits."""
    sizes, budgets = bits.shape
    found = []
    for x, levels in (
        (np.tile(log_d, sizes), np.kron(np.eye(sizes), np.ones((budgets, 1)))),
        (np.repeat(log_n, budgets), np.tile(np.eye(budgets), (sizes, 1))),
    ):
        fitted, *_ = np.linalg.lstsq(np.column_stack([x, levels]), bits.ravel(), rcond=None)
        found.append(-float(fitted[0]))
    return found[0], found[1]


def test_gains_are_the_slopes_of_a_regression(study_folder: Path):
    study = read_study(study_folder)
    points = study.points("ref-bpe")
    bits = points["bits_per_base"].to_numpy().reshape(5, 3)
    log_n = np.log2(points["n_params_non_embedding"].to_numpy().reshape(5, 3)[:, 0])
    log_d = np.log2(points["n_tokens"].to_numpy().reshape(5, 3)[0])
    by_data, by_size = gains(study, "ref-bpe")
    assert (by_data.value, by_size.value) == pytest.approx(by_hand(bits, log_n, log_d))
    assert by_data.is_clear
    assert by_size.is_clear


def test_the_interval_of_a_gain_is_students_over_runs(study_folder: Path):
    """Without clusters of DNA, at equal budgets: slopes of the runs, and the mean of a run against its size."""
    (study_folder / "clusters.csv").unlink()
    study = read_study(study_folder)
    bits = study.points("ref-bpe")["bits_per_base"].to_numpy().reshape(5, 3)
    x = np.log2([500_000, 1_000_000, 2_000_000])
    slopes = -np.polyfit(x, bits.T, 1)[0]
    by_data, by_size = gains(study, "ref-bpe")
    half = student_t.ppf(0.975, 4) * slopes.std(ddof=1) / np.sqrt(5)
    assert (by_data.high - by_data.low) / 2 == pytest.approx(half)
    n = np.log2(study.points("ref-bpe")["n_params_non_embedding"].to_numpy()[::3])
    n = n - n.mean()
    left = bits.mean(1) - bits.mean() + by_size.value * n
    half = student_t.ppf(0.975, 3) * np.sqrt(5 / 3 * ((n * left) ** 2).sum()) / (n**2).sum()
    assert (by_size.high - by_size.low) / 2 == pytest.approx(half)


def test_luck_of_the_held_out_dna_widens_a_gain(study_folder: Path):
    """Half of the clusters are a place where data help more: where such places lie is luck."""
    before = gains(read_study(study_folder), "ref-bpe")
    path = study_folder / "clusters.csv"
    table = pl.read_csv(path)
    side = pl.when(pl.col("start").rank("dense") % 2 == 0).then(0.5).otherwise(-0.5)
    table.with_columns(nats=pl.col("nats") + side * pl.col("steps").log(2) * pl.col("n_bases")).write_csv(path)
    after = gains(read_study(study_folder), "ref-bpe")
    assert after[0].high - after[0].low > 5 * (before[0].high - before[0].low)
    assert (after[0].value, after[1].value) == (before[0].value, before[1].value)


def test_what_was_not_varied_is_not_told(study_folder: Path):
    path = study_folder / "observations.csv"
    table = pl.read_csv(path).filter((pl.col("arm") == "ref-bpe") & (pl.col("n_tokens") == 500_000))
    table.write_csv(path)
    by_data, by_size = gains(read_study(study_folder), "ref-bpe")
    assert by_data is None
    assert by_size.is_clear
    table.head(1).write_csv(path)
    assert gains(read_study(study_folder), "ref-bpe") == (None, None)


@pytest.mark.parametrize(("noise", "says"), [(0.0, "both lower the loss"), (1.0, "whether more")])
def test_gains_that_noise_hides_are_not_claimed(study_folder: Path, noise: float, says: str):
    path = study_folder / "observations.csv"
    table = pl.read_csv(path).filter(pl.col("arm") == "ref-bpe")
    luck = pl.Series(np.random.default_rng(5).normal(0, noise, len(table)))
    table.with_columns(bits_per_base=pl.col("bits_per_base") + luck).write_csv(path)
    assert says in " ".join(findings.in_brief(read_study(study_folder)))


def test_the_one_figure_needs_a_table_only(tmp_path: Path):
    cells = [(size, n, d) for size, n in (("1M", 1e6), ("4M", 4e6)) for d in (1e7, 4e7, 16e7)]
    table = pl.DataFrame(
        [
            {
                "arm": "a",
                "size": size,
                "n_params": n,
                "n_tokens": d,
                "flops": 6 * n * d,
                "bits_per_base": 1.9 - n * d / 1e16,
            }
            for size, n, d in cells
        ]
    )
    drawn = bits_against_compute(table, {})
    assert drawn is not None
    assert drawn.panels == ()
    assert drawn.table["kind"].value_counts(sort=True, name="n")["n"].to_list() == [6, 6]
    save(drawn, tmp_path)
    assert (tmp_path / "bits-compute.svg").stat().st_size > 1000
    both = bits_against_compute(
        pl.concat([table, table.with_columns(arm=pl.lit("b"))]), {"b": {"markov-3": {"bits_per_base": 1.95}}}
    )
    assert both is not None
    assert both.panels == ("a", "b")
    assert both.spec()["facet"]["sort"] == ["a", "b"]
    assert bits_against_compute(table.with_columns(bits_per_base=None), {}) is None


def test_counts_stand_where_the_smallest_network_read_as_much():
    scored = pl.DataFrame(
        {"size": ["s", "s", "l", "l"], "n_params": [10, 10, 100, 100], "n_tokens": [1000, 4000] * 2}
    ).with_columns(flops=6.0 * pl.col("n_params") * pl.col("n_tokens"))
    curve = [
        {
            "n_tokens": d,
            "n_bases": 4 * d,
            "scores": {"markov-2": {"bits_per_base": b}, "two-sided-1": {"bits_per_base": b}},
        }
        for d, b in ((100, 2.0), (1000, 1.9), (4000, 1.8))
    ]
    rows = opponents_over_compute(scored, {"curve": curve, "markov-2": {"bits_per_base": 1.8}})
    chain = [(row["flops"], row["bits_per_base"]) for row in rows if row["opponent"] == "best Markov chain"]
    assert chain == [(6e4, 1.9), (24e4, 1.8), (24e5, 1.8)]  # flat beyond the most data that was read
