"""Doubts where there is reason to doubt, and none where there is not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.band import band
from kleiber.scaling.bootstrap import draw_noise
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import isoflop
from kleiber.scaling.holdouts import compare_forms, holdout
from kleiber.scaling.laws import chinchilla
from kleiber.scaling.observations import Observations
from kleiber.scaling.uncertainty import compare, profile
from kleiber.scaling.witnesses import examine

TRUTH = {"E": 1.7, "A": 30.0, "B": 60.0, "alpha": 0.3, "beta": 0.25}


def table(noise: float = 0.0, seed: int = 0, seeds: int = 1, decades: float = 3.0, **changes: float) -> pl.DataFrame:
    """Sizes and data on a grid, each with some seeds."""
    rng, law = np.random.default_rng(seed), {**TRUTH, **changes}
    sizes, data = np.geomspace(1e6, 1e6 * 10**decades, 7), np.geomspace(1e8, 1e8 * 10**decades, 6)
    N, D, S = (x.ravel() for x in np.meshgrid(sizes, data, np.arange(seeds), indexing="ij"))
    loss = chinchilla(**law, N=N, D=D) * np.exp(noise * rng.standard_normal(N.size))
    return pl.DataFrame({"N": N, "D": D, "seed": S, "loss": loss, "annealed": True})


def points(*arguments: float, **options: float) -> Observations:
    return Observations.of(table(*arguments, **options))


def has(result, text: str) -> bool:
    return any(text in warning for warning in result.warnings)


# What is refused or warned of: the first of each pair triggers it, the second does not.
def test_a_single_amount_of_data():
    bad = fit(Observations.of(table().filter(pl.col("D") == 1e8)))
    assert bad.status == "REFUSED"
    assert has(bad, "same D")
    assert not has(fit(points(), bootstrap=0), "same D")


def test_points_that_are_not_annealed():
    unfinished = Observations.of(table().with_columns(annealed=False))
    for estimator in (isoflop, fit):
        assert estimator(unfinished).status == "REFUSED"
        assert has(estimator(unfinished), "no point is annealed")
        assert estimator(unfinished, force=True).status == "CONVERGED"
        assert estimator(points()).status == "CONVERGED"
    mixed = table().with_columns(annealed=pl.col("N") > 2e6)
    assert has(fit(Observations.of(mixed), bootstrap=0), "6 rows are not annealed and left out")


def test_more_parameters_than_cells():
    three = table().filter((pl.col("N") < 1.1e7) & (pl.col("D") < 2e9))
    cells = Observations.of(three.filter(pl.int_range(pl.len()).is_in([0, 1, 3, 4, 8])))
    assert has(fit(cells), "5 distinct (N, D) for 5 parameters")
    assert not has(fit(Observations.of(three), bootstrap=0), "distinct (N, D)")


def test_exponents_that_do_not_add_up():
    far = table().with_columns(C=pl.col("N") * pl.col("D") ** 1.5)
    assert has(isoflop(Observations.of(far, exact_flops=True)), "is far from 1")
    assert not has(isoflop(points()), "is far from 1")


def test_losses_that_have_reached_their_floor():
    flat = table(0.01, A=1e-3, B=1e-3)
    assert has(fit(Observations.of(flat), bootstrap=0), "nothing left to follow")
    assert not has(fit(points(0.001), bootstrap=0), "nothing left to follow")


def test_a_schedule_that_nobody_told():
    assert has(fit(Observations.of(table().drop("annealed")), bootstrap=0), "all are taken as final")
    assert not has(fit(points(), bootstrap=0), "all are taken as final")


def test_repeats_that_the_form_counts_as_new():
    repeated = table().with_columns(unique_tokens=pl.col("D") / 2)
    assert has(fit(Observations.of(repeated), bootstrap=0), "read data repeatedly")
    assert not has(fit(Observations.of(repeated.with_columns(unique_tokens="D")), bootstrap=0), "read data repeatedly")


def test_mixed_kinds_are_an_error():
    kinds = table().with_columns(tokenizer=pl.when(pl.col("N") > 5e6).then(pl.lit("bpe")).otherwise(pl.lit("6mer")))
    with pytest.raises(DataError, match="column 'tokenizer'"):
        Observations.of(kinds)
    assert len(Observations.of(kinds.with_columns(tokenizer=pl.lit("bpe")))) == 42


@pytest.mark.parametrize(("parameter", "truth"), [("E", 1.7), ("alpha", 0.3), ("beta", 0.25), ("a", 0.25 / 0.55)])
def test_a_profile_finds_the_truth_and_a_flat_one_says_so(parameter, truth):
    sharp = profile(points(0.002, seed=3), parameter)
    assert sharp.is_identified
    assert sharp.interval[0] < truth < sharp.interval[1]
    assert min(sharp.rise) == pytest.approx(0, abs=1e-9)
    flat = profile(points(0.05, decades=0.5), parameter)
    assert not flat.is_identified


def test_profiles_of_other_parameters_and_of_nothing():
    with pytest.raises(ConfigError, match="has no profile"):
        profile(points(), "gamma")
    with pytest.raises(DataError, match="no profile of a"):
        profile(Observations.of(table().filter(pl.col("D") == 1e8)), "a")


def test_a_held_out_point_of_the_law_is_predicted():
    rows = {row["left_out"]: row for row in holdout(points())}
    assert {"largest N", "largest D", "largest C"} <= rows.keys()
    for row in rows.values():
        if row["error"] is not None:
            assert row["error"] < 1e-5
            assert row["error"] < 0.1 * row["nearest"]
    noisy = holdout(points(0.004, seeds=3))
    assert all(0.3 < row["error_in_noise"] < 5 for row in noisy if row["left_out"].startswith("largest"))


def test_a_wrong_form_predicts_worse():
    ranked = compare_forms(points(0.001, seed=1))
    assert ranked[0]["form"] in ("chinchilla", "shifted", "delayed", "joint")
    errors = {row["form"]: row["error"] for row in ranked}
    assert errors["power"] > 3 * errors["chinchilla"]


def test_the_band_of_choices():
    choices = band(points(0.003), 4e-3)
    spread = [entry["a"] for entry in choices]
    assert {entry["form"] for entry in choices} == {"chinchilla", "delayed", "joint"}
    assert len({entry["cut"] for entry in choices}) == 5
    assert len({entry["delta"] for entry in choices}) == 3
    assert min(spread) < 0.25 / 0.55 + 0.02
    assert max(spread) - min(spread) < 0.1


def test_pairing_cancels_what_arms_share():
    rng = np.random.default_rng(4)
    shared = np.exp(0.01 * rng.standard_normal(42))
    one, other = (table(E=E).with_columns(loss=pl.col("loss") * shared) for E in (1.7, 1.75))
    result = compare(Observations.of(one), Observations.of(other), bootstrap=200)
    assert result.is_paired
    low, high = result.intervals["loss at C"]
    assert low < 0.05 < high
    shuffled = other.with_columns(loss=table(E=1.75)["loss"] * np.exp(0.01 * rng.standard_normal(42)))
    alone = compare(Observations.of(one), Observations.of(shuffled), bootstrap=200)
    assert high - low < 0.5 * (alone.intervals["loss at C"][1] - alone.intervals["loss at C"][0])
    fewer = compare(Observations.of(one), Observations.of(other[:-1]), bootstrap=50)
    assert not fewer.is_paired
    assert "luck is taken as independent" in fewer.warnings[0]


def test_bits_per_base_undo_the_length_of_tokens():
    """One law per base, read through tokens of 4 and of 6 bases."""
    tables = []
    for length in (4.0, 6.0):
        law = table()
        bits = 0.5 + 20 * law["N"] ** -0.3 + 30 * (law["D"] * length) ** -0.25
        tables.append(Observations.of(law.with_columns(loss=bits * length * np.log(2))))
    result = compare(*tables, bootstrap=20, bases_per_token=(4.0, 6.0))
    assert result.differences["bits per base at bases"] == pytest.approx(0, abs=1e-6)
    assert result.differences["bits per base at C"] < -1e-3  # longer tokens read more bases for the same compute
    assert result.differences["loss at C"] > 0.5


def test_noise_of_runs_and_of_points_is_told_apart():
    """Moments of the draws against the noise that the points were given."""
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(20), 8)
    slopes = np.stack([np.ones(160), np.tile(np.linspace(-1, 1, 8), 20)], 1)
    between, within = [], []
    for k in range(40):
        noise = 0.03 * rng.standard_normal(20)[cluster] + 0.01 * rng.standard_normal(160)
        residual = noise - slopes @ np.linalg.lstsq(slopes, noise)[0]
        drawn = draw_noise(residual[None], slopes, cluster, 200, k)[:, 0].reshape(200, 20, 8)
        between.append(drawn.mean(2).var() - drawn.var(2, ddof=1).mean() / 8)
        within.append(drawn.var(2, ddof=1).mean())
    assert np.sqrt(np.median(between)) == pytest.approx(0.03, rel=0.15)
    assert np.sqrt(np.median(within)) == pytest.approx(0.01, rel=0.15)


def test_an_examined_fit_says_what_it_found():
    good = points(0.002, seeds=2)
    result = examine(fit(good, bootstrap=100), good)
    assert result.identified["a"]
    low, high = result.settings["band_of_choices"]
    assert low <= result.estimates["a"] <= high
    assert set(result.profiles) == {"E", "alpha", "beta", "a"}
    vague = points(0.03, decades=0.7)
    doubted = examine(fit(vague, bootstrap=100), vague)
    assert not doubted.identified["E"]
    assert has(doubted, "E is not identified")
    one = Observations.of(table().filter(pl.col("D") == 1e8))
    assert examine(fit(one), one).profiles == {}
