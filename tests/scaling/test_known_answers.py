"""Fits give the published answers on published data, and the truth on surfaces whose truth is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import ConfigError, DataError
from kleiber.scaling import forms
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import LossCurve, curves_of, envelope, gradient_rule, isoflop
from kleiber.scaling.laws import chinchilla
from kleiber.scaling.observations import Observations, read_table
from kleiber.scaling.solver import huber

TRUTH = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.37}


def grid(noise: float = 0.0, seed: int = 0, truth: dict[str, float] = TRUTH) -> pl.DataFrame:
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 1e12, 6)))
    loss = chinchilla(**truth, N=N, D=D) * np.exp(noise * np.random.default_rng(seed).standard_normal(N.size))
    return pl.DataFrame({"N": N, "D": D, "loss": loss})


@pytest.fixture(scope="session")
def chinchilla_points(shared_data) -> Observations:
    """The 240 points of the replication: the five highest losses are left out."""
    table = read_table(shared_data / "published" / "chinchilla_epoch.csv").sort("loss").head(240)
    return Observations.of(table)


def test_the_chinchilla_replication(chinchilla_points):
    """Besiroglu et al. 2024 (arXiv:2404.10102)."""
    result = fit(chinchilla_points, delta=1e-3, bootstrap=400, seed=1)
    assert result.status == "CONVERGED"
    assert result.objective <= 0.00101827404
    expected = {"alpha": (0.34731, 2e-4), "beta": (0.36717, 3e-4), "E": (1.8172, 3e-4), "a": (0.5139, 2e-4)}
    for key, (value, within) in expected.items():
        assert result.estimates[key] == pytest.approx(value, abs=within), key
    assert all(result.identified[key] for key in ("E", "alpha", "beta", "a"))
    low, high = result.intervals["alpha"]
    assert low < 0.347 < high


@pytest.mark.parametrize(("delta", "objective"), [(1e-3, 0.0019817), (1e-4, 2.0752e-4)])
def test_gemstones(delta, objective, shared_data):
    table = read_table(shared_data / "published" / "gemstones_hot.jsonl")
    result = fit(Observations.of(table), delta=delta, bootstrap=0)
    assert result.objective <= objective
    if delta == 1e-3:
        assert result.estimates["alpha"] == pytest.approx(0.2929, abs=3e-4)
        assert result.estimates["beta"] == pytest.approx(0.7130, abs=5e-4)


def test_a_noise_free_surface_is_recovered():
    result = fit(Observations.of(grid()), bootstrap=0)
    for key, value in TRUTH.items():
        assert result.estimates[key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_the_unit_of_the_loss_does_not_matter(scale):
    table = grid(0.003)
    one = fit(Observations.of(table), bootstrap=0)
    other = fit(Observations.of(table.with_columns(pl.col("loss") * scale)), bootstrap=0)
    assert other.estimates["alpha"] == pytest.approx(one.estimates["alpha"], rel=1e-6)
    assert other.estimates["E"] == pytest.approx(scale * one.estimates["E"], rel=1e-6)


def test_delta_follows_the_spread_of_the_residuals():
    """95 % as sharp as least squares at any noise, and deaf to runs that diverged."""
    for noise in (0.001, 0.01):
        table = grid(noise, seed=2)
        found = fit(Observations.of(table), bootstrap=0)
        assert found.settings["delta"] == pytest.approx(1.345 * noise, rel=0.35)
        far = table.with_columns(
            loss=pl.when(pl.int_range(pl.len()) % 20 == 3).then(2.0).otherwise(1.0) * pl.col("loss")
        )
        other = fit(Observations.of(far), bootstrap=0)
        assert other.estimates["a"] == pytest.approx(found.estimates["a"], abs=0.02)


def test_the_same_input_gives_the_same_result():
    table = grid(0.01)
    one, same, other = (fit(Observations.of(table), bootstrap=100, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one.intervals != other.intervals
    assert one.estimates == other.estimates


def test_huber_by_hand():
    assert huber(np.array([0.5, -2.0]), 1.0).tolist() == [0.125, 1.5]


@pytest.mark.parametrize("column", ["N", "D"])
def test_a_law_of_one_size_or_one_budget_is_refused(column):
    table = grid().filter(pl.col(column) == pl.col(column).min())
    result = fit(Observations.of(table))
    assert result.status == "REFUSED"
    assert result.estimates == {}


def test_a_hundred_times_the_noise_identifies_nothing():
    table = grid(0.3).filter((pl.col("N") < 1e8) & (pl.col("D") < 1e11))
    result = fit(Observations.of(table), bootstrap=100)
    assert not result.identified.get("E", False)


@pytest.mark.parametrize("a", [0.25, 0.45, 0.51, 0.75])
def test_isoflop_and_parametric_find_the_exponent(a):
    truth = {**TRUTH, "alpha": 0.6 * (1 - a), "beta": 0.6 * a, "A": 30.0, "B": 60.0}
    N, C = (x.ravel() for x in np.meshgrid(np.geomspace(1e3, 1e14, 111), np.geomspace(1e17, 1e21, 9)))
    D = C / (6 * N)
    observations = Observations.of(pl.DataFrame({"N": N, "D": D, "C": C, "loss": chinchilla(**truth, N=N, D=D)}))
    assert fit(observations, bootstrap=0).estimates["a"] == pytest.approx(a, abs=1e-4)
    result = isoflop(observations, np.geomspace(1e18, 1e20, 5))
    assert result.status == "CONVERGED"
    assert result.estimates["a"] == pytest.approx(a, abs=0.02)
    assert result.estimates["b"] == pytest.approx(1 - a, abs=0.02)


@pytest.mark.parametrize("a", [0.25, 0.45, 0.51, 0.75])
def test_the_gradient_rule_gives_one_whatever_the_truth(a):
    """The original study's rule sees only D: on a separable law every size flattens at the same step."""
    truth = {**TRUTH, "alpha": 0.6 * (1 - a), "beta": 0.6 * a, "A": 30.0, "B": 60.0}
    step = np.arange(1.0, 4001.0)
    curves = [
        LossCurve(N, step, 1e5 * step, 6 * N * 1e5 * step, chinchilla(**truth, N=np.full(4000, N), D=1e5 * step))
        for N in np.geomspace(1e6, 1e8, 5)
    ]
    result = gradient_rule(curves)
    assert result.estimates["a"] == pytest.approx(1.0, abs=0.002)
    assert "not compute-optimal" in result.warnings[0]


