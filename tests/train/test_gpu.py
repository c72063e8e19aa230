"""What a GPU asks of training, without one: tensors of a device that is none, and recordings that are replayed here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_iter

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import SystemRefusal
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.tokens.train import train_tokenizer
from kleiber.train import ahead, clock, loop
from kleiber.train import step as room
from kleiber.train.batches import Batches
from kleiber.train.checkpoint import restore, snapshot
from kleiber.train.config import Run, TrainConfig
from kleiber.train.devices import Devices
from kleiber.train.evaluate import Evaluation
from kleiber.train.optimizers import Optimizers
from kleiber.train.stack import Member, train_stack
from kleiber.train.stackstep import StackStep
from kleiber.train.step import Step, rows_that_fit

HOLDOUT = ("20:3,900,001-4,000,000",)
TRAIN = TrainConfig(length=32, batch=4, mask_rate=0.2, lr=3e-3, precision="fp32", eval_rows=40, eval_masks=2)
KINDS = [("shortconv", "muon"), ("dnabert2", "adamw")]


@pytest.fixture(scope="module")
def setting(embedded):
    reference, panel = embedded
    tokenizer = train_tokenizer("3mer", np.empty((0, 0), np.uint8))
    corpus = open_corpus(reference, panel, CorpusConfig("pangenome", 90, 90, HOLDOUT), 1)
    heldout = open_corpus(reference, None, CorpusConfig("reference", 90, 90, HOLDOUT, "heldout"), 1)
    shape = shape_for("0.01M", tokenizer.vocab_size, architecture="shortconv")
    run = Run("tiny", shape, TRAIN, (1280, 2560), 1)
    return run, corpus, tokenizer, Evaluation.of(heldout, tokenizer, TRAIN, 1)


def of_kind(run, architecture, optimizer, **changes):
    model = replace(run.model, architecture=architecture)
    return replace(run, model=model, train=replace(run.train, optimizer=optimizer, **changes))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


class Tape(TorchDispatchMode):
    """Records operations and replays them on the same tensors, as a CUDA graph does: numbers of Python are frozen.

    What no graph can hold is an error: to read a number back, or to make a tensor of the host's.
    """

    REFUSED = ("_local_scalar_dense", "lift_fresh", "nonzero", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        assert name not in self.REFUSED, f"a graph cannot hold {name}"
        out = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.operations:
            given = {id(t) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
            for there, new in zip(tree_flatten(out)[0], tree_flatten(function(*args, **kwargs))[0], strict=True):
                is_view = isinstance(new, torch.Tensor) and new.data_ptr() == there.data_ptr()
                if isinstance(new, torch.Tensor) and id(there) not in given and not is_view:
                    there.copy_(new)


def record(function, inputs, undo):
    """Stand for `kleiber.train.step.record`; recording computes here, so that it is taken back, too."""
    function(*inputs)
    undo()
    with Tape() as tape:
        outputs = function(*inputs)
    undo()
    return tape.replay, outputs


@pytest.fixture
def like_a_gpu(monkeypatch):
    """Let a processor record its steps, and read losses back every 8 steps."""
    begin = Devices.__init__

    def recording(self, shard=False):
        begin(self, shard)
        self.records, self.reads_every = True, 8

    monkeypatch.setattr(Devices, "__init__", recording)
    monkeypatch.setattr(room, "record", record)


@pytest.mark.parametrize(("architecture", "optimizer"), KINDS)
@pytest.mark.parametrize(("precision", "micro"), [("fp32", 0), ("bf16", 3)])
def test_a_recorded_run_is_the_run(architecture, optimizer, precision, micro, setting, tmp_path, request):
    """Its rates follow the schedule although the recording froze every number: they are tensors that it reads."""
    run, *rest = setting
    run = of_kind(run, architecture, optimizer, precision=precision, micro_batch=micro)
    loop.train(run, *rest, tmp_path / "plain")
    request.getfixturevalue("like_a_gpu")
    loop.train(run, *rest, tmp_path / "recorded")
    plain, recorded = lines(tmp_path / "plain"), lines(tmp_path / "recorded")
    assert [line["lr"] for line in recorded] == [line["lr"] for line in plain]
    assert len({line["lr"] for line in plain}) >= 8
    close = {"fp32": 1e-4, "bf16": 3e-2}[precision]
    np.testing.assert_allclose([x["loss"] for x in recorded], [x["loss"] for x in plain], rtol=close)
    assert all(
        json.loads(x)["recorded"] == 1 for x in (tmp_path / "recorded" / "timing.jsonl").read_text().splitlines()
    )


def test_a_recorded_run_is_resumed_to_the_same_bits(setting, tmp_path, like_a_gpu, monkeypatch):
    run, *rest = setting
    loop.train(run, *rest, tmp_path / "whole")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    update, left = loop._Training._update, [3, 11, 17]

    class Killed(BaseException):
        pass

    def dying(self, batch, rates):
        if left and self.step == left[0]:
            left.pop(0)
            raise Killed
        return update(self, batch, rates)

    monkeypatch.setattr(loop._Training, "_update", dying)
    for _ in range(3):
        with pytest.raises(Killed):
            loop.train(run, *rest, tmp_path / "killed")
    loop.train(run, *rest, tmp_path / "killed")
    for name in ("metrics.jsonl", "rows.json", "checkpoints/step-20/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_recorded_run_that_diverges_ends_at_that_step(setting, tmp_path, like_a_gpu, monkeypatch):
    """It is seen a few steps later, and those are not logged."""
    run, *rest = setting
    take = Step.__call__

    def broken(self, tensors, rates, step):
        loss, norm = take(self, tensors, rates, step)
        return (loss * float("nan") if step == 11 else loss), norm

    monkeypatch.setattr(Step, "__call__", broken)
    loop.train(run, *rest, tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_bytes())["diverged"] == 12
    assert [line["step"] for line in lines(tmp_path) if line["phase"] != "cooldown-1280"][-1] == 12


@pytest.mark.parametrize(("architecture", "optimizer"), KINDS)
def test_a_recorded_stack_is_the_stack(architecture, optimizer, setting, tmp_path, request):
    """Runs of other budgets and rates, one of which is put back to its trunk while the other goes on."""
    run, corpus, tokenizer, evaluation = setting
    run = of_kind(run, architecture, optimizer)
    runs = run, replace(run, name="other", seed=2, tokens=(1920,), train=replace(run.train, lr=1e-3, muon_lr=0.003))

    def trained(folder):
        found = [Member(one, corpus, tokenizer, evaluation, folder / one.name) for one in runs]
        train_stack(found, folder / "stack")
        return [lines(one.folder) for one in found]

    plain = trained(tmp_path / "plain")
    request.getfixturevalue("like_a_gpu")
    recorded = trained(tmp_path / "recorded")
    for ours, theirs in zip(recorded, plain, strict=True):
        assert [line["lr"] for line in ours] == [line["lr"] for line in theirs]
        np.testing.assert_allclose([x["loss"] for x in ours], [x["loss"] for x in theirs], rtol=1e-5)
    timing = (tmp_path / "recorded" / "stack" / "timing.jsonl").read_text().splitlines()
    assert {(json.loads(line)["recorded"], json.loads(line)["runs"]) for line in timing} == {(1, 2)}


def test_what_draws_or_varies_is_not_recorded(setting, like_a_gpu):
    run, *_ = setting
    original = {"original": True, "schedule": "linear", "mask_only": False, "micro_batch": 2}
    for changed in (
        replace(run, model=replace(run.model, dropout=0.1)),
        of_kind(run, "dnabert2", "adamw", **original),
        replace(run, model=shape_for("60M", 4096), train=replace(TRAIN, batch=1024, length=512)),
    ):
        with torch.device("meta"):
            model = network(changed.model)
        assert not Step(model, changed, Devices()).is_recorded
    assert Step(network(run.model), run, Devices()).is_recorded


@pytest.mark.parametrize("backend", ["matmul", "sdpa"])
@pytest.mark.parametrize("architecture", ["shortconv", "dnabert2"])
def test_a_forward_pass_takes_nothing_from_the_host(architecture, backend):
    """The slopes of ALiBi were copied in every pass, which no CUDA graph can hold."""
    model = network(shape_for("0.01M", 73, architecture=architecture))
    model.initialise(1)
    model.use_attention(backend)
    with Tape() as tape:
        model(torch.full((2, 8), 5), torch.ones(2, 8), torch.zeros((2, 3), dtype=torch.long))
    assert len(tape.operations) > 50
    assert not any("slopes" in name for name in model.state_dict())


@pytest.mark.parametrize(("architecture", "optimizer"), KINDS)
def test_a_restored_state_is_where_its_parameters_are(architecture, optimizer):
    """AdamW's count of steps came back on the host, and every run with two budgets failed on a GPU."""
    shape = shape_for("0.01M", 73, architecture=architecture)
    run = Run("x", shape, replace(TRAIN, optimizer=optimizer), (1,), 1)
    here = network(shape)
    taken = Optimizers(here, run)
    for parameter in here.parameters():
        parameter.grad = torch.zeros_like(parameter)
    taken.step()
    with torch.device("meta"):  # which computes nothing, and takes no tensors of other devices
        there = network(shape)
    optimizers = Optimizers(there, run)
    restore(snapshot(here, taken), there, optimizers)
    for parameter in there.parameters():
        found = optimizers.of(parameter).state[parameter]
        assert found
        assert {tensor.device.type for tensor in found.values()} == {"meta"}


