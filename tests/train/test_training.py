"""Training is a pure function of its run: resumable to the bit, independent of the order of anything."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kleiber import counter
from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError, DataError, MissingDependency, StateError, Stopped
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.model.weights import load_weights
from kleiber.storage import read_manifest
from kleiber.tokens.train import train_tokenizer
from kleiber.train import loop
from kleiber.train.batches import Batches
from kleiber.train.checkpoint import load_state
from kleiber.train.config import Run, TrainConfig
from kleiber.train.evaluate import Evaluation, clustered_se, score
from kleiber.train.schedule import branch_lr, trunk_lr
from kleiber.train.step import Step
from kleiber.train.trackers import open_tracker

HOLDOUT = ("20:3,900,001-4,000,000",)
TRAIN = TrainConfig(length=32, batch=4, mask_rate=0.2, lr=3e-3, precision="fp32", eval_rows=40, eval_masks=2)
ROW = 30 * 3


@pytest.fixture(scope="module")
def setting(embedded):
    """A corpus, a tokenizer, held-out rows and a tiny run on them."""
    reference, panel = embedded
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    corpus = open_corpus(reference, panel, CorpusConfig("pangenome", ROW, ROW, HOLDOUT), 1)
    heldout = open_corpus(reference, None, CorpusConfig("reference", ROW, ROW, HOLDOUT, "heldout"), 1)
    shape = shape_for("0.01M", tokenizer.vocab_size, architecture="shortconv")
    run = Run("tiny", shape, TRAIN, (1280, 2560), 1, labels={"arm": "a", "size": "0.01M"})
    return run, corpus, tokenizer, Evaluation.of(heldout, tokenizer, TRAIN, 1)


def results(folder):
    weights = {p.parent.name: p.read_bytes() for p in folder.glob("checkpoints/*/model.safetensors")}
    return (folder / "metrics.jsonl").read_bytes(), (folder / "rows.json").read_bytes(), weights


class Killed(BaseException):
    """What stands for SIGKILL at a given step."""


@pytest.mark.parametrize(
    ("architecture", "optimizer", "moments"),
    [
        ("dnabert2", "adamw", [3, 11]),
        *(("shortconv", "muon", moments) for moments in ([3], [9], [11, 14], [17], [1, 2, 16, 18])),
    ],
)
def test_killed_anywhere_it_ends_in_the_same_bits(setting, architecture, optimizer, moments, tmp_path, monkeypatch):
    run, corpus, tokenizer, evaluation = setting
    train = replace(TRAIN, optimizer=optimizer)
    run = replace(run, model=replace(run.model, architecture=architecture), train=train)
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    update, left = loop._Training._update, list(moments)

    def dying(self, batch, lr):
        if left and self.step == left[0]:
            left.pop(0)
            raise Killed
        return update(self, batch, lr)

    monkeypatch.setattr(loop._Training, "_update", dying)
    for _ in range(len(moments)):
        with pytest.raises(Killed):
            loop.train(run, corpus, tokenizer, evaluation, tmp_path / "killed")
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


def test_a_finished_run_is_not_run_again(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    rows = loop.train(run, corpus, tokenizer, evaluation, tmp_path / "run")
    assert [row["n_tokens"] for row in rows] == [1280, 2560]
    assert rows[0]["arm"] == "a"
    assert rows[1]["flops"] == 2 * rows[0]["flops"]
    assert loop.train(run, None, None, None, tmp_path / "run") == rows
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps if s["phase"] == "trunk"] == list(range(1, 17))
    assert steps[-1]["phase"] == "cooldown-2560"


def test_a_damaged_checkpoint_is_an_error(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trunk.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"trunk.safetensors is damaged"):
        loop.train(run, corpus, tokenizer, evaluation, tmp_path / "run")


@pytest.mark.parametrize("moment", [9, 17])
def test_metrics_that_are_longer_or_shorter_than_the_checkpoint_knows(setting, moment, tmp_path, monkeypatch):
    """A line half written is cut off; lines that are gone are not replaced by zeros."""
    run, corpus, tokenizer, evaluation = setting
    folder, whole = tmp_path / "run", tmp_path / "whole"
    loop.train(run, corpus, tokenizer, evaluation, whole)
    update = loop._Training._update

    def dying(self, batch, lr):
        if self.step == moment:
            raise Killed
        return update(self, batch, lr)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(loop._Training, "_update", dying)
        loop.train(run, corpus, tokenizer, evaluation, folder)
    metrics = folder / "metrics.jsonl"
    logged = metrics.read_bytes()
    metrics.write_bytes(logged[:-1])
    with pytest.raises(StateError, match=f"{len(logged) - 1:,} bytes long, and was {len(logged):,}"):
        loop.train(run, corpus, tokenizer, evaluation, folder)
    metrics.write_bytes(logged + b'{"phase": "tru')
    loop.train(run, corpus, tokenizer, evaluation, folder)
    assert results(folder) == results(whole)


def test_a_branch_is_a_run_of_its_own(setting, tmp_path):
    """The smaller budget scores the same whether or not a larger one shares its trunk."""
    run, corpus, tokenizer, evaluation = setting
    both = loop.train(run, corpus, tokenizer, evaluation, tmp_path / "both")
    alone = loop.train(replace(run, tokens=(1280,)), corpus, tokenizer, evaluation, tmp_path / "alone")
    assert both[0]["loss"] == alone[0]["loss"]


def test_batches_are_filled_and_masked_exactly(setting):
    _run, corpus, tokenizer, _ = setting
    train = replace(TRAIN, mask_only=False, batch=64)
    batch = Batches(corpus, tokenizer, train, 1)[2]
    assert batch.inputs.shape == (64, 32)
    assert batch.positions.shape == (64, 6)
    assert (batch.inputs[:, 0] == 1).all()
    assert (batch.inputs[:, -1] == 2).all()
    rows, _ = tokenizer.encode_rows(corpus.rows(np.arange(128, 192), ROW), 30)
    for i in range(64):
        assert len(set(batch.positions[i])) == 6
        np.testing.assert_array_equal(batch.labels[i], rows[i][batch.positions[i] - 1])
        kept = np.setdiff1d(np.arange(1, 31), batch.positions[i])
        np.testing.assert_array_equal(batch.inputs[i][kept], rows[i][kept - 1])
    masked = np.take_along_axis(batch.inputs, batch.positions, 1)
    assert 0.7 < (masked == 4).mean() < 0.9
    assert 0.02 < (masked == batch.labels).mean() < 0.2
    only = Batches(corpus, tokenizer, replace(train, mask_only=True), 1)[2]
    assert (np.take_along_axis(only.inputs, only.positions, 1) == 4).all()


def test_masks_are_the_counters_draws(setting):
    """The first masked position is one bounded draw, which numpy's Philox gives too."""
    _, corpus, tokenizer, _ = setting
    batch = Batches(corpus, tokenizer, TRAIN, 7)[0]
    for row in range(4):
        raw = np.random.Philox(
            key=np.array([7, counter.stream_id("masks")], np.uint64), counter=np.array([0, row, 0, 0], np.uint64)
        ).random_raw()
        assert batch.positions[row, 0] == 1 + (int(raw) * 30 >> 64)  # Lemire's multiplication; 30 rejects nothing here


