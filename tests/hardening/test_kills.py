"""Fifty kills over a whole study, the same bytes in the end: `scripts/kill_study.py` on the toy study."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_fifty_kills_end_in_the_same_bytes(finished, toy_study, tmp_path):
    command = [sys.executable, ROOT / "scripts" / "kill_study.py", toy_study, finished, tmp_path / "out"]
    result = subprocess.run([*command, "--kills", "50"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    hits = {stage: int(n) for n, stage in re.findall(r"(\d+) in (\w+)", result.stdout.splitlines()[-2])}
    assert sum(hits.values()) == 50
    assert all(hits[stage] > 0 for stage in ("genome", "tokenizers", "corpora", "models", "analysis", "report")), hits
    assert re.search(r"\d\d+ files are the same, 0 are not", result.stdout)
