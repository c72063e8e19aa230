"""The doctor says what is there, and tells apart what stands in a study's way."""

from __future__ import annotations

import json
import os
from importlib import metadata

import pytest

from inprocess import kleiber
from kleiber.study import doctor as room
from kleiber.study.doctor import advice, examine

SOUND = {
    "packages": {"numpy": "2.4"},
    "extras": {"ray": {"ray": "2.60"}},
    "gpus": [],
    "cores": 8,
    "memory_gb": 32.0,
    "disk_gb": 100.0,
    "bf16": True,
    "products": {"fp32": 1e11, "bf16": 2e11},
    "precision": "bf16",
}


def test_facts_are_those_of_this_machine():
    facts = examine(measure=False)
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["packages"]["numpy"] == metadata.version("numpy")
    assert facts["memory_gb"] > 0.5
    assert {"hub", "ray", "downstream", "tracking"} <= set(facts["extras"])
    assert not {"dev", "docs"} & set(facts["extras"])
    assert (facts["products"], facts["precision"]) == ({}, None)


def test_the_command_prints_them():
    shown = kleiber("doctor", "--no-measure", "--json")
    assert shown.returncode == 0, shown.stderr
    facts = json.loads(shown.stdout)
    assert facts["kleiber"] == metadata.version("kleiber")
    assert facts["advice"] == advice(facts)


def test_the_faster_precision_is_measured(monkeypatch):
    from kleiber.train import clock

    monkeypatch.setattr(
        clock, "gemm_peak", lambda device, dtype, repeats: {"float32": 4e9, "bfloat16": 9e9}[str(dtype)[6:]]
    )
    facts = examine()
    assert facts["products"] == {"fp32": 4e9, "bf16": 9e9}
    assert facts["precision"] == "bf16"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "8 runs train side by side"),
        ({}, "2 times the rate of fp32, and the processor has it."),
        ({}, "1e15 operations takes 1.4 hours at least"),
        ({"gpus": [{"name": "H100", "memory_gb": 80.0}]}, "Runs train on 1 x H100, one on each."),
        ({"memory_gb": 4.0}, "taskset -c 0-1 kleiber run"),
        ({"disk_gb": 0.7}, "Only 0.7 GB are free"),
        ({"packages": {"torch": None}}, "torch is missing"),
        ({"extras": {"ray": {"ray": None}, "hub": {"transformers": None}}}, "pip install 'kleiber[ray,hub]'"),
    ],
)
def test_advice(change, told):
    assert any(told in line for line in advice({**SOUND, **change})), advice({**SOUND, **change})


def test_a_sound_machine_gets_no_warning():
    assert len(advice(SOUND)) == 3


def test_a_container_has_the_memory_that_it_is_given(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("2000000000\n")
    monkeypatch.setattr(room, "LIMITS", (tmp_path / "memory.max", tmp_path / "absent"))
    assert room._memory() == 2e9
    (tmp_path / "memory.max").write_text("max\n")
    assert room._memory() > 0
