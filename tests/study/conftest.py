"""A study small enough to run in seconds, with every stage real."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kleiber.storage import write_atomic

LADDER = """[ladder]
sizes = ["0.01M", "0.02M"]
tokens = [4e3, 8e3]
[train]
length = 32
batch = 8
eval_rows = 60
[fit]
bootstrap = 100
"""
TOY = (
    """
[study]
name = "toy"
seed = 5
[genome]
reference = "embedded"
panel = ["embedded"]
holdout = ["20:3,900,001-4,000,000"]
[arms]
pan-bpe = { sampling = "pangenome", tokenizer = "bpe64" }
ref-3mer = { sampling = "reference", tokenizer = "3mer" }
"""
    + LADDER
)


def kleiber(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-m", "kleiber", *map(str, arguments)]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.fixture(scope="session")
def toy_study(tmp_path_factory) -> Path:
    """The file of the toy study, one for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "toy"
    folder.mkdir(exist_ok=True)
    write_atomic(folder / "study.toml", TOY)
    return folder / "study.toml"


@pytest.fixture(scope="session")
def finished(toy_study) -> Path:
    """The output folder of the toy study, run once without interruption; read it, do not write to it."""
    out = toy_study.parent / "out"
    with open(toy_study.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        result = kleiber("run", toy_study, "--out", out)  # which is over at once where it is done
    assert result.returncode == 0, result.stderr
    return out
