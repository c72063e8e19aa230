"""Hidden intervals: what is read does not depend on what is hidden, nor the question on the tokenizer."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError
from kleiber.genome.reference import Reference
from kleiber.model.config import shape_for
from kleiber.model.dnabert2 import DNABERT2
from kleiber.tokens.kmer import KmerTokenizer, OverlappingKmerTokenizer
from kleiber.tokens.train import train_tokenizer
from kleiber.train.config import TrainConfig
from kleiber.train.intervals import MARGIN, WIDTH, base_chances, lay_intervals, score_frequencies, score_intervals

HOLDOUT = ("20:3,500,001-4,000,000",)
TRAIN = TrainConfig(length=64, eval_rows=60)
SPECS = ("bpe1024", "bpe4096", "6mer", "3mer", "nucleotide")


def heldout_of(reference, window=90, holdout=HOLDOUT):
    return open_corpus(reference, None, CorpusConfig("reference", window, window, holdout, "heldout"), 1)


@pytest.fixture(scope="module")
def tokenizers(embedded):
    """Every kind of tokenizer, trained outside the held-out DNA, with the frequencies of its tokens there."""
    corpus = open_corpus(embedded[0], None, CorpusConfig("reference", 700, holdout=HOLDOUT), 1)
    windows = corpus.tile_rows(corpus.tiles(700), 700)
    found = {}
    for spec in SPECS:
        tokenizer = train_tokenizer(spec, windows)
        counts = np.bincount(tokenizer.encode_batch(windows)[0], minlength=tokenizer.vocab_size) + 1.0
        counts[:5] = 0
        found[spec] = tokenizer, counts / counts.sum()
    return found


def network(tokenizer, seed=3):
    model = DNABERT2(shape_for("0.01M", tokenizer.vocab_size))
    model.initialise(seed)
    return model


def test_frequencies_alone_score_alike_under_every_tokenizer(tokenizers, embedded):
    train = TrainConfig(length=128, eval_rows=2000)
    heldout = heldout_of(embedded[0])
    bits = {
        spec: score_frequencies(frequencies, lay_intervals(heldout, tokenizer, train))[0]
        for spec, (tokenizer, frequencies) in tokenizers.items()
    }
    assert min(bits.values()) >= 1.98, bits
    assert max(bits.values()) - min(bits.values()) <= 0.015, bits


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_hidden_cannot_be_read(spec, tokenizers, embedded, tmp_path):
    """Other bases in the intervals, the same input to the bit; other bases beside them, another input."""
    tokenizer, _ = tokenizers[spec]
    reference = embedded[0]
    intervals = lay_intervals(heldout_of(reference), tokenizer, TRAIN)
    bases = np.array(reference.bases("20"))
    rng = np.random.default_rng(1)
    for contig, start in intervals.starts:
        assert contig == "20"
        bases[start : start + WIDTH] = rng.choice(np.frombuffer(b"ACGT", np.uint8), WIDTH)
    swapped = lay_intervals(heldout_of(_reference(bases, tmp_path / "swapped")), tokenizer, TRAIN)
    assert swapped.starts == intervals.starts
    assert (swapped.codes != intervals.codes).mean() > 0.6
    assert len(swapped.rows) == len(intervals.rows)
    for one, other in zip(swapped.rows, intervals.rows, strict=True):
        for array, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, same)
    start = intervals.starts[0][1]
    bases[start - 1] = ord("A") if bases[start - 1] != ord("A") else ord("C")
    changed = lay_intervals(heldout_of(_reference(bases, tmp_path / "changed")), tokenizer, TRAIN)
    assert any(
        one[1].shape != other[1].shape or (one[1] != other[1]).any()
        for one, other in zip(changed.rows, intervals.rows, strict=False)
    )


def _reference(bases, folder):
    (folder.parent / f"{folder.name}.fa").write_bytes(b">20\n" + bases.tobytes() + b"\n")
    return Reference.build(folder.parent / f"{folder.name}.fa", folder)


def test_every_tokenizer_is_asked_for_the_same_bases_and_sees_equally_many(tokenizers, embedded):
    bases = embedded[0].bases("20")
    flank = (TRAIN.row_tokens - WIDTH) // 2
    laid = {spec: lay_intervals(heldout_of(embedded[0]), one, TRAIN) for spec, (one, _) in tokenizers.items()}
    first = laid["bpe1024"]
    assert len(first.starts) == 60
    for spec, intervals in laid.items():
        tokenizer, _ = tokenizers[spec]
        assert intervals.starts == first.starts
        np.testing.assert_array_equal(intervals.codes, first.codes)
        for which, ids, positions in intervals.rows:
            for number, row, masks in zip(which, ids, positions, strict=True):
                start = intervals.starts[number][1]
                assert (row[masks] == 4).all()
                assert (np.diff(masks) == 1).all()
                assert (row[0], row[-1]) == (1, 2)
                sides = tokenizer.decode(row[1 : masks[0]]), tokenizer.decode(row[masks[-1] + 1 : -1])
                assert sides[0].encode() == bases[start - flank : start].tobytes()
                assert sides[1].encode() == bases[start + WIDTH : start + WIDTH + flank].tobytes()
    for number, (_, start) in enumerate(first.starts):
        hidden = bases[start + MARGIN : start + WIDTH - MARGIN].tobytes().decode()
        assert "".join("ACGT"[code] for code in first.codes[number]) == hidden


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_chances_by_brute_force(longest, monkeypatch):
    """Every sequence of tokens is written down; those that fill the interval are counted base by base."""
    monkeypatch.setattr("kleiber.train.intervals.WIDTH", 4)
    words = ["".join(word) for n in range(1, longest + 1) for word in product("AG", repeat=n)]
    n_masks = 4 if longest == 1 else 2
    if longest == 2:
        words += ["ACG"]  # a length of its own
    rng = np.random.default_rng(longest)
    chances = rng.dirichlet(np.ones(len(words)), (3, n_masks))
    blocks, columns = {}, 0
    for length in sorted({len(word) for word in words}):
        blocks[length], columns = columns, columns + 4 * length
    letters = np.zeros((len(words), columns))
    for i, word in enumerate(words):
        for place, letter in enumerate(word):
            letters[i, blocks[len(word)] + 4 * place + "ACGT".index(letter)] = 1
    found = base_chances(chances @ letters, blocks)
    expected = np.zeros((3, 4, 4))
    for filling in product(range(len(words)), repeat=n_masks):
        text = "".join(words[i] for i in filling)
        if len(text) == 4:
            weight = np.prod([chances[:, k, i] for k, i in enumerate(filling)], axis=0)
            for place, letter in enumerate(text):
                expected[:, place, "ACGT".index(letter)] += weight
    np.testing.assert_allclose(found, expected / expected.sum(-1, keepdims=True), atol=1e-12)


def test_a_network_is_scored_row_by_row(tokenizers, embedded):
    """Chunks do not matter, and a network that knows only frequencies scores as they do."""
    tokenizer, frequencies = tokenizers["bpe1024"]
    intervals = lay_intervals(heldout_of(embedded[0]), tokenizer, TRAIN)
    model = network(tokenizer)
    bits, se = score_intervals(model, intervals)
    assert score_intervals(model, intervals, chunk=1) == pytest.approx((bits, se), abs=1e-6)
    assert 1.9 < bits < 2.2
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.cls.predictions.decoder.bias.copy_(torch.from_numpy(np.log(np.maximum(frequencies, 1e-30))))
    assert score_intervals(model, intervals) == pytest.approx(score_frequencies(frequencies, intervals), abs=1e-5)


def test_what_cannot_be_laid(embedded):
    heldout = heldout_of(embedded[0], holdout=("20:3,900,001-3,900,100",))
    with pytest.raises(ConfigError, match="holds 0 intervals with 25 bases on either side"):
        lay_intervals(heldout, KmerTokenizer(3), TRAIN)
    with pytest.raises(ConfigError, match="Overlapping words"):
        lay_intervals(heldout_of(embedded[0]), OverlappingKmerTokenizer(3), TRAIN)
