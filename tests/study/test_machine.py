"""What is fastest is measured for studies that are worth it, taken by a margin, and forced by one key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kleiber.study import machine as room
from kleiber.study.config import parse_study
from kleiber.study.machine import choose, machine
from kleiber.study.plan import plan
from study.conftest import TOY


@pytest.fixture
def toy():
    return parse_study(TOY, "study.toml", Path("."))


@pytest.fixture
def clocked(monkeypatch):
    """Let the clock say what a test wants: operations a second of one worker by (threads, attention)."""
    rates: dict[tuple[int, str], float] = {}
    monkeypatch.setattr(room, "SMALL", 0)
    monkeypatch.setattr(room.os, "sched_getaffinity", lambda pid: range(4))
    monkeypatch.setattr(room, "_n_gpus", lambda: 0)
    monkeypatch.setattr(
        room, "measure_rates", lambda runs, taken: [rates[taken["threads"], taken["attention"]]] * len(runs)
    )
    return rates


def test_a_short_study_is_not_measured(toy):
    choices = choose(toy, plan(toy))
    assert choices["measured"] == {}
    assert (choices["threads"], choices["attention"]) == (1, "matmul")


def test_the_fastest_is_taken_by_a_margin(toy, clocked):
    clocked.update({(1, "matmul"): 100, (1, "sdpa"): 104, (2, "matmul"): 230, (4, "matmul"): 300})
    choices = choose(toy, plan(toy))
    assert choices["attention"] == "matmul"
    assert (choices["workers"], choices["threads"]) == (2, 2)
    assert len(choices["measured"]) == 4
    clocked.update({(1, "sdpa"): 120, (2, "sdpa"): 200, (4, "sdpa"): 300})
    choices = choose(toy, plan(toy))
    assert (choices["attention"], choices["workers"], choices["threads"]) == ("sdpa", 4, 1)


def test_attention_can_be_forced(toy, clocked):
    clocked.update({(1, "sdpa"): 10, (2, "sdpa"): 1, (4, "sdpa"): 1})
    forced = replace(toy, train=replace(toy.train, attention="sdpa"))
    assert choose(forced, plan(forced))["attention"] == "sdpa"


def test_gpus_get_a_run_each(toy, clocked, monkeypatch):
    monkeypatch.setattr(room, "_n_gpus", lambda: 2)
    clocked.update({(2, "matmul"): 1, (2, "sdpa"): 2, (2, "flex"): 9})
    long = replace(toy, train=replace(toy.train, length=1024, batch=1))
    long = replace(long, ladder=replace(toy.ladder, tokens=(1e5,)))
    assert [choose(s, plan(s))["attention"] for s in (toy, long)] == ["sdpa", "flex"]
    assert choose(toy, plan(toy))["workers"] == 2


def test_compiling_is_chosen_by_what_it_saves(toy, clocked, monkeypatch):
    """1 s of 10 is saved: a run of 900 s and more wins the 90 that compiling takes."""
    monkeypatch.setattr(room, "_n_gpus", lambda: 1)
    monkeypatch.setattr(
        room, "measure_rates", lambda runs, taken: [10.0 / (9 if runs[0][0].run.train.compile else 10)] * len(runs)
    )
    choices = choose(toy, plan(toy))
    assert choices["compiled_from"] == pytest.approx(900)
    run = plan(toy).runs[0].run
    assert [room.settle(run, {**choices, "compiled_from": n}).train.compile for n in (None, 1, 1e30)] == [
        False, True, False,
    ]  # fmt: skip
    monkeypatch.setattr(room, "measure_rates", lambda runs, taken: [1.0] * len(runs))
    assert choose(toy, plan(toy))["compiled_from"] is None


def test_gpus_are_counted_as_cuda_does(monkeypatch):
    for text, n in (("", 0), ("-1", 0), ("0", 1), ("0,3", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert room._n_gpus() == n


def test_choices_are_kept(toy, tmp_path):
    made = machine(toy, plan(toy), tmp_path)
    (tmp_path / "machine.json").write_text(json.dumps({**made, "threads": 7}))
    assert machine(toy, plan(toy), tmp_path)["threads"] == 7


def test_precision_is_measured_in_every_study_and_never_again(toy, tmp_path, monkeypatch):
    """However short; and another machine takes what the first one wrote down."""
    toy = replace(toy, train=replace(toy.train, precision="auto"))
    for here, there in (("bf16", "fp32"), ("fp32", "bf16")):
        out = tmp_path / here
        monkeypatch.setattr(room, "_precision", lambda here=here: here)
        assert machine(toy, plan(toy), out)["precision"] == here
        monkeypatch.setattr(room, "_precision", lambda there=there: there)
        choices = machine(toy, plan(toy), out)
        assert choices["precision"] == here
        assert {run.run.train.precision for run in room.settled(plan(toy), choices).runs} == {here}
    forced = replace(toy, train=replace(toy.train, precision="fp32"))
    monkeypatch.setattr(room, "_precision", lambda: "bf16")
    assert choose(forced, plan(forced))["precision"] == "fp32"


@pytest.mark.slow
def test_the_clock_is_real(toy, monkeypatch):
    monkeypatch.setattr(room, "SMALL", 0)
    choices = choose(toy, plan(toy))
    assert all(rate > 1e6 for rate in choices["measured"].values())
    assert len(choices["measured"]) >= 2
