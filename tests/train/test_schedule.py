"""Rates by step against a few lines of arithmetic: a trunk, its branches, and schedules without a trunk."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sqrt

import pytest

from kleiber.errors import ConfigError
from kleiber.model.config import shape_for
from kleiber.train.config import OPTIMIZERS, RATED, Branch, TrainConfig
from kleiber.train.original import original_lr
from kleiber.train.schedule import branch_lr, learning_rate, trunk_lr

WSD = TrainConfig(schedule="wsd", warmup=0.25)
FIRST, SECOND = Branch(1000, 6, 8), Branch(2000, 12, 16)  # 2 steps of warm-up, by the first


def rates(train: TrainConfig, branch: Branch | None, steps) -> list[float]:
    return [learning_rate(train, 0.4, FIRST, branch, step) for step in steps]


def test_a_trunk_warms_up_and_stays():
    assert [trunk_lr(0.4, 4, step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])
    assert trunk_lr(0.4, 0, 0) == trunk_lr(0.4, 1, 0) == 0.4
    assert rates(WSD, None, range(4)) == pytest.approx([0.2, 0.4, 0.4, 0.4])
    assert rates(replace(WSD, warmup=0.0), None, range(2)) == [0.4, 0.4]


def test_a_branch_of_wsd_falls_as_the_root_of_its_progress():
    """And reaches nothing at the step after its last, whose rate would move no weight."""
    expected = [0.4 * (1 - sqrt(part)) for part in (1 / 5, 2 / 5, 3 / 5, 4 / 5, 1)]
    assert rates(WSD, SECOND, range(12, 17)) == pytest.approx(expected)
    assert expected[-1] == 0
    long = replace(WSD, warmup=0.9)  # 7 steps, by the first: the second leaves a trunk that has warmed up
    assert rates(long, SECOND, range(12, 17)) == pytest.approx(expected)


def test_a_branch_that_leaves_while_the_trunk_warms_up_falls_from_there():
    early = Branch(100, 1, 3)
    assert [branch_lr("wsd", 1.0, 8, early, step) for step in (1, 2)] == pytest.approx(
        [2 / 8 * (1 - sqrt(1 / 3)), 2 / 8 * (1 - sqrt(2 / 3))]
    )


def test_linear_and_cosine_fall_from_their_own_warm_up_on():
    """A quarter of the second budget's 16 steps, though the first has 8."""
    second = Branch(2000, 0, 16)
    rise = [0.1, 0.2, 0.3, 0.4]
    progress = [k / 13 for k in range(1, 14)]
    linear, cosine = (replace(WSD, schedule=name) for name in ("linear", "cosine"))
    assert rates(linear, second, range(17)) == pytest.approx(rise + [0.4 * (1 - p) for p in progress], abs=1e-15)
    falls = [0.2 * (1 + cos(pi * p)) for p in progress]
    assert rates(cosine, second, range(17)) == pytest.approx(rise + falls, abs=1e-15)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_budget_as_long_as_its_warm_up_never_falls(schedule):
    """Its last step has the peak, and the next would have nothing."""
    whole, over = Branch(100, 0, 4), Branch(100, 0, 3)
    assert [branch_lr(schedule, 1.0, 4, whole, step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert branch_lr(schedule, 1.0, 4, whole, 4) == pytest.approx(0.0, abs=1e-15)
    assert [branch_lr(schedule, 1.0, 4, over, step) for step in range(3)] == [0.25, 0.5, 0.75]


def test_the_original_recipe_has_its_own():
    train = TrainConfig(
        schedule="linear", warmup=0.25, original=True, optimizer="adamw", mask_only=False, batch=8, micro_batch=2
    )
    found = rates(train, Branch(2000, 0, 16), range(16))
    assert found == [original_lr(train, 0.4, 16, step) for step in range(16)]
    assert found != rates(replace(train, original=False), Branch(2000, 0, 16), range(16))


def test_rates_by_size_are_the_optimizers_or_those_given():
    """A rate that is given is one for all sizes and steps, unless its exponent is given, too."""
    small, large = (shape_for(size, 1024) for size in ("0.03M", "0.5M"))
    times = large.n_params_non_embedding / small.n_params_non_embedding
    for name, optimizer in OPTIMIZERS.items():
        rule = TrainConfig(optimizer=name, batch=16)
        assert rule.peak_lr(large) / rule.peak_lr(small) == pytest.approx(times**optimizer.exponent)
        at = replace(rule, lr_size=RATED, lr=optimizer.rate, lr_exponent=optimizer.exponent)
        assert at.peak_lr(small) == rule.peak_lr(small)
        assert rule.times_lr(3).peak_lr(large) == pytest.approx(3 * rule.peak_lr(large))
        assert rule.times_lr(3, 2).matrices_lr == pytest.approx(2 * optimizer.matrices_rate)
        longer = replace(rule, batch=32, length=256)
        assert longer.peak_lr(small) == pytest.approx(2 * rule.peak_lr(small))
        assert longer.matrices_lr == 2 * rule.matrices_lr
    given = TrainConfig(lr=0.002)
    assert given.peak_lr(small) == given.peak_lr(large) == 0.002
    assert given.times_lr(0.5).peak_lr(large) == 0.001
    assert replace(given, batch=512, muon_lr=0.01).peak_lr(large) == 0.002
    assert replace(given, batch=512, muon_lr=0.01).matrices_lr == 0.01
    steep = replace(given, lr_size=float(small.n_params_non_embedding), lr_exponent=-1.0)
    assert [steep.peak_lr(small), steep.peak_lr(large)] == pytest.approx([0.002, 0.002 / times])


@pytest.mark.parametrize(("key", "value"), [("lr_size", 1e6), ("lr_exponent", -0.3)])
def test_what_says_how_a_rate_changes_needs_the_rate(key, value):
    with pytest.raises(ConfigError, match=rf"{key} = .* where lr, .* is not given"):
        TrainConfig(**{key: value})
