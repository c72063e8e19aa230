"""Rows in other orders: what moves with what, and networks of which it is known what they see."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.assembly import Region
from kleiber.model.config import shape_for
from kleiber.model.dnabert2 import DNABERT2
from kleiber.tokens.train import train_tokenizer
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import (
    CLUSTER,
    MOST_CLUSTERS,
    Evaluation,
    by_cluster,
    cluster_ids,
    cluster_starts,
    score,
    token_nats,
)
from kleiber.train.intervals import lay_intervals
from kleiber.train.order import ORDERS, order_costs, with_orders
from kleiber.train.scoring import held_out, score_model

HOLDOUT = ("20:3,600,001-4,000,000",)
TRAIN = TrainConfig(length=32, eval_rows=60, eval_masks=2)


@pytest.fixture(scope="module")
def setting(embedded, windows):
    """A tokenizer of tokens of several lengths, held-out DNA, and its rows with their orders."""
    tokenizer = train_tokenizer("bpe64", windows[:300])
    bases = TRAIN.row_tokens * tokenizer.max_token_length
    corpus = open_corpus(embedded[0], None, CorpusConfig("reference", bases, bases, HOLDOUT, "heldout"), 1)
    evaluation = with_orders(Evaluation.of(corpus, tokenizer, TRAIN, 1), corpus, tokenizer, TRAIN, 1)
    return tokenizer, corpus, evaluation


def test_masks_move_with_their_targets(setting):
    _, _, evaluation = setting
    assert set(evaluation.orders) == set(ORDERS)
    ids, labels = evaluation.ids[evaluation.probed], evaluation.labels[0, evaluation.probed]
    for name in ("reversed", "shuffled"):
        other = evaluation.orders[name]
        np.testing.assert_array_equal(other.labels[0], labels)
        np.testing.assert_array_equal(other.bases[0], evaluation.bases[0, evaluation.probed])
        np.testing.assert_array_equal(other.ids[:, [0, -1]], ids[:, [0, -1]])
        np.testing.assert_array_equal(np.sort(other.ids, 1), np.sort(ids, 1))
        assert (other.ids != ids).any(1).all()
    np.testing.assert_array_equal(evaluation.orders["reversed"].ids[:, 1:-1], ids[:, -2:0:-1])
    shuffled = evaluation.orders["shuffled"].ids
    assert not (shuffled[:, 1:-1] == ids[:, -2:0:-1]).all(1).any()


def test_the_other_strand_is_the_reverse_complement_of_held_out_dna(setting, embedded):
    """Decoded, each row is found in the reverse complement of the held-out stretch, ending where its row begins."""
    tokenizer, _, evaluation = setting
    bases = bytes(np.asarray(embedded[0].bases("20")[3_600_000:4_000_000]))
    other = bases.translate(bytes.maketrans(b"ACGT", b"TGCA"))[::-1].decode()
    lengths = np.asarray(tokenizer.token_lengths)
    exact = 0
    for r, row in zip(evaluation.probed, evaluation.orders["complement"].ids, strict=True):
        text = tokenizer.decode(row[1:-1])
        start = evaluation.tiles[r][1]
        end = start + int(lengths[evaluation.ids[r]].sum())
        at = 4_000_000 - end
        exact += other[at : at + len(text)] == text
        assert text in other
    assert exact >= len(evaluation.probed) - 2  # the first rows of the region begin later


class LeftNeighbour(nn.Module):
    """A network that predicts a token from the one on its left alone: frequencies of pairs, which reversal breaks."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(torch.from_numpy(table).float().log())

    def forward(self, ids, rows):
        return self.table[ids.gather(1, rows - 1)]


class Neighbours(LeftNeighbour):
    """The same from both neighbours alike, so that left and right cannot be told apart."""

    def forward(self, ids, rows):
        return self.table[ids.gather(1, rows - 1)] + self.table[ids.gather(1, rows + 1)]


@pytest.mark.parametrize(("network", "sees"), [(LeftNeighbour, True), (Neighbours, False)])
def test_networks_of_which_it_is_known_what_they_see(network, sees, setting):
    tokenizer, corpus, evaluation = setting
    v = tokenizer.vocab_size
    ids, _ = tokenizer.encode_batch(corpus.tile_rows(corpus.tiles(corpus.config.window), corpus.config.window))
    pairs = np.bincount(ids[:-1].astype(int) * v + ids[1:], minlength=v * v).reshape(v, v) + 0.5
    model = network(pairs / pairs.sum(1, keepdims=True))
    nats, _ = token_nats(model, evaluation)
    costs = order_costs(model, evaluation, nats)
    assert costs["reversed"].exceeds(3) is sees
    assert costs["shuffled"].exceeds(3)
    if not sees:
        assert costs["reversed"].value == pytest.approx(0, abs=1e-6)
    assert abs(costs["complement"].value) < 6 * costs["complement"].se