@pytest.mark.parametrize("architecture", ["shortconv", "dnabert2"])
@pytest.mark.parametrize("backend", ["matmul", "sdpa"])
def test_a_forward_pass_stays_on_its_device(architecture, backend):
    model = network(shape_for("0.01M", 73, architecture=architecture)).to("meta")
    model.use_attention(backend)
    ids = torch.zeros((2, 8), dtype=torch.long, device="meta")
    for mask in (None, torch.ones(2, 8, device="meta")):
        logits = model(ids, mask, ids[:, :3])
        assert (logits.device.type, tuple(logits.shape)) == ("meta", (2, 3, 73))
        logits.sum().backward()


@pytest.mark.parametrize(("architecture", "optimizer"), KINDS)
def test_a_step_of_a_stack_stays_on_its_device(architecture, optimizer):
    shape, devices = shape_for("0.01M", 73, architecture=architecture), Devices()
    devices.device = torch.device("meta")
    runs = [Run(str(i), shape, replace(TRAIN, optimizer=optimizer, micro_batch=3), (1,), i) for i in range(2)]
    take = StackStep(network(shape).to("meta"), runs, devices)
    ids = torch.zeros((2, 4, 32), dtype=torch.long)
    losses, norms = take((ids, ids[..., :6], ids[..., :6], torch.zeros(2, 4)), torch.zeros(len(take.peaks[0]), 2, 1))
    assert {losses.device.type, norms.device.type, *(t.device.type for t in take.state.values())} == {"meta"}
    assert losses.shape == norms.shape == (2,)


