"""One model from the command line: trained, gone on with, scored, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inprocess import kleiber

SMALL = ("--length", 32, "--batch", 4, "--eval-rows", 40, "--eval-masks", 2, "--precision", "fp32", "--threads", 1)
HELD_OUT = "chrA:150,001-250,000"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, windows):
    """A run, the FASTA it read, and its command."""
    folder = tmp_path_factory.mktemp("model")
    text = b"".join(row.tobytes() for row in windows[:400])
    (folder / "genome.fa").write_bytes(b">chrA\n" + text + b"\n")
    result = kleiber("tokenizer", "train", "--kind", "kmer", "--k", 3, "--out", folder / "3mer.json")
    assert result.returncode == 0, result.stderr
    command = ("train", "--reference", folder / "genome.fa", "--tokenizer", folder / "3mer.json", *SMALL)
    command += ("--holdout", HELD_OUT, "--size", "0.01M", "--tokens", 1280, 2560, "--out", folder / "run")
    result = kleiber(*command)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["1,280", "2,560"]
    return folder, command


def test_a_finished_run_is_shown_again_and_another_refused(trained):
    folder, command = trained
    before = (folder / "run" / "rows.json").stat().st_mtime_ns
    assert kleiber(*command).returncode == 0
    assert (folder / "run" / "rows.json").stat().st_mtime_ns == before
    result = kleiber(*command, "--seed", 18)
    assert result.returncode == 2
    assert "holds another run" in result.stderr


def test_evaluate_scores_what_training_scored(trained):
    folder, _ = trained
    arguments = ("--reference", folder / "genome.fa", "--regions", HELD_OUT, "--json")
    result = kleiber("evaluate", folder / "run", *arguments, "--length", 32, "--rows", 40, "--masks", 2)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    row = json.loads((folder / "run" / "rows.json").read_bytes())["rows"][-1]
    for key in ("loss", "bits_per_base", "bits_per_base_se", "accuracy", "bits_per_base_intervals"):
        assert found[key] == pytest.approx(row[key], abs=1e-6), key
    for name, cost in found["orders"].items():
        assert cost["cost"] == pytest.approx(row[f"cost_{name}"], abs=1e-6)
        assert cost["se"] == pytest.approx(row[f"cost_{name}_se"], abs=1e-6)
    assert found["reads_order"] is False  # a few steps teach nothing


def test_words_that_overlap_are_refused(trained, tmp_path):
    folder, command = trained
    words = tmp_path / "words.json"
    made = kleiber("tokenizer", "train", "--kind", "kmer", "--k", 3, "--overlapping", "--out", words)
    assert made.returncode == 0, made.stderr
    for arguments in (
        [words if word == folder / "3mer.json" else word for word in command[:-1]] + [tmp_path / "run"],
        ["evaluate", folder / "run", "--tokenizer", words, "--reference", folder / "genome.fa", "--length", 32],
    ):
        result = kleiber(*arguments)
        assert result.returncode == 2
        assert "Words that overlap hide nothing" in result.stderr
    assert not (tmp_path / "run" / "rows.json").exists()


def test_evaluate_compares_models_in_pairs(trained, tmp_path):
    """Of other seeds and tokenizers, and from the files that training left; a model against itself differs by 0."""
    folder, command = trained
    assert kleiber("tokenizer", "train", "--kind", "kmer", "--k", 2, "--out", folder / "2mer.json").returncode == 0
    command = [folder / "2mer.json" if word == folder / "3mer.json" else word for word in command[:-1]]
    result = kleiber(*command, folder / "pairs", "--seed", 18)
    assert result.returncode == 0, result.stderr
    (folder / "copy").mkdir()
    for name in ("tokenizer.json", "checkpoints/step-20/model.safetensors"):
        (folder / "copy" / Path(name).name).write_bytes((folder / "run" / name).read_bytes())
    models = [folder / name for name in ("run", "pairs", "copy")]
    arguments = ("--reference", folder / "genome.fa", "--regions", HELD_OUT, "--length", 32, "--rows", 40, "--masks", 2)
    result = kleiber("evaluate", *models, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    scores = [found["models"][str(model)]["bits_per_base"] for model in models]
    first, same, _ = found["differences"]
    assert (first["first"], first["second"], first["n_clusters"]) == (str(models[0]), str(models[1]), 2)
    assert first["bits_per_base"] == pytest.approx(scores[0] - scores[1], abs=1e-9)
    assert first["bits_per_base_se"] > 0
    low, high = first["interval"]
    assert low < first["bits_per_base"] < high
    assert (same["bits_per_base"], same["bits_per_base_se"]) == (0, 0)
    shown = kleiber("evaluate", *models[:2], *arguments).stdout
    for words in (
        "paired over 2 clusters of DNA (95 % interval",
        "rows backwards",
        "it reads no order that can be told",
    ):
        assert words in shown


def test_evaluate_scores_haplotypes_strata_and_baselines(trained, embedded):
    folder, _ = trained
    arguments = ("--panel", embedded[1].path, "--regions", "20:3,900,001-4,000,000", "--length", 32, "--rows", 60)
    result = kleiber("evaluate", folder / "run", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert 0 < found["strata"]["variant_sites"]["n_tokens"] < found["n_tokens"]
    assert found["haplotypes"]["n_tokens"] == found["n_tokens"]
    assert found["haplotypes"]["bits_per_base"] == pytest.approx(found["bits_per_base"], abs=0.1)
    assert found["baselines"]["markov-1"]["bits_per_base"] < 2 == found["baselines"]["uniform"]["bits_per_base"]
    shown = kleiber("evaluate", folder / "run", *arguments).stdout
    for words in ("variant sites", "haplotypes", "beside unigram", "accuracy"):
        assert words in shown


def test_the_original_recipe_trains(trained):
    folder, command = trained
    recipe = ("--original", "--schedule", "linear", "--no-mask-only", "--micro-batch", 2, "--dropout", 0.1)
    recipe += ("--architecture", "dnabert2", "--optimizer", "adamw")
    result = kleiber(*command[:-1], folder / "original", *recipe)
    assert result.returncode == 0, result.stderr
    result = kleiber(*command[:-1], folder / "other", "--original")
    assert result.returncode == 2
    assert "where original = true" in result.stderr


def test_init_from(trained):
    folder, command = trained
    start = (*command[:-1], folder / "tuned", "--init-from", folder / "run")
    assert kleiber(*start).returncode == 0
    larger = ["0.05M" if word == "0.01M" else word for word in command[:-1]]
    result = kleiber(*larger, folder / "other", "--init-from", folder / "run")
    assert result.returncode == 2
    assert "the run asks for" in result.stderr


def test_export_and_import(trained, tmp_path):
    pytest.importorskip("transformers")
    folder, _ = trained
    assert kleiber("model", "export", folder / "run", "--out", tmp_path / "hub").returncode == 0
    assert kleiber("model", "import", tmp_path / "hub", "--out", tmp_path / "back").returncode == 0
    arguments = ("--reference", folder / "genome.fa", "--regions", HELD_OUT, "--length", 32)
    scores = [kleiber("evaluate", path, *arguments).stdout for path in (folder / "run", tmp_path / "back")]
    assert scores[0] == scores[1] != ""


def test_info():
    result = kleiber("model", "info", "15M", "--architecture", "dnabert2", "--json")
    assert json.loads(result.stdout)["n_params"] == 14_963_712
    assert kleiber("model", "info", "15X").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("evaluate", "nowhere", "--reference", "x.fa"), "holds no model.safetensors"),
        (("evaluate", "--reference", "x.fa"), "Name one checkpoint to score, or several"),
        (("evaluate", "a", "a", "--reference", "x.fa"), "Name one checkpoint to score, or several"),
        (("train", "--tokenizer", "none.json", "--out", "x", "--holdout", "1"), "There is no tokenizer file none.json"),
        (("model", "export", "nowhere", "--out", "x"), "holds no model.safetensors"),
    ],
)
def test_errors(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kleiber(*arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert not (tmp_path / "x").exists()
