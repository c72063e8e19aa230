"""Ids are Hugging Face's, on real DNA and on everything that could trip an encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace
from tokenizers import models, pre_tokenizers, trainers

from kleiber.errors import ConfigError, DataError
from kleiber.tokens.kinds import load
from kleiber.tokens.kmer import OverlappingKmerTokenizer
from kleiber.tokens.original import OriginalKmerTokenizer, clean_up
from kleiber.tokens.tokenizer import SPECIALS
from kleiber.tokens.train import train_tokenizer

SPECS = ("bpe32", "bpe512", "bpe4096", "6mer", "3mer", "nucleotide", "original-6mer")


@pytest.fixture(scope="session")
def pairs(windows, tmp_path_factory):
    """Each tokenizer of `SPECS`, ours and Hugging Face's from our file."""
    folder = tmp_path_factory.mktemp("tokenizers")
    made = {}
    for spec in SPECS:
        tokenizer = train_tokenizer(spec, windows)
        tokenizer.save(folder / f"{spec}.json")
        made[spec] = load(folder / f"{spec}.json"), HuggingFace.from_file(str(folder / f"{spec}.json"))
    return made


def ours(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(np.frombuffer(text.encode(), np.uint8)).tolist()


def theirs(backend: HuggingFace, text: str) -> list[int]:
    return backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("spec", SPECS)
def test_real_windows(spec, pairs, windows):
    tokenizer, backend = pairs[spec]
    rows = windows[:400]
    ids, offsets = tokenizer.encode_batch(rows)
    expected = backend.encode_batch([row.tobytes().decode() for row in rows], add_special_tokens=False)
    for i, encoding in enumerate(expected):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == encoding.ids
    assert tokenizer.decode(ids[: offsets[1]]) == rows[0].tobytes().decode()
    assert (tokenizer.token_lengths[ids].sum()) == rows.size


@pytest.mark.parametrize("spec", SPECS)
def test_repeats_of_every_period(spec, pairs):
    tokenizer, backend = pairs[spec]
    for unit in ("A", "C", "G", "T", "CA", "AAT", "GATA", "TTAGG", "TTAGGG", "N", "AN"):
        for length in (*range(1, 80), 127, 500, 2000):
            text = (unit * length)[:length]
            assert ours(tokenizer, text) == theirs(backend, text), (unit, length)


@pytest.mark.parametrize("spec", SPECS)
@given(text=st.text("ACGTN", max_size=200))
def test_any_text(spec, text, pairs):
    tokenizer, backend = pairs[spec]
    assert ours(tokenizer, text) == theirs(backend, text)
    assert ours(tokenizer, text.lower()) == theirs(backend, text)
    assert tokenizer.decode(ours(tokenizer, text)) == text


@pytest.mark.parametrize("spec", SPECS)
def test_rows_are_the_beginning_of_the_sequence(spec, pairs, windows):
    tokenizer, _ = pairs[spec]
    n_tokens = 700 // tokenizer.max_token_length
    ids, n_bases = tokenizer.encode_rows(windows[:300], n_tokens)
    for row, size, window in zip(ids, n_bases, windows, strict=False):
        assert row.tolist() == tokenizer.encode(window)[:n_tokens].tolist()
        assert size == tokenizer.token_lengths[row].sum()


def test_a_row_that_cannot_be_filled(pairs, windows):
    with pytest.raises(DataError, match="gives 120 tokens, and 200 are wanted"):
        pairs["6mer"][0].encode_rows(windows[:3], 200)


@pytest.fixture(scope="module")
def all_pairs(pairs, windows, shared_data, tmp_path_factory):
    """The tokenizers of `pairs`, one of 32,768 tokens, and DNABERT-2's own."""
    folder = tmp_path_factory.mktemp("more")
    train_tokenizer("bpe32768", windows).save(folder / "large.json")
    paths = {"bpe32768": folder / "large.json", "dnabert2": shared_data / "dnabert2" / "tokenizer.json"}
    return {**pairs, **{name: (load(path), HuggingFace.from_file(str(path))) for name, path in paths.items()}}


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["bpe32", "bpe512", "bpe4096", "bpe32768", "dnabert2", "6mer"])
def test_a_hundred_thousand_windows(spec, all_pairs, embedded):
    from kleiber.corpus.sampling import CorpusConfig, open_corpus

    tokenizer, backend = all_pairs[spec]
    for strategy in ("reference", "pangenome", "variant"):
        rows = open_corpus(*embedded, CorpusConfig(strategy, 700), 2).batch(np.arange(34_000))
        ids, offsets = tokenizer.encode_batch(rows)
        expected = backend.encode_batch([row.tobytes().decode() for row in rows], add_special_tokens=False)
        for i, encoding in enumerate(expected):
            assert ids[offsets[i] : offsets[i + 1]].tolist() == encoding.ids


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["bpe32", "bpe512", "bpe4096", "bpe32768", "dnabert2", "6mer"])
@pytest.mark.parametrize("unit", ["A", "C", "G", "T", "CA", "AAT", "GATA", "TTAGG", "TTAGGG", "N", "AN"])
def test_repeats_of_every_length(spec, unit, all_pairs):
    tokenizer, backend = all_pairs[spec]
    texts = [(unit * length)[:length] for length in range(2001)]
    for text, encoding in zip(texts, backend.encode_batch(texts, add_special_tokens=False), strict=True):
        assert ours(tokenizer, text) == encoding.ids, len(text)


