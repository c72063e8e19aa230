"""Of a hundred intervals of 95 %, about 95 hold the truth: by simulation of whole studies."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.scaling.elasticities import elasticities
from kleiber.scaling.fit import fit
from kleiber.scaling.laws import chinchilla
from kleiber.scaling.observations import Observations
from kleiber.scaling.uncertainty import compare

STUDIES = 600
DRAWS = 400
SIZES = np.geomspace(1e6, 1e8, 7)
DATA = np.geomspace(1e8, 6.4e9, 4)
TWICE = SIZES[[0, 3, 6]]  # sizes with a second seed
SEED_SPREAD, POINT_SPREAD = 0.003, 0.002  # of ln L: of a run, and of each of its cooldowns
SHARED = 0.6  # of the variance of both is common to the two arms, which share seeds and evaluation
LAWS = (
    {"E": 1.7, "A": 30.0, "B": 60.0, "alpha": 0.30, "beta": 0.25},
    {"E": 1.7, "A": 30.0, "B": 45.0, "alpha": 0.32, "beta": 0.23},
)
DESIGN = (
    f"{len(SIZES)} sizes {SIZES[0]:.0e} to {SIZES[-1]:.0e} × {len(DATA)} D {DATA[0]:.1e} to {DATA[-1]:.1e}, "
    f"2 seeds on {len(TWICE)} sizes; spread of ln L: {SEED_SPREAD} a run, {POINT_SPREAD} a point, {SHARED:.0%} shared"
)


def study(rng: np.random.Generator) -> tuple[Observations, Observations]:
    """Both arms of one simulated study: 10 trunks of 4 cooldowns each."""
    trunks = [(n, 0) for n in SIZES] + [(n, 1) for n in TWICE]
    N, seed = (np.repeat([trunk[i] for trunk in trunks], len(DATA)) for i in (0, 1))
    D = np.tile(DATA, len(trunks))

    def noise() -> np.ndarray:
        luck = np.repeat(rng.standard_normal(len(trunks)), len(DATA))
        return SEED_SPREAD * luck + POINT_SPREAD * rng.standard_normal(len(D))

    common, arms = noise(), []
    for law in LAWS:
        own = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * noise()
        columns = {"N": N, "D": D, "seed": seed, "loss": chinchilla(**law, N=N, D=D) * np.exp(own)}
        arms.append(Observations.of(pl.DataFrame(columns)))
    return arms[0], arms[1]


def test_intervals_of_elasticities_hold_the_truth():
    """By N as by D: the luck of a run stays in a step from size to size and leaves a step along its data."""
    rng = np.random.default_rng(31)
    held: dict[str, list[bool]] = {"by_n": [], "by_d": []}
    N, D = np.meshgrid(SIZES, DATA, indexing="ij")
    loss = chinchilla(**LAWS[0], N=N, D=D)
    by_n = (loss[:-1] - loss[1:]) / np.diff(np.log(SIZES))[:, None]
    by_d = (loss[:, :-1] - loss[:, 1:]) / np.diff(np.log(DATA))
    truth = {"by_n": (by_n[:, 1:] + by_n[:, :-1]) / 2, "by_d": (by_d[1:] + by_d[:-1]) / 2}
    for _ in range(300):
        cells = elasticities(study(rng)[0]).settings["cells"]
        for key, values in held.items():
            bounds = np.array([cell[f"{key}_interval"] for cell in cells])
            values += list((bounds[:, 0] <= truth[key].ravel()) & (truth[key].ravel() <= bounds[:, 1]))
    for key, values in held.items():
        assert 0.90 <= np.mean(values) <= 0.97, key


@pytest.mark.slow
def test_intervals_hold_the_truth(capsys):
    rng = np.random.default_rng(20240)
    truth = {**LAWS[0], "a": LAWS[0]["beta"] / (LAWS[0]["alpha"] + LAWS[0]["beta"])}
    a = [law["beta"] / (law["alpha"] + law["beta"]) for law in LAWS]
    held: dict[str, list[bool]] = {key: [] for key in ("a", "alpha", "beta", "difference of a")}
    for k in range(STUDIES):
        first, second = study(rng)
        found = fit(first, bootstrap=DRAWS, seed=k)
        for key in ("a", "alpha", "beta"):
            low, high = found.intervals[key]
            held[key].append(low <= truth[key] <= high)
        low, high = compare(first, second, bootstrap=DRAWS, seed=k).intervals["a"]
        held["difference of a"].append(low <= a[1] - a[0] <= high)
    coverage = {key: float(np.mean(value)) for key, value in held.items()}
    with capsys.disabled():
        print(f"\n{STUDIES} studies of {DESIGN}: " + ", ".join(f"{k} {v:.1%}" for k, v in coverage.items()))
    for key, share in coverage.items():
        assert 0.90 <= share <= 0.97, key
