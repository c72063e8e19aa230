"""Count models read what a run reads, and are scored where it is."""

from __future__ import annotations

import numpy as np
import pytest

from kleiber.corpus.counts import WordCounts
from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import CODES
from kleiber.tokens.train import train_tokenizer
from kleiber.train import baselines
from kleiber.train.baselines import count_curve, territory_counts
from kleiber.train.batches import Batches
from kleiber.train.config import TrainConfig

HOLDOUT = ("20:3,980,001-4,000,000",)
TRAIN = TrainConfig(length=32, batch=4)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    monkeypatch.setattr(baselines, "WordCounts", lambda: WordCounts(6))
    monkeypatch.setattr(baselines, "CHUNK", 5)


def corpora(embedded, tokenizer, **options):
    reach = TRAIN.row_tokens * tokenizer.max_token_length
    window = options.pop("window", reach)
    training = open_corpus(*embedded, CorpusConfig("pangenome", window, max(window, reach), HOLDOUT, **options), 1)
    return training, open_corpus(embedded[0], None, CorpusConfig("reference", 90, 90, HOLDOUT, "heldout"), 1)


def test_the_curve_is_of_what_a_run_has_read(embedded, windows):
    """The rows of every step, put back into bases and counted by themselves."""
    tokenizer = train_tokenizer("bpe64", windows[:200])
    training, heldout = corpora(embedded, tokenizer)
    curve = count_curve(training, heldout, tokenizer, TRAIN, [4 * 3, 4 * 8])
    assert [point["n_rows"] for point in curve] == [1, 4, 12, 32]
    assert [point["n_tokens"] for point in curve] == [32 * n for n in (1, 4, 12, 32)]
    batches, counts, n_bases = Batches(training, tokenizer, TRAIN, 1), WordCounts(6), 0
    for step in range(8):
        batch = batches[step]
        ids = batch.inputs.copy()
        np.put_along_axis(ids, batch.positions, batch.labels, 1)
        for row in ids:
            counts.add(CODES[np.frombuffer(tokenizer.decode(row).encode(), np.uint8)])
        n_bases += batch.n_bases
    assert curve[-1]["n_bases"] == n_bases
    text = CODES[embedded[0].bases("20")[3_980_000:4_000_000]]
    territory = 2_980_000  # bases of training; a share exp(-n / territory) of them is in no window
    times = n_bases / (territory * (1 - np.exp(-n_bases / territory)))
    nats, bases = counts.nats(text, np.zeros(len(text), np.int64), 16 * times)
    for name, sums in zip(counts.models, nats, strict=True):
        expected = bits_per_base(sums[0], bases[0])
        assert curve[-1]["scores"][name]["bits_per_base"] == pytest.approx(expected, abs=1e-9), name
        assert np.isnan(curve[-1]["scores"][name]["se"])  # 20 kb are one cluster
    best = [point["scores"]["two-sided-mean"]["bits_per_base"] for point in curve]
    assert best[-1] < best[0] - 0.1


def test_reading_again_does_no_harm(embedded):
    """Counts of ten readings of a small territory are about those of one; with a fixed weight they would be worse."""
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    training, heldout = corpora(embedded, tokenizer, include=("20:3,000,001-3,004,500",))
    once, often = (
        count_curve(training, heldout, tokenizer, TRAIN, [n])[-1]["scores"]["two-sided-2"]["bits_per_base"]
        for n in (50, 500)
    )
    assert often < once + 0.003


def test_rows_of_the_original_recipe_are_cut_where_it_cuts_them(embedded):
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    training, heldout = corpora(embedded, tokenizer, window=700)
    recipe = {"original": True, "mask_only": False, "micro_batch": 2, "schedule": "linear", "optimizer": "adamw"}
    train = TrainConfig(length=32, batch=4, **recipe)
    assert count_curve(training, heldout, tokenizer, train, [8])[-1]["n_bases"] == 8 * 30 * 3


def test_a_curve_ends_where_counting_ends(embedded, monkeypatch):
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    training, heldout = corpora(embedded, tokenizer)
    monkeypatch.setattr(baselines, "MOST_COUNTED", 1000)
    curve = count_curve(training, heldout, tokenizer, TRAIN, [100, 400])
    assert [point["n_rows"] for point in curve] == [1, 6, 16]  # whole chunks of five rows
    assert curve[-1]["n_bases"] == 16 * 90


def test_counts_of_a_territory_see_each_base_once(embedded, windows, monkeypatch):
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    training, heldout = corpora(embedded, tokenizer)
    counts = WordCounts(6)
    for region in training.territory:
        counts.add(CODES[training.reference.bases(region.contig)[region.start : region.end]])
    text = CODES[embedded[0].bases("20")[3_980_000:4_000_000]]
    nats, bases = counts.nats(text, np.zeros(len(text), np.int64))
    found = territory_counts(training, heldout)
    for name, sums in zip(counts.models, nats, strict=True):
        assert found[name]["bits_per_base"] == pytest.approx(bits_per_base(sums[0], bases[0]), abs=1e-9)
    monkeypatch.setattr(baselines, "MOST_SCORED", 5_000)
    few = territory_counts(training, heldout)["markov-3"]["bits_per_base"]
    assert few == pytest.approx(found["markov-3"]["bits_per_base"], abs=0.05)