def hf_merges(windows, vocab_size: int, max_token_length: int) -> list[tuple[str, ...]]:
    """Merges of Hugging Face's trainer, whose maximum is one more than the longest token it makes."""
    backend = HuggingFace(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=list("ACGT"),
        max_token_length=max_token_length + 1,
        show_progress=False,
    )
    backend.train_from_iterator((row.tobytes().decode() for row in windows), trainer)
    merges = json.loads(backend.to_str())["model"]["merges"]
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]


def our_merges(windows, vocab_size: int, max_token_length: int) -> list[tuple[str, ...]]:
    merges = train_tokenizer(f"bpe{vocab_size}", windows, max_token_length).model["model"]["merges"]
    return [tuple(merge.split(" ")) for merge in merges]


@pytest.mark.parametrize(("vocab_size", "longest"), [(4096, 32), (1024, 8), (600, 500)])
def test_merges_are_hugging_faces(vocab_size, longest, windows):
    rows = windows[:1500]
    assert our_merges(rows, vocab_size, longest) == hf_merges(rows, vocab_size, longest)


@settings(max_examples=30)
@given(st.lists(st.text("AC", min_size=20, max_size=20), min_size=4, max_size=8), st.integers(10, 24))
def test_merges_of_runs_and_repeats(texts, vocab_size):
    """Runs overlap with themselves, and one string can come of two pairs: there the two trainers part."""
    rows = np.array([np.frombuffer(text.encode(), np.uint8) for text in texts])
    ours = our_merges(rows, max(16, vocab_size), 6)
    theirs = hf_merges(rows, max(16, vocab_size), 6)
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if "".join(b) in {"".join(merge) for merge in theirs[:number]}:
            return
        assert a == b


@pytest.mark.slow
def test_a_chromosome_in_pieces_of_a_megabase(shared_data, tmp_path):
    from kleiber.genome.reference import sequences

    path = shared_data / "demo_grch37_chr20" / "chr20.GRCh37.fa.gz"
    if not path.is_file():
        pytest.skip("whole chr20 is not there")
    _, chromosome = next(iter(sequences(path)))
    chromosome = chromosome.upper()
    bases = np.frombuffer(chromosome, np.uint8)
    windows = bases[1_000_000 : 1_000_000 + 14_000_000].reshape(-1, 700)
    windows = windows[(windows != ord("N")).all(1)]
    large = train_tokenizer("bpe32768", windows)
    assert large.vocab_size == 32768
    for tokenizer in (large, load(shared_data / "dnabert2" / "tokenizer.json")):
        tokenizer.save(tmp_path / "t.json")
        backend = HuggingFace.from_file(str(tmp_path / "t.json"))
        for start in range(0, len(chromosome), 1_000_000):
            text = chromosome[start : start + 1_000_000].decode()
            assert ours(tokenizer, text) == theirs(backend, text), start


@pytest.mark.parametrize("k", [1, 3, 6])
def test_overlapping_words(k, windows, tmp_path):
    made = OverlappingKmerTokenizer(k)
    made.save(tmp_path / "t.json")
    tokenizer, backend = load(tmp_path / "t.json"), HuggingFace.from_file(str(tmp_path / "t.json"))
    text = windows[0].tobytes().decode()[:300] + "NACGTTGCANN" + "ACGTAC"
    words = " ".join(text[i : i + k] for i in range(len(text) - k + 1))
    assert ours(tokenizer, text) == theirs(backend, words)
    assert tokenizer.decode(tokenizer.encode(windows[0])) == windows[0].tobytes().decode()
    assert ours(tokenizer, "A" * (k - 1)) == []


