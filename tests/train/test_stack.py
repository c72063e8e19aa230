"""Runs of one shape trained at once: each as it would be alone, whatever the others do, however often it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError, DataError, Stopped
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.storage import read_manifest
from kleiber.tokens.train import train_tokenizer
from kleiber.train import clock, loop, stack
from kleiber.train.config import Run, TrainConfig
from kleiber.train.devices import Devices
from kleiber.train.evaluate import Evaluation
from kleiber.train.stack import Member, train_stack
from kleiber.train.stackstep import StackStep
from kleiber.train.step import Step

HOLDOUT = ("20:3,900,001-4,000,000",)
TRAIN = TrainConfig(length=32, batch=4, mask_rate=0.2, lr=3e-3, precision="fp32", eval_rows=40, eval_masks=2)
KINDS = [("shortconv", "muon"), ("dnabert2", "adamw")]
SHARED = ("n_params", "n_bases", "n_tokens", "flops", "flops_optimizer", "peak_lr", "seed", "run", "attention", "steps")


@pytest.fixture(scope="module")
def parts(embedded):
    return read(*embedded)


def read(reference, panel):
    """Return what runs read: corpora of two kinds, a tokenizer, held-out rows."""
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    heldout = open_corpus(reference, None, CorpusConfig("reference", 90, 90, HOLDOUT, "heldout"), 1)
    corpora = [
        open_corpus(reference, panel, CorpusConfig(kind, 90, 90, HOLDOUT), 1) for kind in ("pangenome", "variant")
    ]
    return corpora, tokenizer, Evaluation.of(heldout, tokenizer, TRAIN, 1)


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch):
    """Leave out what a clock asks of the machine."""
    monkeypatch.setattr(clock, "gemm_peak", lambda *given: 1e9)


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """A stack that was trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train_stack(members(parts, folder), folder / "stack")
    return folder


def members(parts, folder, architecture="shortconv", optimizer="muon", **changes):
    """Four runs of one shape: other seeds, rates, corpora, and budgets, so that they end one after the other."""
    corpora, tokenizer, evaluation = parts
    model = shape_for("0.01M", tokenizer.vocab_size, architecture=architecture)
    train = replace(TRAIN, optimizer=optimizer, **changes)
    runs = [
        Run("a", model, train, (1280, 2560), 1),
        Run("b", model, train, (1280,), 2),
        Run("c", model, replace(train, lr=1e-3, muon_lr=0.003), (1280, 2560), 3),
        Run("d", model, train, (1920,), 1),
    ]
    return [Member(run, corpora[run.name == "c"], tokenizer, evaluation, folder / "runs" / run.name) for run in runs]


def files(folder):
    """Return all that a stack leaves but what a clock decides."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timing.jsonl"
    }


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("architecture", "optimizer", "precision", "micro", "close"),
    [(*KINDS[0], "fp32", 0, 1e-5), (*KINDS[1], "fp32", 3, 1e-5), (*KINDS[0], "bf16", 3, 1e-2)],
)
def test_each_run_of_a_stack_is_the_run_alone(parts, architecture, optimizer, precision, micro, close, tmp_path):
    """To the tolerance that the documentation states, in losses and scores; to the byte in all that is counted."""
    found = members(parts, tmp_path / "stacked", architecture, optimizer, precision=precision, micro_batch=micro)
    train_stack(found, tmp_path / "stacked" / "stack")
    for one in found:
        alone = tmp_path / one.run.name
        rows = loop.train(one.run, one.corpus, one.tokenizer, one.evaluation, alone, attention="matmul")
        stacked = json.loads((one.folder / "rows.json").read_bytes())["rows"]
        for ours, theirs in zip(stacked, rows, strict=True):
            assert {key: ours[key] for key in SHARED} == {key: theirs[key] for key in SHARED}
            assert ours.pop("stack") == 4
            assert list(ours) == list(theirs)
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=close)
            assert ours["bits_per_base"] == pytest.approx(theirs["bits_per_base"], rel=close)
        for ours, theirs in zip(lines(one.folder), lines(alone), strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=close)
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=10 * close)
            assert {**ours, "loss": 0, "grad_norm": 0} == {**theirs, "loss": 0, "grad_norm": 0}
        layout = {str(path.relative_to(alone)) for path in alone.rglob("*") if path.name != "timing.jsonl"}
        assert {str(path.relative_to(one.folder)) for path in one.folder.rglob("*")} == layout
        kept = read_manifest(one.folder)
        assert kept.pop("stack") == "stack"
        assert kept == read_manifest(alone)


class Killed(BaseException):
    """What stands for SIGKILL."""


@pytest.mark.parametrize(
    ("moments", "saved"), [([3], 0.0), ([11], 1e9), ([9, 21], 1e9), ([1, 8, 15, 17], 0.0), ([4, 16], 1e9)]
)
def test_killed_anywhere_a_stack_ends_in_the_same_bytes(parts, whole, moments, saved, tmp_path, monkeypatch):
    """With a checkpoint after every step, or at the ends of runs alone."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", saved)
    update, left = stack._Stack._update, list(moments)

    def dying(self, batch):
        if left and self.taken == left[0]:
            left.pop(0)
            raise Killed
        update(self, batch)

    monkeypatch.setattr(stack._Stack, "_update", dying)
    for _ in moments:
        with pytest.raises(Killed):
            train_stack(members(parts, tmp_path / "killed"), tmp_path / "killed" / "stack")
    train_stack(members(parts, tmp_path / "killed"), tmp_path / "killed" / "stack")
    assert not left
    assert files(tmp_path / "killed") == files(whole)


