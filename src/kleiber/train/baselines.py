"""What a model has to beat: uniform bases, the frequencies of tokens, and counts of the bases around each base.

All are fitted on training DNA only and scored on the DNA that models are scored on, with standard errors clustered
alike. Counts are fitted on the very windows that a run reads, budget by budget, so that they are curves over D beside
the networks: a network is worth as many bases of counting as it takes counts to score the same. What is read again is
no new evidence, so back-off weighs as many times more as each base was read: with a fixed weight counts got worse from
the second reading on (1.600 bits after one, 1.628 after four).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.counts import LONGEST, WEIGHT, WordCounts
from kleiber.corpus.sampling import Corpus
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import CODES, Tokenizer
from kleiber.train.batches import FIRST_TOKEN
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import Evaluation, cluster_ids, clustered_se, score_of
from kleiber.train.intervals import Intervals, score_frequencies

__all__ = ["count_curve", "territory_counts", "token_baselines"]

UNIGRAM_TOKENS = 1_000_000
MOST_COUNTED = 500_000_000  # bases: a minute or so
MOST_SCORED = 500_000  # held-out bases, in pieces of `PIECE` spread evenly
PIECE = 1_000
SMALLER, POINTS = 8, 4  # a curve goes on below the largest budget in 4 steps of a factor of 8
CHUNK = 2_000  # rows read at once


def token_baselines(
    training: Corpus, tokenizer: Tokenizer, train: TrainConfig, evaluation: Evaluation, intervals: Intervals
) -> dict[str, dict[str, float]]:
    """Return what is known without looking at the context.

    ``"uniform"``, and the ``"unigram"`` of token frequencies on exactly the tokens and intervals that models are scored
    on.

    Parameters
    ----------
    training
        Reaches as far as a full row does.
    """
    frequencies = _frequencies(training, tokenizer, train)
    labels = evaluation.labels
    score = score_of(-np.log(frequencies)[labels], evaluation, labels == frequencies.argmax())
    bits, se = score_frequencies(np.where(np.arange(len(frequencies)) < FIRST_TOKEN, 0, frequencies), intervals)
    unigram = {"bits_per_base": score.bits_per_base, "se": score.bits_per_base_se, "nats_per_token": score.loss}
    unigram |= {"bits_per_base_intervals": bits, "bits_per_base_intervals_se": se}
    return {"uniform": {"bits_per_base": 2.0, "se": 0.0}, "unigram": unigram}


def territory_counts(training: Corpus, heldout: Corpus) -> dict[str, dict[str, float]]:
    """Return bits per base of every count model (see `WordCounts.nats`) that has seen a territory once.

    Of a larger one, its first `MOST_COUNTED` bases.
    """
    counts = WordCounts()
    for region in training.territory:
        end = min(region.end, region.start + MOST_COUNTED - counts.n_bases)
        counts.add(CODES[training.reference.bases(region.contig)[region.start : end]])
    return _scores(counts, *_heldout_bases(heldout))


def count_curve(
    windows: Corpus, heldout: Corpus, tokenizer: Tokenizer, train: TrainConfig, n_rows: Sequence[int]
) -> list[dict[str, Any]]:
    """Return how well every count model scores that has read what a run reads, budget by budget.

    Parameters
    ----------
    windows
        What the run reads, row by row.
    n_rows
        Rows read at each budget. The curve also has points below them; it ends where `MOST_COUNTED` bases are read.

    Returns
    -------
    Points in the order of the data: ``n_rows``, ``n_tokens`` (rows times their length, as runs count them),
    ``n_bases``, and ``scores``: for every model its ``bits_per_base`` and ``se``.
    """
    scored = _heldout_bases(heldout)
    territory = sum(region.end - region.start for region in windows.territory)
    counts, points, at = WordCounts(), [], 0
    for goal in sorted({*n_rows, *(max(n_rows) // SMALLER**k or 1 for k in range(1, POINTS + 1))}):
        while at < goal and counts.n_bases < MOST_COUNTED:
            rows = np.arange(at, min(goal, at + CHUNK))
            counts.add(_codes_of_rows(windows, tokenizer, train, rows))
            at = int(rows[-1]) + 1
        point = {"n_rows": at, "n_tokens": at * train.length, "n_bases": counts.n_bases}
        times = counts.n_bases / (territory * -np.expm1(-counts.n_bases / territory))  # that each base seen was read
        points.append({**point, "scores": _scores(counts, *scored, weight=WEIGHT * times)})
        if at < goal:
            break
    return points


def _frequencies(training: Corpus, tokenizer: Tokenizer, train: TrainConfig) -> NDArray[np.float64]:
    """Return the frequencies of tokens in training rows, (V,); one is added to each count."""
    rows = np.arange(-(-UNIGRAM_TOKENS // train.row_tokens))
    counts = np.ones(tokenizer.vocab_size)
    for part in np.array_split(rows, max(1, len(rows) // 1000)):
        ids, _ = tokenizer.encode_rows(
            training.rows(part, train.row_tokens * tokenizer.max_token_length), train.row_tokens
        )
        counts += np.bincount(ids.ravel(), minlength=tokenizer.vocab_size)
    counts[:FIRST_TOKEN] = 1
    return counts / counts.sum()


def _codes_of_rows(
    windows: Corpus, tokenizer: Tokenizer, train: TrainConfig, rows: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return the bases of training rows as 0-3, one row after the other with a 4 between them."""
    if train.original:
        bases = windows.batch(rows)
        ids, offsets = tokenizer.encode_batch(bases)
        ends = np.concatenate([[0], np.cumsum(tokenizer.token_lengths[ids], dtype=np.int64)])
        used = ends[np.minimum(offsets[:-1] + train.row_tokens, offsets[1:])] - ends[offsets[:-1]]
    else:
        bases = windows.rows(rows, train.row_tokens * tokenizer.max_token_length)
        used = tokenizer.encode_rows(bases, train.row_tokens)[1].astype(np.int64)
    width = int(used.max())
    codes = np.full((len(rows), width + 1), 4, np.uint8)
    codes[:, :width] = CODES[bases[:, :width]]
    codes[np.arange(width + 1) >= used[:, None]] = 4
    return codes.ravel()