def test_the_published_tokenizer_of_dnabert2(shared_data, windows):
    path = shared_data / "dnabert2" / "tokenizer.json"
    tokenizer, backend = load(path), HuggingFace.from_file(str(path))
    assert tokenizer.vocab_size == 4096
    assert tokenizer.max_token_length == 32
    for row in windows[:500]:
        text = row.tobytes().decode()
        assert ours(tokenizer, text) == theirs(backend, text)


def test_the_original_studys_ids(shared_data):
    import gzip

    bpe, words = load(shared_data / "dnabert2" / "tokenizer.json"), OriginalKmerTokenizer()
    assert words.vocab_size == 4106
    n = 0
    for line in gzip.decompress((shared_data / "original_study" / "token_ids.jsonl.gz").read_bytes()).splitlines():
        entry = json.loads(line)
        text = clean_up(entry["sequence"])
        assert [1, *ours(bpe, text), 2] == entry["bpe_ids"]
        assert [1, *ours(words, text), 2] == entry["kmer_ids"]
        n += 1
    assert n == 270


def test_six_mers_are_counted_in_bases(pairs):
    tokenizer, _ = pairs["6mer"]
    assert tokenizer.vocab_size == 5 + 4 + 4096
    assert tokenizer.tokens[:9] == ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A", "C", "G", "T"]
    assert ours(tokenizer, "AAAAAAAAAAAC" + "GT") == [9, 10, 7, 8]
    assert ours(tokenizer, "AAANAAAAAA") == [5, 5, 5, 0, 9]
    assert tokenizer.token_lengths[[0, 1, 5, 9]].tolist() == [1, 0, 1, 6]


def test_transformers_reads_our_file(pairs, tmp_path, windows):
    transformers = pytest.importorskip("transformers")
    tokenizer, _ = pairs["bpe512"]
    tokenizer.save(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    text = windows[0].tobytes().decode()
    assert fast(text)["input_ids"] == [1, *ours(tokenizer, text), 2]


def test_legal_pairs_are_those_that_survive_encoding(pairs):
    """By Hugging Face: a pair is legal when its bases encode to it again."""
    tokenizer, backend = pairs["bpe32"]
    ids = range(5, 32)
    legal = [theirs(backend, tokenizer.tokens[a] + tokenizer.tokens[b]) == [a, b] for a in ids for b in ids]
    assert tokenizer.legal_pairs() == pytest.approx(np.mean(legal), abs=0.005)


def test_no_token_is_longer_than_asked(windows):
    repeats = np.tile(np.frombuffer(b"CA" * 350, np.uint8), (50, 1))
    tokenizer = train_tokenizer("bpe64", np.concatenate([windows[:50], repeats]), max_token_length=4)
    assert tokenizer.max_token_length <= 4 < train_tokenizer("bpe64", repeats).max_token_length


@pytest.mark.parametrize("spec", ["bpe", "bpe4", "0mer", "12mer", "word"])
def test_unknown_specifications(spec, windows):
    with pytest.raises(ConfigError, match="There is no tokenizer"):
        train_tokenizer(spec, windows)


def _damage(document, what):
    vocabulary, merges = document["model"]["vocab"], document["model"]["merges"]
    if what == "swap":
        merges[0], merges[1] = merges[1], merges[0]
    elif what == "hole":
        vocabulary[max(vocabulary, key=vocabulary.get)] += 1
    elif what == "alphabet":
        del vocabulary["A"]
    elif what == "kind":
        document["model"]["type"] = "Unigram"
    elif what == "specials":
        vocabulary["[CLS]"], vocabulary["[SEP]"] = 2, 1
    return document


@pytest.mark.parametrize("what", ["swap", "hole", "alphabet", "kind", "specials"])
def test_a_file_that_disagrees_with_itself(what, pairs, tmp_path):
    path = tmp_path / "tokenizer.json"
    pairs["bpe512"][0].save(path)
    path.write_text(json.dumps(_damage(json.loads(path.read_text()), what)))
    with pytest.raises(DataError):
        load(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": 3}', '{"model": {"type": "BPE", "vocab": {"A": "x"}}}'])
def test_a_file_that_is_no_tokenizer(text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(DataError):
        load(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match="There is no tokenizer file"):
        load(tmp_path / "absent.json")
