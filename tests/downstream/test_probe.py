"""Probes: counts of k-mers, classifiers, and the search for test sequences in training DNA, against plain twins."""

from __future__ import annotations

import gzip
import lzma
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import matthews_corrcoef

from kleiber.downstream import seen
from kleiber.downstream.probe import PENALTIES, compare, kmer_features, probe
from kleiber.downstream.seen import WORD, share_seen
from kleiber.downstream.tables import Labelled, read_table, read_tables
from kleiber.errors import DataError

MOTIF = "TATAAA"


def sequences(rng, n, length=60):
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]


def with_motif(rng, n):
    """Half of them hold the motif at some place."""
    texts, labels = sequences(rng, n), np.arange(n) % 2
    for i in np.flatnonzero(labels):
        at = int(rng.integers(0, 50))
        texts[i] = texts[i][:at] + MOTIF + texts[i][at + len(MOTIF) :]
    return Labelled(texts, labels.astype(np.int64))


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(5)
    return with_motif(rng, 400), with_motif(rng, 100), with_motif(rng, 200)


def turned(text):
    return text[::-1].translate(str.maketrans("ACGTN", "TGCAN"))


def test_counts_of_kmers():
    table = Labelled(["ACGTACGTNACG", "AC", "TTTTTTT"], np.array([0, 1, 0]))
    for name, (counts, _, _) in kmer_features((table, table, table)):
        k = int(name.removeprefix("k = "))
        for row, text in zip(counts.toarray(), table.sequences, strict=True):
            plain = Counter(text[i : i + k] for i in range(len(text) - k + 1))
            wanted = np.zeros(4**k)
            for word, n in plain.items():
                if "N" not in word:
                    wanted[sum("ACGT".index(letter) * 4 ** (k - 1 - i) for i, letter in enumerate(word))] = n
            np.testing.assert_array_equal(row, wanted)


def test_a_probe_is_the_classifier_that_does_best_on_the_dev_table(tables):
    found = probe(kmer_features(tables), tables)
    train, dev, test = tables
    best = None
    for name, features in kmer_features(tables):
        x_train, x_dev, x_test = (x.toarray() for x in features)
        spread = np.where(x_train.std(0) > 0, x_train.std(0), 1)
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=2000).fit(x_train / spread, train.labels)
            reached = matthews_corrcoef(dev.labels, model.predict(x_dev / spread))
            if best is None or reached > best[0]:
                best = reached, f"{name}, C = {penalty:g}", model.predict(x_test / spread)
    assert found.mcc.value > 0.7  # it finds the motif
    assert (found.dev_mcc, found.chosen) == (pytest.approx(best[0]), best[1])
    assert (found.predicted == best[2]).all()
    assert found.mcc.interval[0] < found.mcc.value < found.mcc.interval[1]
    same = probe(kmer_features(tables), tables)
    assert same.chosen == found.chosen
    assert (same.predicted == found.predicted).all()
    none = compare(found, same, test)
    assert (none.mcc, none.interval) == (0.0, (0.0, 0.0))


def written(path, table):
    lines = [f"{text},{label}\n" for text, label in zip(table.sequences, table.labels, strict=True)]
    path.write_text("sequence,label\n" + "".join(lines))
    return path


def test_what_cannot_be_learned_is_said(tmp_path, tables):
    train, dev, test = tables
    here = {name: written(tmp_path / name, table) for name, table in (("train", train), ("dev", dev), ("test", test))}
    alone = written(tmp_path / "alone", train.only(train.labels == 1))
    with pytest.raises(DataError, match="alone has one class alone"):
        read_tables(alone, None, here["test"])
    strange = written(tmp_path / "strange", Labelled(test.sequences, test.labels + 5))
    with pytest.raises(DataError, match="strange has the class 5"):
        read_tables(here["train"], here["dev"], strange)
    few = written(tmp_path / "few", Labelled(["ACGT", "CCGT"], np.array([0, 1])))
    with pytest.raises(DataError, match="too few to take every tenth"):
        read_tables(few, None, few)
    assert [len(part) for part in read_tables(here["train"], None, here["test"])] == [360, 40, 200]
    assert [len(part) for part in read_tables(here["train"], here["dev"], here["test"])] == [400, 100, 200]


