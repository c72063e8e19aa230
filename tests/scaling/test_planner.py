"""Plans against the law that they come from, by brute force."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.fit import fit
from kleiber.scaling.laws import chinchilla
from kleiber.scaling.observations import Observations
from kleiber.scaling.planner import next_runs, plan_budget

TRUTH = {"E": 1.7, "A": 30.0, "B": 60.0, "alpha": 0.3, "beta": 0.25}


def points(noise: float = 0.0, extra: tuple[float, float] | None = None, seed: int = 0) -> Observations:
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 5)))
    if extra is not None:
        N, D = np.append(N, extra[0]), np.append(D, extra[1])
    loss = chinchilla(**TRUTH, N=N, D=D) * np.exp(noise * np.random.default_rng(seed).standard_normal(N.size))
    return Observations.of(pl.DataFrame({"N": N, "D": D, "loss": loss}))


@pytest.mark.parametrize(("flops", "label"), [(1e17, "interpolation"), (2e19, "extrapolation"), (1e21, "far")])
def test_the_best_size_is_that_of_a_search(flops, label):
    plan = plan_budget(points(), flops, bootstrap=20)
    sizes = np.geomspace(1e4, 1e13, 100_001)
    losses = chinchilla(**TRUTH, N=sizes, D=flops / 6 / sizes)
    assert plan.n == pytest.approx(sizes[losses.argmin()], rel=1e-3)
    assert plan.loss == pytest.approx(losses.min(), rel=1e-6)
    assert 6 * plan.n * plan.d == pytest.approx(flops)
    assert plan.label.startswith(label)
    assert any("times the largest" in w for w in plan.warnings) == (label != "interpolation")


def test_intervals_grow_with_the_distance():
    near, far = (plan_budget(points(0.005), flops, bootstrap=200) for flops in (1e17, 1e22))
    assert near.intervals["loss"][0] < near.loss < near.intervals["loss"][1]
    assert np.diff(far.intervals["loss"]) > 2 * np.diff(near.intervals["loss"])
    assert np.log(far.intervals["n"][1] / far.intervals["n"][0]) > np.log(
        near.intervals["n"][1] / near.intervals["n"][0]
    )


def test_the_next_run_is_the_one_that_helps():
    """Against refits: the spread of a over noise, with the best and with the worst candidate added."""
    ranked = next_runs(points(), [1e6, 1e7, 1e9], [1e8, 1e9, 1e11])
    spread = {}
    for which in (0, -1):
        extra = ranked[which]["n"], ranked[which]["d"]
        found = [fit(points(0.003, extra, seed), delta=0.1, bootstrap=0).estimates["a"] for seed in range(200)]
        spread[which] = np.std(found)
    assert spread[0] < 0.9 * spread[-1]
    assert ranked[0]["shrinks"] > ranked[-1]["shrinks"] >= 0


def test_what_cannot_be_planned():
    with pytest.raises(ConfigError, match="no budget"):
        plan_budget(points(), -1)
    with pytest.raises(DataError, match="Nothing can be planned"):
        plan_budget(points().take(np.arange(4)), 1e18)