def test_held_out_rows_are_disjointly_masked_and_never_trained_on(setting, embedded):
    _run, corpus, _tokenizer, evaluation = setting
    assert evaluation.positions.shape == (2, 40, 4)
    for row in range(40):
        assert len(set(evaluation.positions[:, row].ravel())) == 8
    assert all(region.end <= 3_900_000 for region in corpus.territory)
    np.testing.assert_array_equal(evaluation.bases, 3)


def test_an_untrained_model_is_about_uniform(setting):
    run, _, tokenizer, evaluation = setting
    model = network(run.model)
    model.initialise(1)
    result = score(model, evaluation)
    assert result.loss == pytest.approx(np.log(tokenizer.vocab_size), abs=0.1)
    assert result.bits_per_base == pytest.approx(result.loss / np.log(2) / 3)
    assert score(model, evaluation, chunk=7).loss == pytest.approx(result.loss, abs=1e-6)


def test_clustered_errors_by_hand():
    # Three clusters with mean 1 each and one value a token: residual sums 0 give no error.
    assert clustered_se(np.array([2.0, 2.0, 2.0]), np.array([2, 2, 2]), np.arange(3)) == 0
    # Two clusters, sums 1 and 3 over sizes 1 and 1: mean 2, residuals -1 and 1, sqrt(2 / 1 * 2) / 2.
    assert clustered_se(np.array([1.0, 3.0]), np.array([1, 1]), np.arange(2)) == pytest.approx(1.0)


