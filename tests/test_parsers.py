"""Every parser takes bytes or refuses them in words: what fuzzing found, bombs, and drawn inputs, whole and damaged.

What a parser owes stands in `oracles.parsers`; `scripts/fuzz.py` runs the same checks for as long as one likes.
"""

from __future__ import annotations

import gzip
import json
import pickle
import re
import resource
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest

from kleiber.errors import KleiberError
from oracles.checkpoints import HUB, POSITION, SHAPE, as_pickles, as_state
from oracles.containers import BGZF_END, bgzf_block
from oracles.parsers import PARSERS, STUDY, tokenizer_seeds
from oracles.variants import HEADER, REGULAR, as_bcf

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1 << 20
EXAMPLES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("parsers")


@contextmanager
def memory(megabytes: int):
    """Let no allocation take more than so many megabytes beyond what is in use."""
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * MEGABYTE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def study(old: str, new: str) -> bytes:
    assert old in STUDY.decode()
    return STUDY.decode().replace(old, new).encode()


def tokenizer(number: int, **model) -> bytes:
    document = json.loads(tokenizer_seeds()[number])
    document["model"] |= model.pop("model", {})
    return json.dumps(document | model).encode()


def csv(*rows: str) -> bytes:
    return ("\0" + "\n".join(rows) + "\n").encode()


def vcf(*rows: str) -> bytes:
    return ("\0" + HEADER + "".join("\t".join(row.split()) + "\n" for row in rows)).encode()


def bcf(at: int, value: bytes) -> bytes:
    """Return a BCF of one record with other bytes at one place of it, counted from its lengths."""
    whole = as_bcf(HEADER + REGULAR.splitlines()[0] + "\n")
    at += 9 + int.from_bytes(whole[5:9], "little")
    return b"\0" + whole[:at] + value + whole[at + len(value) :]


def weights_of(value: object) -> bytes:
    return b"\5" + pickle.dumps(value, 2)


def state_with(position: object = None, short: str = "") -> bytes:
    """Return the file of a training run with another position, and one tensor that is too short."""
    import safetensors.torch

    state = safetensors.torch.load(as_state())
    if short:
        state[short] = state[short][:1]
    return safetensors.torch.save(state, {"position": json.dumps(position)})


