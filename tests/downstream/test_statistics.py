"""Weighted statistics are those of rows that stand there so often, by other libraries and by counting pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from kleiber.downstream.statistics import auprc, auroc, cluster_numbers, estimate, mcc, resamples, spearman

ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=4, max_size=30)


def repeated(rows):
    score, label, weight = (np.array(column) for column in zip(*rows, strict=True))
    return score.astype(float), label.astype(bool), weight.astype(float), np.repeat(np.arange(len(rows)), weight)


@given(ROWS)
def test_auroc_is_the_share_of_pairs_in_order(rows):
    score, label, weight, again = repeated(rows)
    ours, others = score[again][label[again]], score[again][~label[again]]
    pairs = [(a > b) + (a == b) / 2 for a in ours for b in others]
    found = auroc(score, label)(weight)
    assert found == pytest.approx(np.mean(pairs), abs=1e-12) if pairs else np.isnan(found)


@given(ROWS)
def test_average_precision_and_matthews_are_those_of_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    score, label, weight, again = repeated(rows)
    if 0 < label[again].sum() < len(again):
        wanted = metrics.average_precision_score(label[again], score[again])
        assert auprc(score, label)(weight) == pytest.approx(wanted, abs=1e-12)
        wanted = metrics.matthews_corrcoef(label[again].astype(int), score[again].astype(int) % 3)
        named = score.astype(int) % 3
        assert mcc(label.astype(int), named)(weight) == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), min_size=4, max_size=30))
def test_rank_correlation_is_that_of_scipy(rows):
    first, second, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    again = np.repeat(np.arange(len(rows)), weight.astype(int))
    if len(set(first[again])) > 1 and len(set(second[again])) > 1:
        wanted = spearmanr(first[again], second[again]).statistic
        assert spearman(first, second)(weight) == pytest.approx(wanted, abs=1e-9)


def test_draws_take_whole_clusters_and_are_always_the_same():
    clusters = cluster_numbers(["a", "a", "b", "c", "c", "c", "d", "e"])
    one, other = (np.stack(list(resamples(clusters))) for _ in range(2))
    assert np.array_equal(one, other)
    assert (one[:, 0] == one[:, 1]).all()
    assert (one[:, 3] == one[:, 5]).all()
    assert one[:, [0, 2, 3, 6, 7]].sum(1) == pytest.approx(5)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits, shift = 0, 1.0
    truth = 0.5 * (1 + 0.5204998778)  # of normals one standard deviation apart: Phi(1 / sqrt 2) = 0.7602
    for _ in range(60):
        label = np.arange(200) % 2 == 0
        found = estimate(auroc(rng.normal(size=200) + shift * label, label), np.arange(200))
        assert found.interval is not None
        hits += found.interval[0] <= truth <= found.interval[1]
    assert hits >= 51


def test_few_clusters_give_no_interval():
    score, label = np.arange(8.0), np.arange(8) % 2 == 0
    assert estimate(auroc(score, label), np.arange(8) % 4).interval is None