def _heldout_bases(heldout: Corpus) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return held-out bases as 0-3 and the cluster of each, -1 where it is context only; 4 lies between pieces."""
    tiles = [(region, at) for region in heldout.territory for at in range(region.start, region.end, PIECE)]
    chosen = [tiles[i] for i in np.unique(np.linspace(0, len(tiles) - 1, MOST_SCORED // PIECE).astype(int))]
    clusters = cluster_ids([(region.contig, at) for region, at in chosen], heldout.territory)
    codes, groups = [np.full(1, 4, np.uint8)], [np.full(1, -1)]
    for (region, at), cluster in zip(chosen, clusters, strict=True):
        first, last = max(region.start, at - LONGEST + 1), min(region.end, at + PIECE + LONGEST - 1)
        here = np.arange(first, last + 1)
        codes += [CODES[heldout.reference.bases(region.contig)[first:last]], np.full(1, 4, np.uint8)]
        groups.append(np.where((here >= at) & (here < min(region.end, at + PIECE)), cluster, -1))
    return np.concatenate(codes), np.concatenate(groups)


def _scores(
    counts: WordCounts, codes: NDArray[np.uint8], groups: NDArray[np.int64], weight: float = WEIGHT
) -> dict[str, dict[str, float]]:
    """Return bits per base and its standard error of every count model, by name."""
    nats, bases = counts.nats(codes, groups, weight)
    everywhere = np.arange(len(bases))

    def score(sums: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
        yield "bits_per_base", bits_per_base(float(sums.sum()), int(bases.sum()))
        yield "se", bits_per_base(clustered_se(sums, bases, everywhere), 1)

    return {name: dict(score(sums)) for name, sums in zip(counts.models, nats, strict=True)}