REFUSED = {
    "study": {
        "a number of 5,000 digits": study("seed = 7", "seed = " + "9" * 5000),
        "nested 100,000 deep": b"a = " + b"[" * 100_000,
        "a key of 32,000 parts": b".".join([b"a"] * 32_000) + b" = 1",
        "two megabytes": STUDY + b"# " + b"x" * (2 * MEGABYTE),
        "one share twice": study("[0.5, 1.0]", "[0.5, 0.5]"),
        "a billion runs": study("seeds = 2\n", "seeds = 1000000000\n"),
        "a factor that is no number": study("[0.5, 1, 2]", "[0.5, 1, nan]"),
        "trials of no tokens": study("tokens = 1e5\n", "tokens = -1\n"),
        "a user that is not there": study('"ref.fa"', '"~nobody-of-this-name/ref.fa"'),
        "a zero byte in a file's name": study('"ref.fa"', '"ref\\u0000.fa"'),
        "a name that no folder can have": study('"tiny"', '"' + "x" * 300 + '"'),
        "a name of two lines": study('"tiny"', '"ti\\nny"'),
    },
    "fasta": {
        "gzip with damage that its checksum never sees": b"\3" + gzip.compress(b">a\nACGT\n" * 9)[:12] + b"\xff" * 40,
        "carriage returns alone": b"\0>chr1\rACGT\r",
        "an index without lengths": b"\0>a\nACGT\n\xff\xffa\tx\n",
        "an index of something else": b"\0>a\nACGT\n\xff\xff\xfe\x00",
        "one name twice": b"\0>a\nA\n>b\nC\n>a\nG\n",
    },
    "bed": {
        "a digit that is no number": "\0" + "20\t1\t²",
        "a number of 5,000 digits": "\0" + "20\t1\t" + "9" * 5000,
        "a region of 5,000 digits": "\1" + "20:1-" + "9" * 5000,
        "a line without a contig": "\0" + "\t1\t2\n",
    },
    "tokenizer": {
        "a k-mer of 40 letters": json.dumps(
            {
                **json.loads(tokenizer_seeds()[1]),
                "model": {
                    "type": "WordLevel",
                    "unk_token": "[UNK]",
                    "vocab": {t: i for i, t in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A" * 40])},
                },
            }
        ).encode(),
        "nested 100,000 deep": b"[" * 100_000,
        "an id of a billion": tokenizer(0, model={"vocab": {"[UNK]": 10**9}}),
        "true for an id": tokenizer_seeds()[0].replace(b'"[CLS]": 1', b'"[CLS]": true'),
        "half a character": tokenizer(0, comment="\ud800"),
        "not a number": tokenizer(0, comment=float("nan")),
        "merges of unknown tokens": tokenizer(0, model={"merges": ["A Z", "G T", "AC GT", "T T", "TT TT"]}),
        "a prefix inside words": tokenizer(0, model={"continuing_subword_prefix": "##"}),
        "dropout": tokenizer(0, model={"dropout": 0.5}),
        "words cut otherwise": tokenizer(2, pre_tokenizer={"type": "Whitespace"}),
        "lower case first": tokenizer(0, normalizer={"type": "Lowercase"}),
    },
    "table": {
        "beyond the largest number": csv("N,D,loss", "1e200,1e200,3"),
        "a product of nothing": csv("N,D,loss", "1e-200,1e-200,3"),
        "D beyond the largest number": csv("N,C,loss", "1e-200,1e200,3"),
        "true for a loss": csv("N,D,loss", "1,2,true"),
        "rows of no number, twice": csv("N,D,loss,x", "1,2,3,nan", "1,2,3,nan"),
        "two columns of one name": csv("N,N,D,loss", "1,2,3,4"),
        "a list for an object": b'\2[["N", 1]]\n',
        "lists for numbers": b'\2{"N": [1], "D": 2, "loss": 3}\n',
        "nested 100,000 deep": b"\2" + b"[" * 100_000,
        "keys that are no text": b"\2[[1, 2]]\n",
        "20,000 columns": csv(",".join(f"c{i}" for i in range(20_000)), ",".join("1" * 20_000)),
        "lists for tokenizers": b'\2{"N": 1, "D": 2, "loss": 3, "tokenizer": [1]}\n',
    },
    "checkpoint": {
        "a header of 2^60 bytes": b"\0" + (1 << 60).to_bytes(8, "little") + b"{}",
        "a shape with unknown keys": b"\2" + json.dumps({**SHAPE, "x": 1}).encode(),
        "a shape that is a list": b"\2[]",
        "a shape of text": b"\2" + json.dumps({**SHAPE, "hidden": "8"}).encode(),
        "a shape of a trillion": b"\2" + json.dumps({**SHAPE, "hidden": 10**12}).encode(),
        "a billion layers": b"\3" + json.dumps({**HUB, "num_hidden_layers": 10**9}).encode(),
        "half a layer": b"\3" + json.dumps({**HUB, "num_hidden_layers": 0.5}).encode(),
        "a dropout of 7": b"\3" + json.dumps({**HUB, "hidden_dropout_prob": 7}).encode(),
        "nested 100,000 deep": b"\3" + b"[" * 100_000,
        "a configuration of pairs": b"\3" + json.dumps(list(HUB.items())).encode(),
        "a number for the weights": weights_of(3),
        "numbers for weights": weights_of({"a": 3}),
        "numbers for names": weights_of({1: 3}),
        "an empty pickle": b"\5",
        "a pickle that is cut": b"\5" + pickle.dumps({"a": [1, 2, 3]}, 2)[:-4],
        "a training run without its position": b"\7" + state_with({"step": 1}),
        "a training run of another shape": b"\7" + state_with(POSITION, "model.bert.embeddings.LayerNorm.bias"),
        "a training run with half of its moments": b"\7"
        + state_with(POSITION, "exp_avg.bert.embeddings.LayerNorm.bias"),
        "half an archive": b"\4" + as_pickles(False)[: len(as_pickles(False)) // 2],
        "half an old pickle": b"\6" + as_pickles(True)[:300],
    },
    "vcf": {
        "a position of 2^64 + 1": vcf("20 18446744073709551617 . A C . PASS . GT 0|1 0|0 0|0"),
        "an END of 30 digits": vcf("20 1 . A <DEL> . PASS END=999999999999999999999999999999 GT 0|1 0|0 0|0"),
        "a block of 4 GB": b"\3" + bgzf_block(b"x" * 60_000, claimed=0xFFFFFFFF) + BGZF_END,
        "a header of 67 MB": b"\1" + b"#" * (64 * MEGABYTE + 1),
        "a BCF header of 4 GB": b"\0BCF\2\2" + b"\xff" * 4,
        "a record of nothing": bcf(0, struct.pack("<II", 0, 0)),
        "a record of 8 GB": bcf(0, b"\xff" * 8),
        "a record without alleles": bcf(8 + 18, b"\0\0"),
        "an ID that goes on beyond": bcf(8 + 24, b"\xf7\x13\xff\xff\xff\x7f"),
        "a call of an allele that is not there": bcf(0, b"")[:-1] + b"\x7f",
    },
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, cases in REFUSED.items() for what in cases])
def test_is_refused_in_words(name, what, folder):
    data = REFUSED[name][what]
    with memory(700):
        assert not PARSERS[name].check(data if isinstance(data, bytes) else data.encode(), folder)


TAKEN = {
    "fasta": {"letters of no alphabet": b"\0>a\nAC\xdf\xffgt\n"},
    "bed": {"a contig that begins with track": b"\0track1\t1\t2\n"},
    "table": {
        "seeds that are names": csv("N,D,loss,seed", "1,2,3,a", "1,2,3,b"),
        "a seed that is missing": csv("N,D,loss,seed", "1,2,3,1", "1,2,3,"),
    },
    "vcf": {
        "a filter of four letters": vcf("20 1 . A C . POOR . GT 0|1 0|0 0|0"),
        "END beside a second allele, a symbolic one": vcf("20 1 . A C,<DEL> . PASS END=5 GT 0|1 2|0 0|0"),
        "a line shorter than the name of the contig before": b"\x10"
        + vcf(f"{'L' * 90} 1 . A C . PASS . GT 0|1 0|0 0|0", "20 1 . A C . PASS . GT 0|1 0|0 0|0")[1:],
    },
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, cases in TAKEN.items() for what in cases])
def test_is_read_as_it_stands(name, what, folder):
    assert PARSERS[name].check(TAKEN[name][what], folder)


@pytest.mark.parametrize("size", ["0M", "0.000001K", "999999999B", "9" * 5000 + "M"])
def test_a_size_that_no_model_has(size):
    from kleiber.model.config import shape_for

    with pytest.raises(KleiberError, match="No model has about"):
        shape_for(size, 4096)


@pytest.mark.parametrize("spec", ["99999999999mer", "1mer", "bpe3", "bpe" + "9" * 5000])
def test_a_tokenizer_that_no_study_can_have(spec):
    from kleiber.study.plan import vocab_size

    with pytest.raises(KleiberError, match="There is no tokenizer"):
        vocab_size(spec)
