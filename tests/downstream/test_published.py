"""A published DNABERT-2 as it is: its config.json, pickled weights with a pooler and a tied decoder, its tokenizer."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from kleiber.cli import app
from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import DNABERT2
from kleiber.tokens.kinds import load
from kleiber.tokens.train import train_tokenizer
from oracles.alleles import ratio_and_distance

CONFIG = {  # the keys of the published 117M model, narrower
    "_name_or_path": "zhihan1996/DNABERT-2-117M",
    "alibi_starting_size": 512,
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "torch_dtype": "float32",
    "type_vocab_size": 2,
}
FASTA = str(files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz")


@pytest.fixture(scope="module")
def published(tmp_path_factory, windows) -> tuple[Path, DNABERT2]:
    folder = tmp_path_factory.mktemp("DNABERT-2-117M")
    tokenizer = train_tokenizer("bpe64", windows[:300])
    model = DNABERT2(ModelConfig(tokenizer.vocab_size, 24, 12, 12, 96, 0.0))
    model.initialise(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    weights |= {"bert.pooler.dense.weight": torch.randn(24, 24), "bert.pooler.dense.bias": torch.zeros(24)}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": tokenizer.vocab_size}))
    tokenizer.save(folder / "tokenizer.json")
    return folder, model.eval()


def run(verb: str, *arguments: object) -> None:
    app([verb, *map(str, arguments)], result_action="return_value")


def test_it_scores_variants(published, embedded, tmp_path, capsys):
    folder, model = published
    genome = embedded[0].bases("20")[:1_700_000].tobytes().decode()
    lines = "".join(
        f"20\t{at + 1}\t.\t{genome[at]}\t{'ACGT'.replace(genome[at], '')[at % 3]}\t.\t.\t.\n"
        for at in range(1_600_000, 1_600_300, 100)
    )
    (tmp_path / "a.vcf").write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + lines)
    run("score", folder, "--reference", FASTA, "--vcf", tmp_path / "a.vcf", "--length", 32, "--distance")
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 3
    tokenizer = load(folder / "tokenizer.json")
    for _, position, ref, alt, *scores in rows:
        wanted = ratio_and_distance(model, tokenizer, genome, int(position) - 1, ref, alt, 30)
        assert [float(score) for score in scores] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_it_is_evaluated(published, capsys):
    """Weights that nobody trained read no order, as DNABERT-2's network cannot, and the verb says so."""
    folder, _ = published
    shared = ("--reference", FASTA, "--regions", "20:1,500,001-2,000,000", "--length", 32, "--rows", 60)
    run("evaluate", folder, *shared)
    lines = capsys.readouterr().out.splitlines()
    for words in ("bits/base", "of the same bases", "by frequencies alone", "rows backwards", "the other strand"):
        assert any(line.strip().startswith(words) for line in lines), words
    assert any("it reads no order that can be told" in line for line in lines)


def test_it_is_probed(published, tmp_path, capsys):
    folder, _ = published
    draw = np.random.default_rng(3)
    for name, n in (("train", 60), ("test", 30)):
        texts = ["".join(draw.choice(list("ACGT"), 40, p=(p, 0.5 - p, 0.5 - p, p))) for p in (0.15, 0.35) * (n // 2)]
        rows = [f"{text},{i % 2}" for i, text in enumerate(texts)]
        (tmp_path / f"{name}.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    run("probe", folder, "--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"]["mcc"]["value"] > 0.5  # GC content is in any embedding
    assert facts["kmers"]["mcc"]["value"] > 0.5
