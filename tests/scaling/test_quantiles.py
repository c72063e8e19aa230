"""Quantiles against scipy's distributions, to the last bit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kleiber.scaling.quantiles import chi_squared, fisher_tail, student

DEGREES = st.one_of(st.integers(1, 500), st.floats(0.5, 500))


@given(st.one_of(DEGREES, st.just(float("inf"))))
def test_students(free: float):
    assert student(free) == stats.t.ppf(0.975, free)


@given(st.floats(0, 1e6), DEGREES, DEGREES)
def test_tails_of_f(statistic: float, of: float, free: float):
    assert fisher_tail(statistic, of, free) == stats.f.sf(statistic, of, free)


@given(st.floats(0.01, 0.999), st.integers(1, 50))
def test_chi_squared(probability: float, free: int):
    assert chi_squared(probability, free) == stats.chi2.ppf(probability, free)