@pytest.mark.parametrize("where", ["_finish", "_save", "_complete"])
def test_killed_while_its_runs_end_a_stack_ends_in_the_same_bytes(parts, whole, where, tmp_path, monkeypatch):
    """Before each of the moments at which a run's row, the checkpoint, or a manifest lands."""
    work, met = getattr(stack._Stack, where), []

    def dying(self, *arguments):
        if (self.taken, *arguments) not in met:
            met.append((self.taken, *arguments))
            raise Killed
        work(self, *arguments)

    monkeypatch.setattr(stack._Stack, where, dying)
    while True:
        try:
            train_stack(members(parts, tmp_path), tmp_path / "stack")
        except Killed:
            continue
        break
    assert len(met) == {"_finish": 6, "_save": 3, "_complete": 4}[where]
    assert files(tmp_path) == files(whole)


DYING = """
import os, signal, sys
from pathlib import Path
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.train import stack
from train.test_stack import members, read

finish = stack._Stack._finish

def dying(self, i, branch):
    if self.taken == 22:  # the rows of the first run are on disk, the last ones of the third are not
        if i == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    finish(self, i, branch)

stack._Stack._finish = dying
reference, panel, out = map(Path, sys.argv[1:])
stack.train_stack(members(read(Reference.open(reference), Panel.open(panel)), out), out / "stack")
"""


def test_killed_by_a_signal_between_two_ends_a_stack_ends_in_the_same_bytes(embedded, parts, whole, tmp_path):
    """By SIGKILL, which lets nothing be written any more."""
    folders = [str(store.path) for store in embedded]
    search = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", DYING, *folders, str(tmp_path)], env=search, check=False)
    assert done.returncode == -signal.SIGKILL
    found = members(parts, tmp_path)
    assert [len(json.loads((m.folder / "rows.json").read_bytes())["rows"]) for m in found] == [2, 1, 1, 1]
    assert [read_manifest(m.folder) is not None for m in found] == [False, True, False, True]
    train_stack(found, tmp_path / "stack")
    assert files(tmp_path) == files(whole)


def test_what_a_run_becomes_does_not_depend_on_the_others(parts, whole, tmp_path):
    """Its bytes are the same beside other seeds, rates and data, and where another run diverges."""
    found = members(parts, whole)
    others = members(parts, tmp_path / "others")
    others = [others[0], *(replace(m, run=replace(m.run, seed=77, tokens=(2560,))) for m in others[1:])]
    train_stack(others, tmp_path / "others" / "stack")
    assert files(others[0].folder) == files(found[0].folder)
    assert files(others[1].folder) != files(found[1].folder)


@pytest.mark.parametrize("step", [2, 12, 20])
def test_a_run_that_diverges_does_not_touch_the_others(parts, whole, step, tmp_path, monkeypatch):
    """On its first trunk, in its second one, at its very end; it is recorded as a run alone is."""
    found = members(parts, whole)
    broken = members(parts, tmp_path / "broken")
    take = StackStep.__call__

    def breaking(self, tensors, rates):
        calls.append(0)
        if len(calls) == step:
            self.state["weights"][2] = float("nan")
        return take(self, tensors, rates)

    calls: list[int] = []
    monkeypatch.setattr(StackStep, "__call__", breaking)
    train_stack(broken, tmp_path / "broken" / "stack")
    for i in (0, 1, 3):
        assert files(broken[i].folder) == files(found[i].folder)
    logged = lines(broken[2].folder)
    assert len(logged) == step
    assert read_manifest(broken[2].folder)["diverged"] == logged[-1]["step"]
    assert not np.isfinite(logged[-1]["loss"])
    assert logged[:-1] == lines(found[2].folder)[: step - 1]
    assert len(json.loads((broken[2].folder / "rows.json").read_bytes())["rows"]) == (step > 10)


