"""tokenizer from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as HuggingFace

from study.conftest import kleiber


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


def piped(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kleiber", "tokenizer", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True)


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