def test_costs_by_brute_force(setting):
    """Reversal token by token, one row at a time."""
    tokenizer, _, evaluation = setting
    model = DNABERT2(shape_for("0.01M", tokenizer.vocab_size)).eval()
    model.initialise(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    nats, _ = token_nats(model, evaluation)
    total, bases = np.zeros(2), 0
    for r in evaluation.probed:
        for k, turned in enumerate((False, True)):
            row, at = torch.from_numpy(evaluation.ids[r].copy()), evaluation.positions[0, r]
            target = row[at].clone()
            row[at] = 4
            if turned:
                row[1:-1] = row[1:-1].flip(0)
                at = len(row) - 1 - at
            with torch.no_grad():
                logits = model(row[None])[0, at]
            total[k] += float(-logits.log_softmax(-1)[range(len(at)), target].double().sum())
        bases += int(evaluation.bases[0, r].sum())
    cost = order_costs(model, evaluation, nats)["reversed"]
    assert cost.value == pytest.approx((total[1] - total[0]) / bases, abs=1e-5)
    assert cost.n == 8


def test_clusters_are_places_of_equal_length_whatever_the_regions():
    """Every base belongs to the cluster that counting base by base gives it; none is short."""
    territory = [Region("1", 10, 130_010), Region("1", 200_000, 215_000), Region("2", 0, 160_000)]
    total = 305_000
    every = [(r.contig, p) for r in territory for p in range(r.start, r.end, 1000)]
    found = cluster_ids(every, territory)
    expected = [i * 1000 * 6 // total for i in range(len(every))]
    assert found.tolist() == expected
    assert np.bincount(found).min() * 1000 >= CLUSTER
    starts = cluster_starts(territory)
    assert cluster_ids(starts, territory).tolist() == list(range(6))
    before = [(contig, start - 1) for contig, start in starts[1:] if (contig, start - 1) in set(every)]
    assert all(k < n for k, n in zip(cluster_ids(before, territory), range(1, 6), strict=False))


def test_the_first_studys_hold_out_is_ten_clusters_and_a_chromosome_a_hundred():
    assert [start for _, start in cluster_starts([Region("20", 3_500_000, 4_000_000)])] == [
        3_500_000 + 50_000 * k for k in range(10)
    ]
    assert len(cluster_starts([Region("8", 0, 145_000_000)])) == MOST_CLUSTERS
    assert len(cluster_starts([Region("8", 0, 7_000)])) == 1


def test_all_scores_of_a_model(setting, embedded):
    tokenizer, corpus, evaluation = setting
    laid = held_out(corpus, tokenizer, TRAIN, 1, embedded[0], embedded[1])
    np.testing.assert_array_equal(laid.orders["shuffled"].ids, evaluation.orders["shuffled"].ids)
    model = DNABERT2(shape_for("0.01M", tokenizer.vocab_size))
    model.initialise(1)
    scores = score_model(model, laid, lay_intervals(corpus, tokenizer, TRAIN))
    columns, table = scores.columns, scores.clusters
    plain = score(model, replace(laid, strata={}))
    assert columns["loss"] == plain.loss == pytest.approx(table["nats"].sum() / table["n_tokens"].sum())
    assert columns["bits_per_base"] == pytest.approx(table["nats"].sum() / table["n_bases"].sum() / log(2))
    assert table["n_bases"].sum() == plain.n_bases == by_cluster(laid.bases, laid).sum()
    assert table.columns == ["contig", "start", "n_tokens", "n_bases", "nats"]
    assert table["start"].to_list() == [3_600_001 + 50_000 * k for k in range(8)]
    for name in ORDERS:
        assert np.isfinite([columns[f"cost_{name}"], columns[f"cost_{name}_se"]]).all()
    assert "bits_per_base_variant_sites_se" in columns
    back = pl.read_csv(table.write_csv().encode(), schema_overrides={"contig": pl.String})
    assert back.equals(table)  # a float is written so that it is read back to the bit
