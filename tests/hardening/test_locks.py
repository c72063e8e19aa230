"""Two processes on one output: the second is told whose it is; a killed one holds nothing any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardening.test_permissions import FASTA, PANEL, run_each
from kleiber.storage import is_locked, locked

HOLDER = """
import subprocess, sys, time
from contextlib import ExitStack
from kleiber.storage import locked
with ExitStack() as stack:
    for path in sys.argv[1:]:
        stack.enter_context(locked(path))
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that writes the study and the store of a test, and its child."""
    paths = [str(tmp_path / name) for name in ("study", "store")]
    with subprocess.Popen([sys.executable, "-c", HOLDER, *paths], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())
        process.kill()


def test_the_second_is_told_and_a_killed_one_is_forgotten(holder, toy_study, tmp_path):
    process, child = holder
    told = run_each(
        [],
        ["run", toy_study, "--out", tmp_path / "study"],
        ["run", toy_study, "--out", tmp_path / "elsewhere" / ".." / "study"],
        ["panel", "build", "--reference", FASTA, "--panel", PANEL, "--out", tmp_path / "store"],
    )
    for (code, message), name in zip(told, ("study", "study", "store"), strict=True):
        assert code == 2, message
        assert f"{tmp_path / name} is being written by another process (process {process.pid})" in message
        assert "Traceback" not in message
    assert is_locked(tmp_path / "study")
    process.kill()
    process.wait()
    os.kill(child, 0)  # what it started lives on, and holds nothing
    assert not is_locked(tmp_path / "study")
    with locked(tmp_path / "study"), locked(tmp_path / "store"):
        pass
    os.kill(child, signal.SIGKILL)


def test_a_lock_is_one_for_all_names_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    with locked(Path("../link")):
        assert all(is_locked(name) for name in (tmp_path / "real", Path("."), Path("../real/../link")))
