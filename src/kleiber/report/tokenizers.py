"""Tokenizers compared at equal tokens, at equal bases and at equal compute, which are three questions.

Equal tokens give a tokenizer with long tokens more DNA to read; equal bases, one with short tokens more steps; equal
operations are what is paid for. Two arms rarely meet at one amount of bases or operations, so the losses of each run
are interpolated over the logarithm of what is equal, inside the range that both have and never beyond it.

The score on the same bases for all asks models for something that they have not seen in training: flanks that are cut
where a token would not end. Where training lowers the losses of an arm's masked tokens and leaves this score where it
was, it measures that and not what the arm has learned, and nothing is concluded from it (`unmoved`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.report.measures import Paired, half_width
from kleiber.report.reader import StudyOutput
from kleiber.scaling.pairs import error_of

__all__ = ["EQUAL", "MASKED", "SAME_BASES", "SCORES", "EqualDifference", "Unmoved", "equal_differences", "unmoved"]

EQUAL = {"n_tokens": "tokens", "n_bases": "bases", "flops": "FLOPs"}
MASKED, SAME_BASES = "bits_per_base", "bits_per_base_intervals"
SCORES = {MASKED: "masked tokens", SAME_BASES: "the same bases for all"}
LEARNED = 0.02  # bits that training has to take off masked tokens before the other score is judged by it
SHARE = 0.1  # of that, which has to show on the same bases


@dataclass(frozen=True)
class EqualDifference:
    """Mean difference of bits per base, `arm` minus `other`, at equal size, seed and `equal`.

    Attributes
    ----------
    equal, score
        A key of `EQUAL` and one of `SCORES`.
    mean, low, high
        With the 95 % interval; None where the two have no amount in common, an interval where there is one run only.
    n_points, n_runs
        Amounts at which the losses of two runs were compared, and the pairs of runs.
    """

    arm: str
    other: str
    equal: str
    score: str
    mean: float | None
    low: float | None
    high: float | None
    n_points: int
    n_runs: int


@dataclass(frozen=True)
class Unmoved:
    """An arm that learned, and whose score on the same bases does not show it.

    Attributes
    ----------
    masked, same_bases
        Bits per base that the largest budget scores below the smallest, by each score: means over runs.
    """

    arm: str
    masked: float
    same_bases: float

    @property
    def words(self) -> str:
        """Say so, as a clause."""
        moved = "falls" if self.same_bases >= 0 else "rises"
        return (
            f"from its least data to its most {self.arm} falls by {self.masked:.3f} bits per base on masked tokens and "
            f"{moved} by {abs(self.same_bases):.3f} on the same bases, on average over its runs"
        )


def unmoved(study: StudyOutput) -> list[Unmoved]:
    """Return the arms whose score on the same bases for all does not fall as their models learn."""
    found = []
    for arm in study.arms:
        runs = (
            study.fitted(arm)
            .drop_nulls(list(SCORES))
            .sort("n_tokens")
            .group_by("size", "seed")
            .agg(pl.col(score).first() - pl.col(score).last() for score in SCORES)
        )
        if len(runs):
            one = Unmoved(arm, *(float(runs[score].to_numpy().mean()) for score in SCORES))
            if one.masked > LEARNED and one.same_bases < SHARE * one.masked:
                found.append(one)
    return found


def equal_differences(study: StudyOutput) -> list[EqualDifference]:
    """Compare arms of different tokenizers that sample alike, in each of three ways and by each score.

    Intervals hold the luck of runs and, of masked tokens, that of clusters of held-out DNA (see
    `kleiber.report.measures.differences`); of the same bases, no nats by cluster are kept.
    """
    paired = Paired(study)
    found = []
    for arm, other in combinations(study.arms, 2):
        if study.tokenizer(arm) == study.tokenizer(other) or study.sampling(arm) != study.sampling(other):
            continue
        for score in SCORES:
            found += [_difference(study, paired, arm, other, equal, score) for equal in EQUAL]
    return [one for one in found if one.mean is not None or one.score == MASKED]


def _difference(study: StudyOutput, paired: Paired, arm: str, other: str, equal: str, score: str) -> EqualDifference:
    runs, theirs = (_runs(study, paired, name, equal, score) for name in (arm, other))
    gaps = [_gaps(run, theirs[key]) for key, run in runs.items() if key in theirs]
    means = np.array([gap.mean(axis=0) for gap in gaps if len(gap)])
    n_points = sum(len(gap) for gap in gaps)
    if not len(means):
        return EqualDifference(arm, other, equal, score, None, None, None, 0, 0)
    mean, *of_clusters = map(float, means.mean(axis=0))
    if len(means) < 2:
        return EqualDifference(arm, other, equal, score, mean, None, None, n_points, 1)
    errors = [(float(means[:, 0].std(ddof=1)) / math.sqrt(len(means)), len(means) - 1)]
    if of_clusters:
        errors.append((error_of(np.array(of_clusters)), len(of_clusters) - 1))
    half = half_width(errors)
    return EqualDifference(arm, other, equal, score, mean, mean - half, mean + half, n_points, len(means))


def _runs(
    study: StudyOutput, paired: Paired, arm: str, equal: str, score: str
) -> dict[tuple[object, ...], NDArray[np.float64]]:
    """Return of every run a row a budget: log(amount), score, and what each cluster adds to it, where that is known."""
    table = study.fitted(arm).drop_nulls([equal, score]).filter(pl.col("status").ne_missing("stuck"))
    by_cluster = score == MASKED and paired.has_all(table)
    runs = {}
    for key, part in table.sort(equal).partition_by("size", "seed", as_dict=True, maintain_order=True).items():
        columns = np.stack([np.log(part[equal].to_numpy().astype(float)), part[score].to_numpy()], 1)
        parts = [paired.influence(row) for row in part.iter_rows(named=True)] if by_cluster else []
        runs[key] = np.hstack([columns, np.array(parts).reshape(len(part), -1)])
    return runs


def _gaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of two curves, and of the clusters that both know, at the amounts of either in reach."""
    low, high = max(one[0, 0], other[0, 0]), min(one[-1, 0], other[-1, 0])
    amounts = np.concatenate([one[:, 0], other[:, 0]])
    amounts = np.unique(amounts[(amounts >= low) & (amounts <= high)])
    width = min(one.shape[1], other.shape[1])

    def at(curve: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.interp(amounts, curve[:, 0], column) for column in curve.T[1:width]], axis=1)

    return at(one) - at(other)