def test_unbracketed_budgets_are_listed_and_refused():
    result = isoflop(Observations.of(grid()), [6e16, 6e17])
    assert result.status == "REFUSED"
    assert sum("not bracketed" in warning for warning in result.warnings) >= 1


@pytest.mark.parametrize("a", [0.286, 0.455, 0.667])
def test_the_envelope_of_finished_models_is_refused(a):
    """Lines between a few points of each size cross where the larger one begins: 1.001 whatever the truth."""
    alpha, beta = 0.6 * (1 - a), 0.6 * a
    n, d = 1e8, 2e9  # the best size of their budget
    truth = {"E": 1.7, "A": 0.5 * n**alpha, "B": 0.5 * alpha / beta * d**beta, "alpha": alpha, "beta": beta}
    table = grid(truth=truth)
    for estimator in (envelope, gradient_rule):
        for one in (table, table.with_columns(annealed=True)):
            result = estimator(curves_of(one))
            assert result.status == "REFUSED"
            assert result.estimates == {}
    sizes, D = np.geomspace(5e7, 2e8, 6), 1e6 * np.arange(1, 30_001)
    dense = pl.DataFrame({"N": np.repeat(sizes, len(D)), "D": np.tile(D, len(sizes))})
    dense = dense.with_columns(loss=chinchilla(**truth, N=dense["N"].to_numpy(), D=dense["D"].to_numpy()))
    assert envelope(curves_of(dense.with_columns(annealed=True))).status == "REFUSED"
    along = envelope(curves_of(dense))
    assert along.status == "CONVERGED"
    assert along.estimates["a"] == pytest.approx(a, abs=0.03)
    low, high = along.intervals["a"]
    assert low - 0.01 <= a <= high + 0.01


def test_curves_that_never_cross_are_refused():
    step = np.arange(1.0, 1001.0)
    curves = [LossCurve(N, step, step, N * step, 3 + N * 1e-9 + step**-0.5) for N in (1e6, 1e7, 1e8)]
    assert envelope(curves).status == "REFUSED"
    assert gradient_rule([]).status == "REFUSED"
    assert envelope([]).status == "REFUSED"


def test_columns_by_their_usual_names():
    table = grid().rename({"N": "params", "D": "tokens", "loss": "val_loss"})
    assert Observations.of(table).columns == {"N": "params", "D": "tokens", "loss": "val_loss"}
    chosen = Observations.of(table.with_columns(mine=pl.col("val_loss") * 2), {"loss": "mine"})
    assert chosen.columns["loss"] == "mine"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (pl.col("loss") * -1, DataError, r"row 1, column 'loss': -.* is no positive number"),
        (pl.when(pl.col("N") < 2e7).then(None).otherwise(pl.col("N")).alias("N"), DataError, "row 1, column 'N'"),
        (pl.lit("x").alias("D"), DataError, "row 1, column 'D': 'x' is no positive number"),
    ],
)
def test_bad_values_are_named(change, error, message):
    with pytest.raises(error, match=message):
        Observations.of(grid().with_columns(change))


def test_missing_columns_and_files(tmp_path):
    with pytest.raises(DataError, match="no column for D"):
        Observations.of(grid().drop("D"))
    with pytest.raises(ConfigError, match="no column 'nothing'"):
        Observations.of(grid(), {"N": "nothing"})
    with pytest.raises(DataError, match="There is no file"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="is no table"):
        read_table(tmp_path / "empty.csv")
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04, and no spreadsheet")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_table(tmp_path / "table.xlsx")


def test_the_chinchilla_intervals(chinchilla_points):
    """The replication's own, from 4,000 draws of its points."""
    intervals = fit(chinchilla_points, delta=1e-3, bootstrap=4000).intervals
    assert intervals["alpha"] == pytest.approx([0.317, 0.373], abs=0.004)
    assert intervals["beta"] == pytest.approx([0.331, 0.415], abs=0.005)


def test_the_data_constrained_law(shared_data):
    """Muennighoff et al. 2023 (arXiv:2305.16264): the law of unrepeated data fixed, the two half-lives fitted."""
    points = Observations.of(read_table(shared_data / "published" / "datablations_182.csv"))
    form = forms.FORMS["data-constrained"]
    law = {"A": np.exp(6.255414), "B": np.exp(7.3049974), "E": np.exp(0.6254804), "alpha": 0.3526596}
    law["beta"] = law["alpha"]
    predicted = form.log_loss({**law, "R_D": 15.387756, "R_N": 5.309743}, forms.Points.of(points))
    assert huber(predicted - np.log(points.loss), 1e-3).sum() == pytest.approx(0.0158259353, abs=6e-11)
    result = fit(points, "data-constrained", delta=1e-3, fixed=law, bootstrap=0)
    assert result.status == "CONVERGED"
    assert result.objective <= 0.0158259321
    assert result.estimates["R_D"] == pytest.approx(15.372, abs=1e-3)
    assert result.estimates["R_N"] == pytest.approx(5.315, abs=1e-3)
    assert result.estimates["A"] == law["A"]
