"""All that is asked of an annealed model: its scores, what the order of tokens is worth to it, its nats by cluster.

One place for a study's runs, `kleiber train` and `kleiber evaluate`, so that a checkpoint gets the same numbers
wherever it is scored. The nats of every cluster of held-out DNA stay beside the checkpoint in ``clusters.csv``: from
them any two models that were scored on the same DNA are compared in pairs (`kleiber.scaling.pairs`), long after they
were trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
import polars as pl
from torch import nn

from kleiber.corpus.sampling import Corpus
from kleiber.errors import ConfigError
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.scaling.pairs import PairedDifference
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import Evaluation, Score, by_cluster, cluster_starts, score_of, token_nats
from kleiber.train.intervals import Intervals, score_intervals
from kleiber.train.order import order_costs, with_orders
from kleiber.train.strata import strata

__all__ = ["CLUSTERS", "Scores", "held_out", "score_model"]

CLUSTERS = "clusters.csv"
ERRORS = 3.0  # paired ones that reversal has to cost of a model that is said to read order


def held_out(
    corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int, reference: Reference, panel: Panel | None
) -> Evaluation:
    """Lay out everything that models are scored on: rows and masks, strata, and the rows in other orders.

    Raises
    ------
    ConfigError
        When tokens overlap.
    """
    if tokenizer.overlaps:
        raise ConfigError(
            "Words that overlap hide nothing: a masked one can be read off its neighbours, and no loss says anything.\n"
            "  Train and score on words side by side: `kleiber tokenizer train` without --overlapping."
        )
    evaluation = Evaluation.of(corpus, tokenizer, train, seed)
    evaluation = replace(evaluation, strata=strata(evaluation, tokenizer, reference, panel))
    return with_orders(evaluation, corpus, tokenizer, train, seed)


@dataclass(frozen=True)
class Scores:
    """What a model scored.

    Attributes
    ----------
    score
        The loss of record, in all and by stratum.
    intervals
        Bits per base of the same bases for every tokenizer, and its standard error; None when they were not asked for.
    orders
        Bits per base that each order of `kleiber.train.order` costs.
    clusters
        A row a cluster of held-out DNA: ``contig``, ``start`` (1-based), ``n_tokens``, ``n_bases``, ``nats``.
    """

    score: Score
    intervals: tuple[float, float] | None
    orders: dict[str, PairedDifference]
    clusters: pl.DataFrame

    @property
    def reads_order(self) -> bool:
        """Whether rows backwards cost more than `ERRORS` paired standard errors."""
        return self.orders["reversed"].exceeds(ERRORS)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the observations."""
        made: dict[str, Any] = {name: getattr(self.score, name) for name in ("loss", "loss_se")}
        bits = {"": self.score, **{f"_{name}": stratum for name, stratum in self.score.strata.items()}}
        for name, part in bits.items():
            made |= {f"bits_per_base{name}": part.bits_per_base, f"bits_per_base{name}_se": part.bits_per_base_se}
            if not name:
                made["accuracy"] = part.accuracy
        if self.intervals is not None:
            made |= dict(zip(("bits_per_base_intervals", "bits_per_base_intervals_se"), self.intervals, strict=True))
        for name, cost in self.orders.items():
            made |= {f"cost_{name}": cost.value, f"cost_{name}_se": cost.se}
        return made


def score_model(model: nn.Module, evaluation: Evaluation, intervals: Intervals | None) -> Scores:
    """Score a model, wherever its parameters are, on held-out DNA.

    Parameters
    ----------
    model
        Called as ``model(ids, rows=positions)``, it returns logits (B, K, V).
    evaluation, intervals
        From `held_out` and `kleiber.train.intervals.lay_intervals`, with the tokenizer of the model.
    """
    nats, hits = token_nats(model, evaluation)
    bits = {
        name: replace(cost, value=cost.value / log(2), se=cost.se / log(2))
        for name, cost in order_costs(model, evaluation, nats).items()
    }
    by_interval = None if intervals is None else score_intervals(model, intervals)
    starts = cluster_starts(evaluation.territory)
    table = pl.DataFrame(
        {
            "contig": pl.Series([contig for contig, _ in starts], dtype=pl.String),
            "start": [start + 1 for _, start in starts],
            "n_tokens": by_cluster(np.ones(nats.shape), evaluation).astype(np.int64),
            "n_bases": by_cluster(evaluation.bases, evaluation).astype(np.int64),
            "nats": by_cluster(nats, evaluation),
        }
    )
    return Scores(score_of(nats, evaluation, hits), by_interval, bits, table)