def test_fits_that_do_not_converge_are_counted(tables, monkeypatch):
    from kleiber.downstream import probe as module

    assert probe(kmer_features(tables), tables).short is None
    monkeypatch.setattr(module, "ITERATIONS", 3)
    found = probe(kmer_features(tables), tables).short
    assert (found.n, found.of, found.chosen) == (12, 12, True)
    assert str(found) == "12 of 12 fits stopped after 3 steps before they converged, the chosen one among them"


@pytest.mark.parametrize("piece", [64, 1 << 18])
def test_sequences_that_stand_in_the_dna(monkeypatch, piece):
    monkeypatch.setattr(seen, "PIECE", piece)  # no word is lost where one ends
    rng = np.random.default_rng(8)
    dna = "".join(rng.choice(list("ACGT"), 3000))
    dna = dna[:1000] + "N" * 50 + dna[1000:]
    half = dna[200:260] + sequences(rng, 1)[0]
    texts = [dna[500:600], turned(dna[1500:1600]), half, *sequences(rng, 3, 100), dna[960:1100]]
    halves = [np.frombuffer(part.encode(), np.uint8) for part in (dna[:2000], dna[2000:])]
    stretches = [part.tobytes().decode() for part in halves]
    words = {part[i : i + WORD] for part in stretches for i in range(len(part) - WORD + 1)}
    words = {word for word in words if "N" not in word}
    for text, share in zip(texts, share_seen(texts, halves), strict=True):
        own = [text[i : i + WORD] for i in range(len(text) - WORD + 1)]
        own = [word for word in own if "N" not in word]
        assert share == pytest.approx(np.mean([word in words or turned(word) in words for word in own]))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_tables_as_the_benchmark_has_them(tmp_path, pack):
    path = tmp_path / "table"
    path.write_bytes(pack(b"sequence,label\nacgu,1\nNNAC,0\n"))
    table = read_table(path)
    assert (table.sequences, table.labels.tolist()) == (["ACGT", "NNAC"], [1, 0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seq,label\nACGT,1\n", "lacks the column 'sequence'; it has seq, label"),
        ("sequence,label\n", "no rows"),
        ("sequence,label\nACGT,1\nMEEP,0\n", "line 3: 'MEEP' is no sequence"),
        ("sequence,label\nACGT,1\nACGT,yes\n", "line 3: 'yes' is no class"),
        ("sequence,label\nACGT,-1\n", "line 2: '-1' is no class"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(tmp_path, text, says):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_table(path)


def test_the_command_prints_both_opponents_and_the_same_bytes(tmp_path, tables, windows, capsys):
    from dataclasses import asdict
    from importlib.resources import files
    from json import loads

    from kleiber.cli import app
    from kleiber.model.config import shape_for
    from kleiber.model.networks import network
    from kleiber.tokens.train import train_tokenizer
    from kleiber.train.checkpoint import save_state

    tokenizer = train_tokenizer("3mer", windows[:50])
    model = network(shape_for("0.02M", tokenizer.vocab_size, architecture="shortconv"))
    model.initialise(3)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    save_state(tmp_path / "model.safetensors", weights, asdict(model.config))
    tokenizer.save(tmp_path / "tokenizer.json")
    train, _, test = tables
    real = [window.tobytes().decode() for window in windows[:4, :60]]
    test = Labelled([*test.sequences, *real], np.append(test.labels, [0, 1, 0, 1]))
    for name, table in (("train", train), ("test", test)):
        written(tmp_path / f"{name}.csv", table)
    fasta = str(files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz")
    command = ["probe", tmp_path, "--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv", "--threads", 1]
    command += ["--reference", fasta, "--drop-seen", "--json"]
    printed = []
    for _ in range(2):
        app([str(part) for part in command], result_action="return_value")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    facts = loads(printed[0])
    assert (facts["n_test"], facts["n_seen"], facts["dropped"]) == (204, 4, True)
    assert facts["kmers"]["mcc"]["value"] > facts["model"]["mcc"]["value"]  # a network that was never trained
    low, high = facts["difference"]["interval"]
    assert low <= facts["difference"]["mcc"] <= high
