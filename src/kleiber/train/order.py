"""Does a model read the order of tokens, or only which of them stand near? Held-out rows in other orders tell.

Some rows are scored again with their inner tokens reversed and shuffled ([CLS] and [SEP] stay, and masks move with
their targets, so that the same tokens are asked for) and from the other strand (the reverse complement of their bases,
cut into tokens anew). A network that sees only which tokens are near, and not on which side, loses nothing by reversal:
DNABERT-2's, whose ALiBi is symmetric, is such a one. Costs are paired by cluster. Rejected: all rows under all masks,
which would cost more than the score itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kleiber import counter
from kleiber.corpus.sampling import COMPLEMENT, Corpus
from kleiber.genome.assembly import Region
from kleiber.scaling.pairs import PairedDifference, difference_of
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import Evaluation, by_cluster, token_nats

__all__ = ["ORDERS", "order_costs", "with_orders"]

ORDERS = ("reversed", "shuffled", "complement")
ROWS = 100  # at most, spread over the held-out rows: each of the clusters has some
SHUFFLES = counter.stream_id("shuffled rows")


def with_orders(
    evaluation: Evaluation, corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int
) -> Evaluation:
    """Return an evaluation with some of its rows laid out in other orders, under one set of masks.

    Parameters
    ----------
    corpus, tokenizer, train, seed
        What the evaluation was laid out from.
    """
    probed = np.unique(np.linspace(0, len(evaluation.ids) - 1, ROWS).astype(np.int64))
    forward = replace(
        evaluation,
        ids=evaluation.ids[probed],
        positions=evaluation.positions[:1, probed],
        bases=evaluation.bases[:1, probed],
        clusters=evaluation.clusters[probed],
        tiles=[evaluation.tiles[r] for r in probed],
        strata={},
    )
    n = train.row_tokens
    backwards = np.tile(np.arange(n)[::-1], (len(probed), 1))
    shuffles = np.stack([counter.permutation(seed, SHUFFLES, int(r), n) for r in probed])
    orders = {
        "reversed": _reordered(forward, backwards),
        "shuffled": _reordered(forward, shuffles),
        "complement": _from_the_other_strand(forward, corpus, tokenizer, replace(train, eval_masks=1), seed),
    }
    return replace(evaluation, probed=probed, orders=orders)


def _reordered(forward: Evaluation, order: NDArray[np.int64]) -> Evaluation:
    """Put inner token `order[r, j]` of row r, (R, S - 2), in place j; positions follow their targets."""
    ids = forward.ids.copy()
    ids[:, 1:-1] = np.take_along_axis(forward.ids[:, 1:-1], order, 1)
    place = np.argsort(order, axis=1)  # where each inner token went
    positions = np.take_along_axis(place, forward.positions[0] - 1, 1)[None] + 1
    return replace(forward, ids=ids, positions=positions)


def _from_the_other_strand(
    forward: Evaluation, corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int
) -> Evaluation:
    """Lay rows that begin where others end and read the other strand.

    At the beginning of a region a row begins later, so that it can be filled without leaving the held-out DNA.
    """
    row_bases = train.row_tokens * tokenizer.max_token_length
    lengths = np.asarray(tokenizer.token_lengths)[forward.ids].sum(1)
    rows = np.empty((len(forward.ids), row_bases), np.uint8)
    for r, ((contig, start), length) in enumerate(zip(forward.tiles, lengths, strict=True)):
        region = _region_of(contig, start, forward.territory)
        end = max(start + int(length), region.start + row_bases)
        rows[r] = COMPLEMENT[np.asarray(corpus.reference.bases(contig)[end - row_bases : end])[::-1]]
    return Evaluation.lay(rows, forward.tiles, forward.territory, tokenizer, train, seed)


def _region_of(contig: str, position: int, territory: Sequence[Region]) -> Region:
    return next(r for r in territory if r.contig == contig and r.start <= position < r.end)


def order_costs(model: nn.Module, evaluation: Evaluation, nats: NDArray[np.float64]) -> dict[str, PairedDifference]:
    """Return how many nats a base each order costs, by its name, paired with the rows as they stand.

    Parameters
    ----------
    nats
        (M, R, K): of the evaluation's tokens, as `kleiber.train.evaluate.token_nats` has them.
    """
    costs = {}
    for name, other in evaluation.orders.items():
        before = [by_cluster(values[:1, evaluation.probed], other) for values in (nats, evaluation.bases)]
        after = [by_cluster(values, other) for values in (token_nats(model, other)[0], other.bases)]
        costs[name] = difference_of((after[0], after[1]), (before[0], before[1]))
    return costs
