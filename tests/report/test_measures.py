"""Optima, predictions and differences against other people's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import t as student_t
from scipy.stats import ttest_rel

from kleiber.report.measures import PUBLISHED, differences, frontier, optima, predicted_loss, published, steps_along
from kleiber.report.reader import Law, read_study
from report.synthetic import LAW, law


@given(
    alpha=st.floats(0.2, 0.8),
    beta=st.floats(0.2, 0.8),
    A=st.floats(1, 1e3),
    B=st.floats(1, 1e3),
    log_c=st.floats(10, 20),
)
def test_frontier_minimises_the_law_at_fixed_compute(alpha: float, beta: float, A: float, B: float, log_c: float):
    estimates = {"E": 1.0, "A": A, "B": B, "alpha": alpha, "beta": beta}
    lines = frontier(Law("arm", "parametric", {"status": "CONVERGED", "estimates": estimates}))
    assert lines is not None
    c = 10.0**log_c
    # Without E, whose size would hide the minimum below rounding.
    best = minimize_scalar(
        lambda log_n: np.log(A * 10 ** (-alpha * log_n) + B * (c / 6 / 10**log_n) ** -beta),
        bounds=(-20, 40),
        options={"xatol": 1e-9},
    )
    n, d = lines[0](np.array([c]))[0], lines[1](np.array([c]))[0]
    assert np.log10(n) == pytest.approx(best.x, abs=1e-4)
    assert 6 * n * d == pytest.approx(c, rel=1e-9)


def test_predicted_loss_is_the_law():
    known = Law("arm", "parametric", {"estimates": LAW})
    n, d = np.array([1e5, 1e6]), np.array([5e5, 2e6])
    assert predicted_loss(known, n, d) == pytest.approx([law(1e5, 5e5), law(1e6, 2e6)])
    assert predicted_loss(Law("arm", "isoflop", {"estimates": LAW}), n, d) is None
    assert predicted_loss(Law("arm", "parametric", {"estimates": {"E": 1.0}}), n, d) is None


def test_lines_go_through_a_methods_own_optima():
    points = [{"flops": c, "n": 0.1 * c**0.6, "d": None} for c in (1e12, 1e13, 1e14)]
    raw = {"estimates": {"a": 0.6}, "optima": points}
    one = Law("arm", "isoflop", raw)
    lines = frontier(one)
    assert lines is not None
    assert lines[0].slope == pytest.approx(0.6)
    assert lines[0].intercept == pytest.approx(-1)
    assert optima(one)["d"].to_list() == pytest.approx([p["flops"] / 6 / p["n"] for p in points])
    assert frontier(Law("arm", "isoflop", {"estimates": {}})) is None


def test_differences_are_paired_by_run_and_cluster(study_folder: Path):
    """Student's variance over runs, plus that over clusters of the mean of all cells, cluster by cluster."""
    study = read_study(study_folder)
    (found,) = [d for d in differences(study) if (d.arm, d.other) == ("ref-bpe", "ref-6mer")]
    table, clusters = study.observations, study.clusters
    cells: dict[str, np.ndarray] = {}
    for arm in ("ref-bpe", "ref-6mer"):
        gaps = []
        for run, steps in table.filter(pl.col("arm") == arm).sort("size", "n_tokens").select("run", "steps").rows():
            one = clusters.filter((pl.col("run") == run) & (pl.col("steps") == steps))
            bases, nats = one["n_bases"].to_numpy(), one["nats"].to_numpy()
            gaps.append((nats - nats.sum() / bases.sum() * bases) / bases.sum() / np.log(2))
        cells[arm] = np.mean(gaps, axis=0)
    of_clusters = np.sqrt(10 / 9 * ((cells["ref-bpe"] - cells["ref-6mer"]) ** 2).sum())
    means = [
        table.filter(table["arm"] == arm).group_by("size").agg(pl.col("bits_per_base").mean()).sort("size")
        for arm in cells
    ]
    gaps = (means[0]["bits_per_base"] - means[1]["bits_per_base"]).to_numpy()
    of_runs = gaps.std(ddof=1) / np.sqrt(5)
    free = (of_runs**2 + of_clusters**2) ** 2 / (of_runs**4 / 4 + of_clusters**4 / 9)
    half = student_t.ppf(0.975, free) * np.hypot(of_runs, of_clusters)
    assert (found.mean, found.n_clusters) == (pytest.approx(gaps.mean()), 10)
    assert (found.high - found.low) / 2 == pytest.approx(half)
    assert of_clusters > 0


def test_steps_are_paired_where_clusters_were_kept(study_folder: Path):
    """Sizes differ by 0.01 bits and more, their own errors by 0.016 each: only pairs tell them apart."""
    steps = steps_along(read_study(study_folder), "ref-bpe", "n_params", "n_tokens")
    assert (steps.n, steps.falls, steps.clear_rises, steps.is_paired) == (12, 12, 0, True)
    (study_folder / "clusters.csv").unlink()
    table = pl.read_csv(study_folder / "observations.csv").with_columns(bits_per_base_se=0.016)
    table.write_csv(study_folder / "observations.csv")
    alone = steps_along(read_study(study_folder), "ref-bpe", "n_params", "n_tokens")
    assert not alone.is_paired
    assert alone.falls == 12
    assert alone.clear_falls < steps.clear_falls


def test_without_clusters_differences_are_paired_by_run(study_folder: Path):
    (study_folder / "clusters.csv").unlink()
    study = read_study(study_folder)
    found = {(d.arm, d.other): d for d in differences(study)}
    assert len(found) == 6
    table = study.observations
    means = [
        table.filter(table["arm"] == arm)
        .group_by("size")
        .agg(pl.col("bits_per_base").mean())
        .sort("size")["bits_per_base"]
        for arm in ("ref-bpe", "variant-bpe")
    ]
    oracle = ttest_rel(*means).confidence_interval()
    pair = found["ref-bpe", "variant-bpe"]
    assert (pair.low, pair.high) == pytest.approx((oracle.low, oracle.high))
    assert (pair.n_cells, pair.n_runs) == (15, 5)
    assert pair.is_clear
    assert pair.mean < 0


def test_published_lines_belong_to_sampling_and_tokenizer(study_folder: Path):
    study = read_study(study_folder)
    slopes = [found.n.slope for arm in study.arms if (found := published(study, arm))]
    assert slopes == [0.8314, 0.8387, 0.8297, 0.8074]


def test_published_lines_are_those_of_the_original(shared_data: Path):
    laws = pl.read_csv(shared_data / "original_study" / "laws.csv")
    for (corpus, tokenizer), found in PUBLISHED.items():
        name = {"pangenome": "pan-genome"}.get(corpus, corpus)
        rows = laws.filter((pl.col("corpus") == name) & (pl.col("tokenizer") == tokenizer))
        printed = {row["quantity"]: (row["slope"], row["intercept"]) for row in rows.iter_rows(named=True)}
        assert printed["N_opt"] == (found.n.slope, found.n.intercept)
        assert printed["D_opt"] == (found.d.slope, found.d.intercept)