def test_the_schedule():
    branch = Run("x", shape_for("0.01M", 73), TRAIN, (1280,), 1).branches()[0]
    assert (branch.start, branch.end) == (8, 10)
    assert trunk_lr(1.0, 4, 0) == 0.25
    assert trunk_lr(1.0, 4, 100) == 1.0
    rates = [branch_lr("wsd", 1.0, 1, branch, step) for step in (8, 9)]
    assert rates == pytest.approx([1 - (1 / 3) ** 0.5, 1 - (2 / 3) ** 0.5])


@pytest.mark.parametrize(
    "change",
    [
        {"length": 4},
        {"mask_rate": 0.9},
        {"lr": -0.1},
        {"optimizer": "sgd"},
        {"precision": "fp8"},
        {"eval_masks": 9},
        {"cooldown": 0},
    ],
)
def test_settings_that_cannot_be(change):
    with pytest.raises(ConfigError, match=rf"\[train\] {next(iter(change))}"):
        replace(TRAIN, **change)


def test_budgets_that_are_too_close():
    run = Run("x", shape_for("0.01M", 73), TRAIN, (1280, 1300), 1)
    with pytest.raises(ConfigError, match="too small or too close"):
        run.branches()


def test_bf16_learns_too(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    half = replace(run, train=replace(TRAIN, precision="bf16"))
    rows = [
        loop.train(one, corpus, tokenizer, evaluation, tmp_path / one.train.precision)[-1]["loss"]
        for one in (run, half)
    ]
    assert rows[0] == pytest.approx(rows[1], abs=0.02)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_without_a_trunk(schedule, setting, tmp_path):
    """Each budget trains from the first step: the second is the run that has it alone, bit for bit."""
    run, corpus, tokenizer, evaluation = setting
    run = replace(run, train=replace(TRAIN, schedule=schedule, warmup=0.2))
    rates = [branch_lr(schedule, 1.0, 2, run.branches()[0], step) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert all(a > b > 0 for a, b in pairwise(rates[1:]))
    assert rates[-1] < 0.13
    both = loop.train(run, corpus, tokenizer, evaluation, tmp_path / "both")
    alone = loop.train(replace(run, tokens=(2560,)), corpus, tokenizer, evaluation, tmp_path / "alone")
    assert both[1]["loss"] == alone[0]["loss"]
    assert both[0]["loss"] != alone[0]["loss"]


def test_the_cut_of_a_batch_is_rounding(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    losses = {}
    for size in (0, 1, 3):
        cut = replace(run, train=replace(TRAIN, micro_batch=size))
        loop.train(cut, corpus, tokenizer, evaluation, tmp_path / str(size))
        lines = (tmp_path / str(size) / "metrics.jsonl").read_bytes().splitlines()
        losses[size] = [(json.loads(line)["loss"], json.loads(line)["grad_norm"]) for line in lines[:20]]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[3], losses[0], rtol=1e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_stops(number, setting, tmp_path, monkeypatch):
    run, corpus, tokenizer, evaluation = setting
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "whole")
    take = loop._Training._update

    def interrupted(self, batch, lr):
        if self.step == 13:
            os.kill(os.getpid(), number)
        return take(self, batch, lr)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="step 14"):
        patch.setattr(loop._Training, "_update", interrupted)
        loop.train(run, corpus, tokenizer, evaluation, tmp_path / "stopped")
    lines = (tmp_path / "stopped" / "metrics.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["step"] == 14
    saved = [load_state(path) for path in (tmp_path / "stopped").glob("*.safetensors")]
    assert max(position["step"] for _, position in saved) == 14
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_tracker_sees_the_metrics_and_the_clock_writes_apart(setting, tmp_path):
    class Tracker:
        def __init__(self):
            self.lines = []

        def log(self, values, step):
            self.lines.append((step, values))

        def finish(self):
            pass

    run, corpus, tokenizer, evaluation = setting
    tracker = Tracker()
    loop.train(run, corpus, tokenizer, evaluation, tmp_path, tracker=tracker)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines()]
    assert [values for _, values in tracker.lines] == lines
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_bytes().splitlines()]
    assert sum(line["steps"] for line in timing) == len(lines) == run.n_steps
    assert all(0 < line["mfu"] == line["flops_per_second"] / line["gemm_peak"] for line in timing)


