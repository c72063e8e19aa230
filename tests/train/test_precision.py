"""Precision is chosen once, by measurement, and everything after takes it from there."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.model.config import shape_for
from kleiber.tokens.train import train_tokenizer
from kleiber.train import clock, loop
from kleiber.train.checkpoint import saved_precision
from kleiber.train.config import Run, TrainConfig
from kleiber.train.evaluate import Evaluation

HOLDOUT = ("20:3,900,001-4,000,000",)
TRAIN = TrainConfig(length=32, batch=4, mask_rate=0.2, eval_rows=40, eval_masks=2)


@pytest.fixture(scope="module")
def setting(embedded):
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    corpus = open_corpus(embedded[0], None, CorpusConfig("reference", 90, 90, HOLDOUT), 1)
    heldout = open_corpus(embedded[0], None, CorpusConfig("reference", 90, 90, HOLDOUT, "heldout"), 1)
    run = Run("tiny", shape_for("0.01M", tokenizer.vocab_size, architecture="shortconv"), TRAIN, (1280, 2560), 1)
    return run, corpus, tokenizer, Evaluation.of(heldout, tokenizer, TRAIN, 1)


@pytest.mark.parametrize(("times", "expected"), [(1.4, "fp32"), (1.6, "bf16"), (0.3, "fp32")])
def test_bf16_only_where_it_is_worth_it(times, expected, monkeypatch):
    rates = {torch.float32: 1e9, torch.bfloat16: times * 1e9}
    monkeypatch.setattr(clock, "gemm_peak", lambda device, dtype, repeats: rates[dtype])
    assert clock.faster_precision(torch.device("cpu")) == expected


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("here", "there"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_goes_on_in_the_precision_that_it_began_in(here, there, setting, tmp_path, monkeypatch):
    """Begun on a machine that prefers one, finished on a machine that prefers the other: the same bytes."""
    run, *rest = setting
    settled = replace(run, train=replace(TRAIN, precision=here))
    loop.train(settled, *rest, tmp_path / "whole")
    monkeypatch.setattr(loop, "faster_precision", lambda device: here)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    update = loop._Training._update

    def dying(self, *arguments):
        if self.step == 11:
            raise Killed
        return update(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop._Training, "_update", dying)
        loop.train(run, *rest, tmp_path / "moved")
    assert saved_precision(tmp_path / "moved") == here
    monkeypatch.setattr(loop, "faster_precision", lambda device: there)
    rows = loop.train(run, *rest, tmp_path / "moved")
    assert {row["precision"] for row in rows} == {here}
    assert (tmp_path / "moved" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    weights = [(tmp_path / name / "checkpoints/step-20/model.safetensors").read_bytes() for name in ("moved", "whole")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "moved" / "manifest.json").read_bytes())["config"]["train"]["precision"] == here