def test_a_model_is_evaluated_on_the_gpu(monkeypatch, tmp_path, setting):
    from kleiber.cli import model as verbs

    run, _, tokenizer, _ = setting
    loaded, moved = network(run.model), []
    monkeypatch.setattr("kleiber.model.weights.load_model", lambda path: loaded)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loaded, "to", lambda device: moved.append(device) or loaded)
    tokenizer.save(tmp_path / "tokenizer.json")
    verbs.load_with_tokenizer(tmp_path, None)
    assert moved == ["cuda"]


def test_the_peak_is_that_of_a_size_that_fills_the_device(monkeypatch):
    """15 microseconds a launch: at 1,024 an H100 shows a sixth of its rate."""
    monkeypatch.setattr(clock, "_seconds", lambda device, dtype, n, repeats: [2 * n**3 / 720e12 + 15e-6] * repeats)
    assert clock.gemm_peak(torch.device("cuda"), torch.bfloat16) > 0.97 * 720e12


def test_rows_that_fit_are_halved_until_they_do():
    tried = []

    def trial(rows):
        tried.append(rows)
        if rows > 70:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    assert rows_that_fit(1000, trial) == 63
    assert tried == [1000, 500, 250, 125, 63]
    with pytest.raises(torch.OutOfMemoryError):
        rows_that_fit(4, lambda rows: trial(1000))


def test_what_fitted_is_kept(setting, tmp_path, monkeypatch):
    """A run that goes on elsewhere computes the micro-batches that it began with."""
    run, *rest = setting
    sizes = []

    def fit(self, tensors):
        self.rows_at_once = 3

    def noted(self, tensors, rows, step, take=Step.gradient):
        sizes.append(rows.stop - rows.start)
        if step == 17 and len(sizes) < 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return take(self, tensors, rows, step)

    monkeypatch.setattr(Step, "fit", fit)
    monkeypatch.setattr(Step, "gradient", noted)
    with pytest.raises(SystemRefusal, match=r"3 rows of 32 tokens at once.*\[train\] micro_batch = 0"):
        loop.train(run, *rest, tmp_path)
    monkeypatch.setattr(Step, "fit", lambda self, tensors: None)
    loop.train(run, *rest, tmp_path)
    assert set(sizes) == {3, 1}
    assert json.loads((tmp_path / "manifest.json").read_bytes())["config"]["train"]["micro_batch"] == 0


def test_batches_prepared_ahead_are_the_batches(setting):
    """In any order of asking, in chunks of several steps, by several threads."""
    _, corpus, tokenizer, _ = setting
    batches = Batches(corpus, tokenizer, replace(TRAIN, batch=256), 1)
    with ahead.Ahead(batches, slice(64, 192), torch.device("meta")) as found:
        assert found.steps == 4
        for step in (0, 1, 5, 30, 3, 4):
            expected = batches[step]
            arrays = (expected.inputs, expected.positions, expected.labels, expected.weights)
            for tensor, array in zip(found[step].tensors, arrays, strict=True):
                np.testing.assert_array_equal(tensor.numpy(), array[64:192])
            assert found[step].n_bases == expected.n_bases
        assert len(found.chunks) == ahead.CHUNKS


def test_an_error_of_a_thread_that_prepares_is_told(setting):
    _, _, tokenizer, _ = setting
    broken = ahead.Ahead(Batches(None, tokenizer, TRAIN, 1), slice(0, 4), torch.device("meta"))
    with broken as found, pytest.raises(AttributeError):
        found[0]


@pytest.mark.slow
def test_the_benchmark_runs_whole_at_toy_size(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
    command = [sys.executable, str(script), "--toy", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_bytes())
    sections = ["peak", "small", "stacks", "large", "peers", "train", "resume", "scoring"]
    assert list(dict.fromkeys(line["section"] for line in found["lines"])) == sections
    assert not [line for line in found["lines"] if "error" in line]
    results = {line["name"]: line for line in found["lines"] if line["section"] == "resume"}
    assert results["0.5M x 16"]["same_bytes"]
    assert results["fp32 beside the processor"]["largest_difference"] == 0
    assert subprocess.run([*command, "large_ones"], capture_output=True, check=False).returncode == 2
