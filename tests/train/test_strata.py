"""Strata against brute force over single bases, and scores stratum by stratum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.genome.reference import Reference
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.train import train_tokenizer
from kleiber.train.config import TrainConfig
from kleiber.train.evaluate import Evaluation, score_of
from kleiber.train.strata import overlaps, strata

HOLDOUT = ("20:3,900,001-4,000,000",)
stretch = st.tuples(st.integers(0, 40), st.integers(1, 6)).map(lambda x: (x[0], x[0] + x[1]))


@given(st.lists(stretch, min_size=1), st.lists(stretch))
def test_overlaps_base_by_base(asked, stretches):
    begin, end = np.array(asked).T
    covered = np.zeros(60, bool)
    for a, b in stretches:
        covered[a:b] = True
    expected = [covered[a:b].any() for a, b in asked]
    assert overlaps(begin, end, np.array(stretches, np.int64).reshape(-1, 2)).tolist() == expected


def test_variant_sites_token_by_token(embedded, windows):
    reference, panel = embedded
    tokenizer = train_tokenizer("bpe64", windows[:500])
    train = TrainConfig(length=32, eval_rows=50, eval_masks=2)
    bases = train.row_tokens * tokenizer.max_token_length
    corpus = open_corpus(reference, None, CorpusConfig("reference", bases, bases, HOLDOUT, "heldout"), 1)
    evaluation = Evaluation.of(corpus, tokenizer, train, 1)
    found = strata(evaluation, tokenizer, reference, panel)
    assert set(found) == {"variant_sites"}  # this FASTA is in upper case throughout
    store = panel.store("20")
    varies = np.zeros(reference.length("20"), bool)
    for start, end in zip(store.start.astype(int), store.end.astype(int), strict=True):
        varies[min(start, end - 1) : end] = True
    lengths = np.asarray(tokenizer.token_lengths)
    for m in range(2):
        for r, (_, start) in enumerate(evaluation.tiles):
            for k, at in enumerate(evaluation.positions[m, r]):
                begin = start + lengths[evaluation.ids[r, 1:at]].sum()
                end = begin + lengths[evaluation.ids[r, at]]
                assert found["variant_sites"][m, r, k] == varies[begin:end].any()
    assert 0.02 < found["variant_sites"].mean() < 0.5


def test_soft_masked_repeats_and_their_score(tmp_path, windows):
    text = b"".join(row.tobytes() for row in windows[:40])
    (tmp_path / "g.fa").write_bytes(b">1\n" + text[:9000] + text[9000:15000].lower() + text[15000:] + b"\n")
    reference = Reference.build(tmp_path / "g.fa", tmp_path / "r")
    tokenizer = train_tokenizer("3mer", windows[:10])
    train = TrainConfig(length=32, eval_rows=200, eval_masks=2)
    corpus = open_corpus(reference, None, CorpusConfig("reference", 90), 1)
    evaluation = Evaluation.of(corpus, tokenizer, train, 1)
    found = strata(evaluation, tokenizer, reference, None)
    starts = np.array([start for _, start in evaluation.tiles])
    inside = (starts >= 9000) & (starts + 90 <= 15000)
    assert found["soft_masked"][:, inside].all()
    assert not found["soft_masked"][:, (starts + 90 <= 9000) | (starts >= 15000)].any()
    evaluation = replace(evaluation, strata=found)
    nats = np.random.default_rng(1).random(evaluation.positions.shape)
    hits = nats < 0.25
    score = score_of(nats, evaluation, hits)
    part = score.strata["soft_masked"]
    where = found["soft_masked"]
    assert part.loss == pytest.approx(nats[where].mean())
    assert part.bits_per_base == pytest.approx(bits_per_base(nats[where].sum(), evaluation.bases[where].sum()))
    assert part.accuracy == pytest.approx(hits[where].mean())
    assert score.n_tokens == nats.size
    nothing = score_of(nats, replace(evaluation, strata={"none": np.zeros_like(where)}), hits).strata["none"]
    assert nothing.n_tokens == 0
    assert np.isnan(nothing.loss)
