"""Held-out loss, honestly: fixed masks shared by all models of a tokenizer, every scored token replaced by [MASK].

Rows tile the held-out reference in order, so that all models and all arms read the same DNA; each row is scored under
several disjoint sets of masks. Standard errors are clustered by pieces of at least `CLUSTER` bases, because
neighbouring tokens share a repeat or an isochore, and the nats of every piece are kept, so that any two models are
compared in pairs. The loss is a pseudo-likelihood of masked tokens, not a code length. Rejected: 80/10/10 masks, under
which a tenth of the targets is in sight and a small model learns to copy; and few long pieces of a large hold-out
instead of rows all over it, which would hold less of the genome for as many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from kleiber import counter
from kleiber.corpus.sampling import Corpus
from kleiber.errors import ConfigError
from kleiber.genome.assembly import Region
from kleiber.scaling.pairs import error_of, influence
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.train.batches import CLS, MASK, SEP, draw_positions
from kleiber.train.config import TrainConfig

__all__ = [
    "CLUSTER",
    "MOST_CLUSTERS",
    "Evaluation",
    "Score",
    "by_cluster",
    "cluster_ids",
    "cluster_starts",
    "clustered_se",
    "score",
    "score_of",
    "token_nats",
]

CLUSTER = 50_000  # bases of a cluster at least: isochores and segmental repeats are longer than a row by far
MOST_CLUSTERS = 100  # of a large hold-out; more would be shorter and no surer
CHUNK = {"cpu": 32}  # rows at once, and OTHERWISE on what is no processor: what stays in its cache is half as dear
OTHERWISE = 256
EVAL = np.uint64(counter.stream_id("evaluation masks"))


@dataclass(frozen=True)
class Evaluation:
    """The held-out rows of one tokenizer and what is masked in them.

    Attributes
    ----------
    ids
        int64 (R, S) rows with [CLS] and [SEP].
    positions
        int64 (M, R, K): M disjoint sets of positions to score.
    bases
        int64 (M, R, K): length in bases of each scored token.
    clusters
        int64 (R,): the piece of held-out DNA that a row belongs to.
    n_bases
        Bases in all rows.
    tiles
        Contig and start (0-based, on the reference) of each row.
    territory
        The held-out regions, which the clusters divide (see `cluster_starts`).
    strata
        bool (M, R, K) by name: scored tokens that are looked at apart (see `kleiber.train.strata`).
    probed, orders
        Numbers of the rows, int64 (r,), that are scored in other orders, too, and those rows in each order by name (see
        `kleiber.train.order`).
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    bases: NDArray[np.int64]
    clusters: NDArray[np.int64]
    n_bases: int
    tiles: list[tuple[str, int]]
    territory: Sequence[Region]
    strata: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    probed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    orders: dict[str, Evaluation] = field(default_factory=dict)

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int) -> Evaluation:
        """Lay out the held-out rows of a corpus, on the reference.

        Raises
        ------
        ConfigError
            When the held-out DNA does not hold two rows.
        """
        row_bases = train.row_tokens * tokenizer.max_token_length
        stride = max(1, corpus.config.window)
        tiles = corpus.tiles(stride)
        if len(tiles) < 2:
            raise ConfigError(
                f"The held-out DNA holds {len(tiles)} rows of up to {row_bases:,} bases; at least 2 are needed.\n"
                "  Make [genome] holdout larger, or [train] length shorter."
            )
        chosen = [tiles[i] for i in np.unique(np.linspace(0, len(tiles) - 1, train.eval_rows).astype(int))]
        return cls.lay(corpus.tile_rows(chosen, row_bases), chosen, corpus.territory, tokenizer, train, seed)

    @classmethod
    def of_haplotypes(cls, corpus: Corpus, tokenizer: Tokenizer, train: TrainConfig, seed: int) -> Evaluation:
        """Lay out rows that a corpus draws: the first windows of its haplotypes."""
        indices = np.arange(train.eval_rows)
        found = [corpus.explain(int(i)) for i in indices]
        tiles = [(where["contig"], where["start"] - 1) for where in found]
        bases = corpus.rows(indices, train.row_tokens * tokenizer.max_token_length)
        return cls.lay(bases, tiles, corpus.territory, tokenizer, train, seed)

    @classmethod
    def lay(
        cls,
        row_bases: NDArray[np.uint8],
        tiles: list[tuple[str, int]],
        territory: Sequence[Region],
        tokenizer: Tokenizer,
        train: TrainConfig,
        seed: int,
    ) -> Evaluation:
        """Cut rows of ASCII, (R, enough for a row of the longest tokens), into tokens and draw the masks."""
        tokens, n_bases = tokenizer.encode_rows(row_bases, train.row_tokens)
        rows = len(tiles)
        ids = np.full((rows, train.length), SEP, np.int64)
        ids[:, 0] = CLS
        ids[:, 1:-1] = tokens
        positions = np.empty((train.eval_masks, rows, train.n_scored), np.int64)
        order = np.empty(train.eval_masks * train.n_scored, np.int64)
        for r in range(rows):
            draw_positions(np.uint64(seed), EVAL, np.uint64(r), train.row_tokens, order)
            positions[:, r] = order.reshape(train.eval_masks, -1) + 1
        bases = np.asarray(tokenizer.token_lengths)[ids[np.arange(rows)[None, :, None], positions]].astype(np.int64)
        return cls(ids, positions, bases, cluster_ids(tiles, territory), int(n_bases.sum()), tiles, territory)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The scored tokens, shape (M, R, K)."""
        return self.ids[np.arange(len(self.ids))[None, :, None], self.positions]


@dataclass(frozen=True)
class Score:
    """A held-out loss: nats per token and bits per base, each with its clustered standard error.

    NaN where nothing was scored, and a NaN error where all of it lies in one cluster.
    """

    loss: float
    loss_se: float
    bits_per_base: float
    bits_per_base_se: float
    accuracy: float
    n_tokens: int
    n_bases: int
    strata: dict[str, Score] = field(default_factory=dict)


def score_of(nats: NDArray[np.float64], evaluation: Evaluation, hits: NDArray[np.bool_]) -> Score:
    """Summarise the scored tokens, in all and stratum by stratum.

    Parameters
    ----------
    nats
        (M, R, K) negative log-likelihoods.
    hits
        (M, R, K) whether the likeliest token was the right one.
    """
    everything = _score_where(np.ones(nats.shape, bool), nats, evaluation, hits)
    strata = {name: _score_where(where, nats, evaluation, hits) for name, where in evaluation.strata.items()}
    return replace(everything, strata=strata)


def _score_where(
    where: NDArray[np.bool_], nats: NDArray[np.float64], evaluation: Evaluation, hits: NDArray[np.bool_]
) -> Score:
    """Summarise the scored tokens of one stratum, (M, R, K)."""
    by_row, tokens, bases = (
        (values * where).sum((0, 2)) for values in (nats, np.ones(nats.shape, int), evaluation.bases)
    )
    total, n_tokens, n_bases = float(by_row.sum()), int(tokens.sum()), int(bases.sum())
    if not n_tokens:
        nothing = float("nan")
        return Score(nothing, nothing, nothing, nothing, nothing, 0, 0)
    return Score(
        total / n_tokens,
        clustered_se(by_row, tokens, evaluation.clusters),
        bits_per_base(total, n_bases),
        bits_per_base(clustered_se(by_row, bases, evaluation.clusters), 1),
        float(hits[where].mean()),
        n_tokens,
        n_bases,
    )


def by_cluster(values: NDArray[Any], evaluation: Evaluation) -> NDArray[Any]:
    """Return the sums of a value of each scored token, (M, R, K), over clusters of held-out DNA, (G,)."""
    return np.bincount(evaluation.clusters, values.sum((0, 2)), minlength=n_clusters(evaluation.territory))


def n_clusters(territory: Sequence[Region]) -> int:
    """Return into how many clusters some held-out DNA is divided: as many as hold `CLUSTER` bases, up to a most."""
    return min(MOST_CLUSTERS, max(1, sum(region.end - region.start for region in territory) // CLUSTER))


def cluster_ids(tiles: Sequence[tuple[str, int]], territory: Sequence[Region]) -> NDArray[np.int64]:
    """Return the number of the cluster that each (contig, start) lies in.

    The regions of the territory, one behind the other, are divided into pieces of equal length. So clusters are places
    on the genome, the same ones for every tokenizer, and none is short because a region ends or an N cuts it.
    """
    before = np.cumsum([0, *(region.end - region.start for region in territory)])
    first: dict[str, list[int]] = {}
    for number, region in enumerate(territory):
        first.setdefault(region.contig, []).append(number)
    starts = {contig: np.array([territory[i].start for i in numbers]) for contig, numbers in first.items()}
    offsets = []
    for contig, start in tiles:
        number = first[contig][int(np.searchsorted(starts[contig], start, side="right")) - 1]
        offsets.append(int(before[number]) + start - territory[number].start)
    return np.array(offsets, np.int64) * n_clusters(territory) // before[-1]


def cluster_starts(territory: Sequence[Region]) -> list[tuple[str, int]]:
    """Return the contig and position (0-based) at which each cluster begins."""
    before = np.cumsum([0, *(region.end - region.start for region in territory)])
    groups = n_clusters(territory)
    found = []
    for k in range(groups):
        offset = -(-k * int(before[-1]) // groups)
        number = int(np.searchsorted(before, offset, side="right")) - 1
        found.append((territory[number].contig, territory[number].start + offset - int(before[number])))
    return found


def clustered_se(sums: NDArray[np.float64], sizes: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    """Return the standard error of Σ sums / Σ sizes when rows of a cluster are alike (linearised ratio).

    All arrays have shape (rows,).
    """
    total, size = np.bincount(clusters, sums), np.bincount(clusters, sizes)
    return error_of(influence(total, size), size > 0)


@torch.inference_mode()
def token_nats(
    model: nn.Module, evaluation: Evaluation, chunk: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score every chosen token of the held-out rows, in the order of the rows.

    Parameters
    ----------
    model
        Called as ``model(ids, rows=positions)``, it returns logits (B, K, V).
    chunk
        Rows at once; 0 for what is fast where the model is.

    Returns
    -------
    (M, R, K) negative log-likelihoods, and whether the likeliest token was the right one.
    """
    was_training = model.training
    model.eval()
    nats: list[torch.Tensor] = []
    hits: list[torch.Tensor] = []
    device = next(model.parameters()).device
    chunk = chunk or CHUNK.get(device.type, OTHERWISE)
    labels = evaluation.labels
    for m, positions in enumerate(evaluation.positions):
        for start in range(0, len(evaluation.ids), chunk):
            part = slice(start, start + chunk)
            at = torch.from_numpy(positions[part]).to(device)
            ids = torch.from_numpy(evaluation.ids[part]).to(device).scatter(1, at, MASK)
            logits = model(ids, rows=at).float()
            target = torch.from_numpy(labels[m, part]).to(device)
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            nats.append(loss.view(target.shape))
            hits.append(logits.argmax(-1) == target)
    model.train(was_training)
    shape = evaluation.positions.shape  # all is copied back at once: each copy lets a GPU wait
    return torch.cat(nats).double().cpu().numpy().reshape(shape), torch.cat(hits).cpu().numpy().reshape(shape)


def score(model: nn.Module, evaluation: Evaluation, chunk: int = 0) -> Score:
    """Score a model on the held-out rows; arguments as `token_nats` has them."""
    nats, hits = token_nats(model, evaluation, chunk)
    return score_of(nats, evaluation, hits)
