"""tokenizer from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFace

from inprocess import kleiber


@pytest.fixture(scope="module")
def made(windows, tmp_path_factory) -> tuple[Path, Path]:
    """A trained tokenizer, and the FASTA that it was trained on."""
    folder = tmp_path_factory.mktemp("tokenizer")
    fasta = folder / "windows.fa"
    fasta.write_bytes(b"".join(b">w%d\n%s\n" % (i, row.tobytes()) for i, row in enumerate(windows[:300])))
    result = kleiber("tokenizer", "train", fasta, "--vocab-size", "64", "--out", folder / "tokenizer.json")
    assert result.returncode == 0, result.stderr
    assert "64 tokens" in result.stdout
    return folder / "tokenizer.json", fasta


def piped(text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return kleiber("tokenizer", *arguments, given=text)


def test_a_pipe_of_processes_encodes_and_decodes(made, windows):
    text = windows[0].tobytes().decode()
    command = [sys.executable, "-m", "kleiber", "tokenizer"]
    ids = subprocess.run([*command, "encode", made[0]], input=text, capture_output=True, text=True, check=True).stdout
    back = subprocess.run([*command, "decode", made[0]], input=ids, capture_output=True, text=True, check=True).stdout
    assert back == f"{text}\n"


def test_encode_and_decode(made, windows):
    path, fasta = made
    backend = HuggingFace.from_file(str(path))
    texts = [row.tobytes().decode() for row in windows[:3]]
    result = piped("\n".join(texts) + "\n", "encode", path, "--special")
    lines = [[int(i) for i in line.split()] for line in result.stdout.splitlines()]
    assert lines == [backend.encode(text).ids for text in texts]
    assert piped(result.stdout, "decode", path).stdout.splitlines() == texts
    from_fasta = piped("", "encode", path, fasta).stdout.splitlines()
    assert [int(i) for i in from_fasta[0].split()] == lines[0][1:-1]
    shown = piped("ACGTACGT\n", "encode", path, "--tokens").stdout.split()
    assert "".join(shown) == "ACGTACGT"


def test_info(made):
    facts = json.loads(kleiber("tokenizer", "info", *made, "--json").stdout)
    assert facts["vocab_size"] == 64
    assert 2 < facts["bases_per_token"] < 4
    assert "vocab_size" in kleiber("tokenizer", "info", made[0]).stdout


@pytest.mark.parametrize(("kind", "tokens"), [("kmer", "4,105"), ("nucleotide", "9"), ("original-6mer", "4,106")])
def test_kinds_that_need_no_training(kind, tokens, tmp_path):
    result = kleiber("tokenizer", "train", "--kind", kind, "--out", tmp_path / "t.json")
    assert f"{tokens} tokens" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["encode", "absent.json"], "A\n", "There is no tokenizer file"),
        (["train", "--out", "t.json"], "", "none is named"),
        (["train", "absent.fa", "--out", "t.json"], "", "There is no file"),
    ],
)
def test_bad_input(arguments, text, message, tmp_path):
    result = piped(text, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_ids_that_are_none(made):
    result = piped("5 64\n", "decode", made[0])
    assert result.returncode == 2
    assert "'64' is no id" in result.stderr


def test_windows_are_spread_over_all_sequences(tmp_path):
    """Of 10 contigs of 100 windows each, 70 are wanted: evenly from all, and from the rows' beginnings."""
    from kleiber.cli.tokens import _spread

    rng = np.random.default_rng(3)
    with open(tmp_path / "x.fa", "w") as file:
        for contig in range(10):
            text = "".join("ACGT"[contig % 4] * 2 + "".join(rng.choice(list("ACGT"), 8)) for _ in range(100))
            file.write(f">c{contig}\n{text}\n")
    every = _spread((tmp_path / "x.fa",), 10, 2000)
    assert every.shape == (1000, 10)
    some = _spread((tmp_path / "x.fa",), 10, 70)
    assert some.shape == (70, 10)
    first = np.searchsorted(np.arange(1000), [np.flatnonzero((every == row).all(1))[0] for row in some])
    assert (np.diff(first) >= 0).all()
    assert np.bincount(first // 100, minlength=10).min() >= 5
