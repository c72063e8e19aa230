"""What a design will tell, against tables of known laws, and the points of a plan against those of a study that ran."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kleiber.errors import DataError
from kleiber.scaling.foresight import Design, Foresight, Prior, foresee, prior_of_pilot, stated_prior
from kleiber.scaling.laws import chinchilla

LAW = (1.0, 30.0, 600.0, 0.5, 0.55)


def grid(sizes: int, step: float, budgets: int, reach: float) -> Design:
    N = np.repeat(1e5 * step ** np.arange(sizes), budgets)
    return Design(N, np.tile(3e6 * np.geomspace(1, reach, budgets), sizes), np.repeat(np.arange(sizes), budgets))


def test_a_design_with_a_lever_can_tell_a_and_one_without_cannot():
    prior = Prior(np.array([LAW]), np.array([1e-4]), np.array([1e-4]), "a test")
    wide, narrow = (foresee(grid(*design), prior) for design in ((8, 2.0, 6, 42.0), (3, 1.5, 3, 2.0)))
    assert wide.identifies
    assert wide.half_width < 0.05
    assert narrow.identifies is False
    assert narrow.half_width > 3 * wide.half_width
    assert "cannot identify a" in narrow.sentence()


def test_more_luck_makes_a_wider_interval_in_proportion():
    design = grid(8, 2.0, 6, 42.0)
    prior = Prior(np.array([LAW]), np.array([2e-4]), np.array([1e-4]), "a test")
    loud = replace(prior, of_runs=4 * prior.of_runs, of_points=4 * prior.of_points)
    assert foresee(design, loud).half_width / foresee(design, prior).half_width == pytest.approx(4, rel=0.35)


def test_a_pilot_gives_its_law_and_its_luck():
    """The middle of the laws is the truth within luck, and the spreads are those that were drawn."""
    design = grid(16, 1.4, 8, 60.0)
    rng = np.random.default_rng(1)
    luck = 2e-3 * rng.standard_normal(16)[design.cluster] + 5e-4 * rng.standard_normal(len(design.N))
    pilot = design.observed(chinchilla(*LAW, design.N, design.D) * np.exp(luck))
    prior = prior_of_pilot(pilot)
    a = prior.laws[:, 4] / (prior.laws[:, 3] + prior.laws[:, 4])
    assert a.min() < 0.55 / 1.05 < a.max()
    assert np.median(prior.of_runs) == pytest.approx(2e-3, rel=0.5)
    assert np.median(prior.of_points) == pytest.approx(5e-4, rel=0.25)
    assert prior.of_runs.max() > 1.3 * prior.of_runs.min()  # sixteen runs do not tell it exactly


def test_a_pilot_that_shows_no_luck_of_runs_is_not_believed():
    design = grid(4, 2.0, 3, 60.0)
    luck = 5e-4 * np.random.default_rng(3).standard_normal(len(design.N))
    luck -= np.repeat([luck[design.cluster == k].mean() for k in range(4)], 3)
    prior = prior_of_pilot(design.observed(chinchilla(*LAW, design.N, design.D) * np.exp(luck)))
    assert prior.of_runs.min() > 1e-4


def test_the_stated_prior_leaves_as_much_to_learn_as_it_says():
    design = grid(8, 2.0, 6, 42.0)
    prior = stated_prior(design)
    n, d = (np.exp(np.log(v).mean()) for v in (design.N, design.D))
    left = [chinchilla(*law, n, d) - 1 for law in prior.laws]
    assert min(left) == pytest.approx(0.06)
    assert max(left) == pytest.approx(0.16)


def test_a_pilot_or_a_design_without_a_law_is_refused():
    few = grid(2, 2.0, 6, 42.0)
    with pytest.raises(DataError, match="2 sizes and 6 budgets"):
        prior_of_pilot(few.observed(np.linspace(1, 2, 12)), name="p.csv")
    with pytest.raises(DataError, match="2 sizes and 6 budgets"):
        foresee(few, stated_prior(few))


@pytest.mark.parametrize(
    ("usable", "half_width", "identifies"), [(12, 0.03, True), (5, 0.06, None), (1, 0.05, False), (12, 0.11, False)]
)
def test_the_sentence_follows_from_verdicts_and_width(usable, half_width, identifies):
    found = Foresight(half_width, (half_width, half_width), 12, usable, 0.1, (0.4, 0.6), "a test")
    assert found.identifies is identifies
    assert f"{usable} of 12" in found.sentence()


@pytest.mark.slow
@pytest.mark.parametrize("pilot", ["spread", "cheap"])
def test_whole_studies_have_the_interval_that_their_pilots_foresaw(pilot):
    script = Path(__file__).parents[2] / "benchmarks" / "foresight.py"
    found = subprocess.run([sys.executable, script, "--pilot", pilot], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
