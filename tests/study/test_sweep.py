"""A study in shares, by any number of tasks, is the same study; status tells where it stands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from inprocess import kleiber
from kleiber.errors import ConfigError


def states(study, out) -> list[str]:
    result = kleiber("status", study, "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    return [run["state"] for run in json.loads(result.stdout)]


def test_tasks_of_any_number_and_order_make_the_same_study(finished, toy_study, tmp_path):
    """Two of four begin together, with nothing there; a third has its share, and one of two takes what is left."""
    out = tmp_path / "out"
    assert states(toy_study, out) == ["missing"] * 4
    command = [sys.executable, "-m", "kleiber", "sweep", str(toy_study), "--out", str(out), "--task"]
    tasks = [subprocess.Popen([*command, f"{i}/4"], stderr=subprocess.PIPE, text=True) for i in (4, 2)]
    for task in tasks:
        _, errors = task.communicate(timeout=900)
        assert task.returncode == 0, errors
    assert states(toy_study, out) == ["missing", "done", "missing", "done"]
    shown = kleiber("status", toy_study, "--out", out).stdout
    assert "2 done" in shown
    assert "2 missing" in shown
    assert kleiber("sweep", toy_study, "--out", out, "--task", "1/2").returncode == 0
    assert states(toy_study, out) == ["done"] * 4
    assert kleiber("run", toy_study, "--out", out).returncode == 0
    assert (out / "observations.csv").read_bytes() == (finished / "observations.csv").read_bytes()


def test_the_tasks_of_a_slurm_array(monkeypatch):
    from kleiber.cli.study import _task

    assert _task(None) == (0, 1)
    assert _task("3/8") == (2, 8)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "3")
    assert _task(None) == (2, 4)
    for text in ("0/4", "5/4", "x"):
        with pytest.raises(ConfigError, match="is no task"):
            _task(text)
