"""The error of a paired difference: by hand, against the jackknife, and by how often its interval holds the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import DataError
from kleiber.scaling.pairs import bits_between, difference_of, error_of, influence


def test_by_hand():
    # Ratios 4 / 2 = 2 and 2 / 2 = 1. Influences (3 - 2, 1 - 2) / 2 and (1 - 1, 1 - 1) / 2, so parts 1/2 and -1/2:
    # sqrt(2 / 1 · (1/4 + 1/4)) = 1.
    gap = difference_of((np.array([3.0, 1.0]), np.array([1, 1])), (np.array([1.0, 1.0]), np.array([1, 1])))
    assert (gap.value, gap.se, gap.n) == (1.0, pytest.approx(1.0), 2)
    low, high = gap.interval
    assert (low, high) == (pytest.approx(1 - 12.7062, abs=1e-3), pytest.approx(1 + 12.7062, abs=1e-3))
    assert gap.exceeds(0.9)
    assert not gap.exceeds(1.1)


def test_one_cluster_knows_no_error():
    gap = difference_of((np.array([3.0]), np.array([1])), (np.array([1.0]), np.array([1])))
    assert gap.value == 2
    assert np.isnan(gap.se)
    assert not gap.exceeds(0.0)
    assert gap.interval == (-np.inf, np.inf)


clusters = st.lists(
    st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.integers(80, 120), st.integers(80, 120)), min_size=3, max_size=30
)


@given(clusters)
def test_close_to_the_jackknife(drawn):
    """Leaving out one cluster at a time is another way to the same error, to first order."""
    a, b, size_a, size_b = (np.array(column) for column in zip(*drawn, strict=True))
    first, second = (a * size_a, size_a), (b * size_b, size_b)
    gap = difference_of(first, second)
    without = [
        np.delete(first[0], i).sum() / np.delete(first[1], i).sum()
        - np.delete(second[0], i).sum() / np.delete(second[1], i).sum()
        for i in range(len(a))
    ]
    n = len(a)
    jackknife = np.sqrt((n - 1) / n * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert gap.se == pytest.approx(jackknife, rel=0.25, abs=1e-3)


@given(clusters, st.integers(0, 3))
def test_symmetries(drawn, empty):
    """Swapping changes the sign; a model against itself differs by nothing; clusters without bases change nothing."""
    a, b, size_a, size_b = (np.array(column) for column in zip(*drawn, strict=True))
    first, second = (a * size_a, size_a), (b * size_b, size_b)
    gap, back = difference_of(first, second), difference_of(second, first)
    assert (back.value, back.se) == (pytest.approx(-gap.value), pytest.approx(gap.se))
    same = difference_of(first, first)
    assert (same.value, same.se) == (0, 0)
    assert influence(*first).sum() == pytest.approx(0, abs=1e-12)
    padded = [tuple(np.append(x, np.zeros(empty, x.dtype)) for x in one) for one in (first, second)]
    more = difference_of(*padded)
    assert (more.value, more.se, more.n) == (pytest.approx(gap.value), pytest.approx(gap.se), gap.n)


@pytest.mark.parametrize("n", [10, 20])
def test_the_interval_covers_the_truth(n):
    """Clusters differ far more than models do, in size too; both models' own luck is skewed, and they cut DNA apart."""
    rng = np.random.default_rng(n)
    truth, hits, widths, unpaired, trials = 0.01, 0, [], [], 3000
    for _ in range(trials):
        hard = rng.normal(1.3, 0.04, n)  # nats a base that are common to both
        size_a, size_b = (np.rint(rng.uniform(1500, 2500, n)) for _ in range(2))
        own = [rng.gamma(2.0, 0.002, n) - 0.004 for _ in range(2)]
        a, b = hard + truth + own[0], hard + own[1]
        gap = difference_of((a * size_a, size_a), (b * size_b, size_b))
        low, high = gap.interval
        hits += low <= truth <= high
        widths.append(gap.se)
        unpaired.append(np.hypot(error_of(influence(a * size_a, size_a)), error_of(influence(b * size_b, size_b))))
    assert 0.925 <= hits / trials <= 0.97
    assert np.mean(unpaired) > 3 * np.mean(widths)  # what adding the errors of both would have said


def table(nats, starts=(1, 50_001, 100_001)):
    return pl.DataFrame({"contig": ["20"] * 3, "start": list(starts), "n_bases": [100] * 3, "nats": nats})


def test_models_on_other_dna_do_not_compare():
    gap = bits_between(table([140.0, 130.0, 120.0]), table([130.0, 120.0, 110.0]))
    assert gap.value == pytest.approx(0.1 / np.log(2))
    assert gap.se == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match=r"other held-out DNA.*20:1, 20:50,001 and 20:1, 20:60,001"):
        bits_between(table([1.0] * 3), table([1.0] * 3, (1, 60_001, 100_001)))
