"""Which runs are trained at once follows from the study; a stack is one piece of work, killed or not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inprocess import kleiber
from kleiber.errors import ConfigError, StateError
from kleiber.model.config import shape_for
from kleiber.study import clock, training
from kleiber.study.config import Unit, load_study, parse_study
from kleiber.study.engine import POOL, Engine
from kleiber.study.machine import settled
from kleiber.study.plan import _stacked, plan
from kleiber.study.progress import Narrator
from kleiber.study.rates import measured_rate
from kleiber.study.run import sweep_study
from kleiber.study.stacks import ladder_stacks, trial_stacks
from kleiber.study.status import status
from study.conftest import TOY

STACKED = TOY.replace("bpe64", "bpe73").replace('sizes = ["0.01M", "0.02M"]', 'sizes = ["0.01M"]\nseeds = 2\nstack = 4')


def parse(text: str):
    return parse_study(text, "study.toml", Path("."))


@given(st.lists(st.sampled_from(["0.01M", "0.02M", "0.05M"]), max_size=40), st.integers(1, 12))
def test_runs_fill_few_stacks_of_one_shape_evenly(sizes, most):
    base = plan(parse(TOY)).runs[0]
    shapes = {size: shape_for(size, 73) for size in set(sizes)}
    runs = [replace(base, run=replace(base.run, model=shapes[size])) for size in sizes]
    found = _stacked(runs, most)
    assert [run.run for run in found] == [run.run for run in runs]
    stacks: dict[int, list[int]] = {}
    for i, run in enumerate(found):
        stacks.setdefault(run.stack, []).append(i)
        assert run.stacked == sum(other.stack == run.stack for other in found) <= most
    assert sorted(stacks) == list(range(len(stacks)))
    assert [stacks[k][0] for k in sorted(stacks)] == sorted(members[0] for members in stacks.values())
    for members in stacks.values():
        assert len({sizes[i] for i in members}) == 1
    for size, n in Counter(sizes).items():
        lengths = [len(members) for members in stacks.values() if sizes[members[0]] == size]
        assert len(lengths) == -(-n // most)
        assert max(lengths) - min(lengths) <= 1


def test_arms_of_one_vocabulary_are_trained_at_once():
    """Seeds and arms of one size; another size, or a vocabulary of another size, is another stack."""
    study = parse(STACKED.replace('sizes = ["0.01M"]', 'sizes = ["0.01M", "0.02M"]'))
    assert [run.stack for run in plan(study).runs] == [0, 0, 1, 1, 0, 0, 1, 1]
    other = parse(STACKED.replace("bpe73", "bpe64"))
    assert [run.stack for run in plan(other).runs] == [0, 0, 1, 1]


def test_stacks_are_written_down_and_read_from_then_on(tmp_path):
    study = parse(STACKED + '[tune]\nsizes = ["0.01M", "0.02M", "0.05M"]\nfactors = [0.5, 1.0, 2.0]\n')
    stacks = ladder_stacks(study, tmp_path)
    assert stacks == [tuple(study.units())]
    assert [len(stack) for stack in trial_stacks(study, tmp_path)] == [3, 3, 3]
    kept = json.loads((tmp_path / "stacks.json").read_bytes())
    kept["ladder"] = [kept["ladder"][0][:1], kept["ladder"][0][1:]]  # as another version might have packed them
    (tmp_path / "stacks.json").write_text(json.dumps(kept))
    assert ladder_stacks(study, tmp_path) == [(study.units()[0],), tuple(study.units()[1:])]
    kept["ladder"].pop()
    (tmp_path / "stacks.json").write_text(json.dumps(kept))
    with pytest.raises(StateError, match=r"stacks.json lists other runs than the study has \(ladder\)"):
        ladder_stacks(study, tmp_path)


def test_a_study_that_stacks_nothing_is_as_before(finished, toy_study, tmp_path):
    study = parse(toy_study.read_text())
    assert ladder_stacks(study, tmp_path) == [(unit,) for unit in study.units()]
    assert not list(tmp_path.iterdir())
    assert not (finished / "stacks.json").exists()
    assert "stack" not in pl.read_csv(finished / "observations.csv").columns


def test_a_task_takes_whole_stacks(tmp_path, monkeypatch):
    study = parse(STACKED.replace('sizes = ["0.01M"]', 'sizes = ["0.01M", "0.02M", "0.05M"]'))
    taken: list[tuple[Unit, ...]] = []
    monkeypatch.setattr(training, "train_stacks", lambda study, out, stacks, *rest: taken.extend(stacks))
    training.train_all(study, tmp_path, Narrator(), POOL, (1, 2))
    assert [(len(stack), stack[0].size) for stack in taken] == [(4, "0.02M")]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("dropout = 0.1", r"\[train\] dropout = 0.1 can only be trained alone"),
        ("compile = true", r"\[train\] compile = true can"),
        ('attention = "sdpa"', r"\[train\] attention = sdpa can"),
    ],
)
def test_what_can_only_be_trained_alone_is_refused(key, says):
    with pytest.raises(ConfigError, match=rf"(?s)\[ladder\] stack of study.toml = 4 trains runs at once.*{says}"):
        parse(STACKED.replace("batch = 8", f"batch = 8\n{key}"))
    parse(STACKED.replace("batch = 8", f"batch = 8\n{key}").replace("stack = 4", "stack = 1"))
    for n in (0, 1025):
        with pytest.raises(ConfigError, match=f"must be 1 to 1,024 runs, not {n}"):
            parse(STACKED.replace("stack = 4", f"stack = {n}"))


def test_a_stack_is_of_one_device(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STACKED)
    with pytest.raises(ConfigError, match=r"stack = 4 trains runs at once on one device, and --devices is 2"):
        sweep_study(path, tmp_path / "out", (0, 1), Engine(devices=2))


def test_a_plan_shows_stacks_and_what_they_cost(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STACKED)
    shown = kleiber("plan", path, "--no-measure", "--gpu", "h100")
    assert "stacks of runs that are trained at once: 1 x 4 of 0.01M" in shown.stdout, shown.stderr
    assert "at the rates of stacks there" in shown.stdout
    facts = json.loads(kleiber("plan", path, "--no-measure", "--gpu", "h100", "--json").stdout)
    assert facts["stacks"] == [{"size": "0.01M", "runs": 4}]
    assert facts["hours_gpu_stacked"] < facts["hours_gpu"]


def test_rates_of_stacks():
    """What was measured is met; more runs at once are never slower than one after the other."""

    def rate(size: str, rows: int, n: int) -> float:
        return measured_rate("h100", shape_for(size, 4096), 128 * rows, n)

    a_token = sum(shape_for("0.2M", 4096).flops(1, 128, 19).values()) / 128
    assert rate("0.2M", 16, 32) == pytest.approx(10.5e6 * a_token)
    for size in ("0.05M", "0.2M", "0.5M", "2M", "5M", "117M"):
        for rows in (16, 64, 1024):
            rates = [rate(size, rows, n) for n in (1, 2, 8, 32, 256)]
            assert rates == sorted(rates)
    assert rate("117M", 1024, 8) == rate("117M", 1024, 1)


def test_hours_here_are_those_of_runs_as_they_are_trained(monkeypatch):
    """At the rate of their stack, or compiled where that was chosen, with the time that compiling takes."""
    asked = []

    def measured(pairs, choices):
        asked.extend((run.stacked, run.run.train.compile) for run, _ in pairs)
        return [1e6 * run.stacked * (4 if run.run.train.compile else 1) for run, _ in pairs]

    monkeypatch.setattr(clock, "measure_rates", measured)
    choices = {"workers": 1, "precision": "fp32", "compiled_from": None}

    def seconds(text: str, **changes: object) -> float:
        study, chosen = parse(text), {**choices, **changes}
        return clock.predict_seconds(study, settled(plan(study), chosen), chosen)

    alone, flops = STACKED.replace("stack = 4", "stack = 1"), plan(parse(STACKED)).flops
    begin, each = clock.STAGES
    rest = begin + 2 * each
    assert seconds(alone) == pytest.approx(flops / 1e6 + rest)
    assert seconds(alone, compiled_from=0) == pytest.approx(flops / 4e6 + 4 * clock.COMPILING + rest)
    assert seconds(STACKED, compiled_from=0) == pytest.approx(flops / 4e6 + rest)
    assert set(asked) == {(1, False), (1, True), (4, False)}
    assert seconds(alone, workers=4) == pytest.approx(flops / 4e6 + rest)
    assert seconds(STACKED, workers=4) == pytest.approx(flops / 4e6 + rest)  # there is one stack


DYING = """
import json, os, signal, sys
from pathlib import Path
from kleiber.study.config import load_study
from kleiber.study.stacks import ladder_stacks
from kleiber.study.training import train_units_at_once
from kleiber.train import stack