def test_tensorboard_files_hold_the_metrics(setting, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, corpus, tokenizer, evaluation = setting
    tracker = open_tracker("tensorboard", tmp_path, {})
    loop.train(run, corpus, tokenizer, evaluation, tmp_path, tracker=tracker)
    tracker.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    trunk = [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines if line["phase"] == "trunk"]
    assert [(event.step, event.value) for event in events.Scalars("trunk/loss")] == trunk


def test_dropout_is_a_function_of_the_row(setting, tmp_path, monkeypatch):
    """A run with dropout resumes to the same bits, whatever else draws from torch's generator."""
    run, corpus, tokenizer, evaluation = setting
    run = replace(run, model=replace(run.model, dropout=0.1), train=replace(TRAIN, dropout=0.1, micro_batch=2))
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "whole")
    plain = replace(run, model=replace(run.model, dropout=0.0))
    loop.train(plain, corpus, tokenizer, evaluation, tmp_path / "plain")
    assert results(tmp_path / "plain")[0] != results(tmp_path / "whole")[0]
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    update, left = loop._Training._update, [7, 12]

    def dying(self, batch, lr):
        torch.rand(3)
        if left and self.step == left[0]:
            left.pop(0)
            raise Killed
        return update(self, batch, lr)

    monkeypatch.setattr(loop._Training, "_update", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            loop.train(run, corpus, tokenizer, evaluation, tmp_path / "killed")
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
def test_a_compiled_network_learns_the_same(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "plain")
    compiled = replace(run, train=replace(TRAIN, compile=True))
    loop.train(compiled, corpus, tokenizer, evaluation, tmp_path / "compiled")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "compiled")
    ]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-4)


@pytest.mark.parametrize("name", ["tensorboard", "no_such_tracker"])
def test_trackers_by_name(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=name):
        open_tracker(name, tmp_path, {})
    known = types.ModuleType("fake_tracker")
    known.init = lambda **given: setattr(known, "given", given)
    monkeypatch.setitem(sys.modules, "fake_tracker", known)
    assert open_tracker("fake_tracker", tmp_path / "run", {"a": 1}) is known
    assert known.given == {"project": "kleiber", "name": "run", "config": {"a": 1}}


@pytest.mark.parametrize(("at", "finished"), [(12, 1), (3, 0)])
def test_a_run_that_diverges_is_recorded(setting, at, finished, tmp_path, monkeypatch):
    """What is finished stays; the manifest says where it ended, and nothing is tried again."""
    run, corpus, tokenizer, evaluation = setting
    take = Step.gradient

    def broken(self, tensors, rows, step):
        loss = take(self, tensors, rows, step)
        return loss * float("nan") if step == at else loss

    monkeypatch.setattr(Step, "gradient", broken)
    rows = loop.train(run, corpus, tokenizer, evaluation, tmp_path)
    assert len(rows) == finished
    assert read_manifest(tmp_path)["diverged"] == at + 1
    assert loop.train(run, corpus, tokenizer, evaluation, tmp_path) == rows


def test_training_goes_on_from_given_weights(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting
    loop.train(run, corpus, tokenizer, evaluation, tmp_path / "first")
    config, weights = load_weights(tmp_path / "first")
    assert config == run.model
    tuned = loop.train(replace(run, init="x"), corpus, tokenizer, evaluation, tmp_path / "second", init=weights)
    cold = json.loads((tmp_path / "first" / "rows.json").read_bytes())["rows"]
    assert tuned[0]["train_loss"] < cold[0]["train_loss"]


@pytest.mark.slow
def test_a_tiny_model_learns_eight_windows_by_heart(setting, tmp_path):
    run, corpus, tokenizer, evaluation = setting

    class Eight:
        fingerprint = "eight"

        def rows(self, index, bases):
            return corpus.rows(index % 8, bases)

    train = replace(TRAIN, batch=8, mask_rate=0.15, lr=2e-3, lr_exponent=0.0, weight_decay=0.0)
    run = replace(run, model=shape_for("0.2M", tokenizer.vocab_size), train=train, tokens=(32 * 8 * 8000,))
    rows = loop.train(run, Eight(), tokenizer, evaluation, tmp_path)
    assert rows[0]["train_loss"] < 0.05