def test_a_stack_is_stopped_and_finished(parts, whole, tmp_path, monkeypatch):
    update = stack._Stack._update

    def interrupted(self, batch):
        if self.taken == 13:
            monkeypatch.setattr(self, "is_asked", lambda: True)
        update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(stack._Stack, "_update", interrupted)
        with pytest.raises(Stopped, match="stack stopped after 14 steps"):
            train_stack(members(parts, tmp_path / "cut"), tmp_path / "cut" / "stack")
    assert read_manifest(tmp_path / "cut" / "runs" / "b") is not None
    assert read_manifest(tmp_path / "cut" / "runs" / "a") is None
    train_stack(members(parts, tmp_path / "cut"), tmp_path / "cut" / "stack")
    assert files(tmp_path / "cut") == files(whole)
    train_stack(members(parts, tmp_path / "cut"), tmp_path / "cut" / "stack")  # and is not trained again


def test_a_checkpoint_of_another_stack_is_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stack._Stack, "_complete", lambda self: (_ for _ in ()).throw(Killed) if self.taken else None)
    with pytest.raises(Killed):
        train_stack(members(parts, tmp_path), tmp_path / "stack")
    with pytest.raises(DataError, match=r"stack.safetensors is another stack's"):
        train_stack(members(parts, tmp_path / "other")[:3], tmp_path / "stack")
    (tmp_path / "stack" / "stack.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"stack.safetensors is damaged"):
        train_stack(members(parts, tmp_path), tmp_path / "stack")


def test_what_one_step_cannot_train_is_refused(parts, tmp_path):
    for change, says in (
        ({"batch": 8}, r"\[train\] batch differs.\n  4, and 8"),
        ({"schedule": "linear"}, "schedule differs"),
    ):
        found = members(parts, tmp_path)
        found[1] = replace(found[1], run=replace(found[1].run, train=replace(found[1].run.train, **change)))
        with pytest.raises(ConfigError, match=says):
            train_stack(found, tmp_path / "stack")
    found = members(parts, tmp_path)
    found[1] = replace(found[1], run=replace(found[1].run, model=shape_for("0.02M", 73, architecture="shortconv")))
    with pytest.raises(ConfigError, match="shape of the model differs"):
        train_stack(found, tmp_path / "stack")
    dropped = [
        replace(m, run=replace(m.run, model=replace(m.run.model, dropout=0.1))) for m in members(parts, tmp_path)
    ]
    with pytest.raises(ConfigError, match=r"\[train\] dropout = 0.1 cannot be trained at once"):
        train_stack(dropped, tmp_path / "stack")
    with pytest.raises(ConfigError, match=r"\[train\] compile = true cannot be trained at once"):
        train_stack(members(parts, tmp_path, compile=True), tmp_path / "stack")


def test_budgets_without_a_trunk_begin_anew(parts, tmp_path):
    found = members(parts, tmp_path / "stacked", schedule="linear")
    train_stack(found, tmp_path / "stacked" / "stack")
    one = found[0]
    rows = loop.train(one.run, one.corpus, one.tokenizer, one.evaluation, tmp_path / "alone")
    stacked = json.loads((one.folder / "rows.json").read_bytes())["rows"]
    assert [row["loss"] for row in stacked] == pytest.approx([row["loss"] for row in rows], rel=1e-5)


@pytest.mark.parametrize(("architecture", "optimizer"), KINDS)
def test_a_step_of_many_is_a_step_of_each(architecture, optimizer):
    """Weights after ten steps at rates of their own, beside torch's own optimizers; a rate of 0 moves nothing."""
    shape = shape_for("0.01M", 73, architecture=architecture)
    train = replace(TRAIN, optimizer=optimizer, weight_decay=0.1, clip=0.5)
    runs = [Run(str(i), shape, replace(train, lr=1e-3 * (i + 1), muon_lr=0.01 / (i + 1)), (1,), i) for i in range(3)]
    model, devices = network(shape), Devices()
    many = StackStep(model, runs, devices)
    alone = []
    for i, run in enumerate(runs):
        own = network(shape)
        own.initialise(i)
        model.load_state_dict(own.state_dict())
        many.put(i)
        alone.append(Step(own, run, devices))
    assert many.flops == alone[0].optimizers.flops
    generator = torch.Generator().manual_seed(1)
    for step in range(10):
        ids = torch.randint(5, 73, (3, 4, 32), generator=generator)
        positions = torch.rand(3, 4, 30, generator=generator).argsort(-1)[:, :, :6] + 1
        batch = ids, positions, ids.gather(2, positions), torch.full((3, 4), 1 / 24)
        rates = [[peak * (step + 1) / 10 for peak in peaks] for peaks in many.peaks]
        rates[2] = [0.0] * len(rates[2])
        losses, norms = many(batch, torch.tensor(rates).T[:, :, None])
        for i in (0, 1):
            loss, norm = alone[i](tuple(tensor[i] for tensor in batch), rates[i], step)
            torch.testing.assert_close(losses[i], loss, rtol=1e-5, atol=0)
            torch.testing.assert_close(norms[i], norm, rtol=1e-4, atol=0)
    for i in range(3):
        for ours, theirs in zip(many.lend(i).parameters(), alone[i].model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)