out, dies, finish = Path(sys.argv[1]), sys.argv[2] == "dies", stack._Stack._finish

def dying(self, i, branch):
    if dies and i == 2:  # rows of two runs are on disk, those of two are not
        os.kill(os.getpid(), signal.SIGKILL)
    finish(self, i, branch)

stack._Stack._finish = dying
study, choices = load_study(out / "study.toml"), json.loads((out / "machine.json").read_bytes())
train_units_at_once(study, out, ladder_stacks(study, out)[0], choices, lambda share: None)
"""


@pytest.mark.slow
def test_a_stack_that_is_killed_between_two_ends_is_the_same_study(tmp_path):
    """By SIGKILL: the same bytes in every file of every run, as the engine made them and as called by hand."""
    path, whole, killed = tmp_path / "study.toml", tmp_path / "whole", tmp_path / "killed"
    path.write_text(STACKED)
    called = [sys.executable, "-c", DYING, str(killed)]
    assert kleiber("sweep", path, "--out", whole).returncode == 0
    shutil.copytree(whole, killed, ignore=shutil.ignore_patterns("runs", "stacks"))
    done = subprocess.run([*called, "dies"], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(list(killed.glob("runs/*/rows.json"))) == 2
    assert not list(killed.glob("runs/*/manifest.json"))
    states = {run.state for run in status(load_study(path), killed)}
    assert states <= {"stopped", "missing"}
    subprocess.run([*called, "lives"], check=True)

    def files(out: Path) -> dict[str, bytes]:
        found = [f for name in ("runs", "stacks") for f in (out / name).rglob("*") if f.is_file()]
        return {
            str(f.relative_to(out)): f.read_bytes() for f in found if f.name != "timing.jsonl" and f.suffix != ".lock"
        }

    assert files(killed) == files(whole)
    assert len(list(whole.glob("runs/*/manifest.json"))) == 4


@pytest.mark.slow
def test_the_clock_measures_stacks(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(STACKED)
    facts = json.loads(kleiber("plan", path, "--json").stdout)
    assert 0 < facts["hours_here"] < 1
