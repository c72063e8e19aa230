"""No result depends on what time it is: a clock that jumps by a year, forwards and backwards, changes no byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hardening.test_permissions import PANEL
from kleiber.genome.panel import Panel
from study.conftest import TOY
from study.conftest import kleiber as typed

YEAR = 365 * 86400
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.mark.parametrize("year", [1980, 2080])
def test_an_input_with_another_date_is_not_read_again(embedded, year, tmp_path):
    reference, _ = embedded
    file, said = shutil.copy(PANEL, tmp_path / "panel.vcf.gz"), []
    first = Panel.build(reference, [file], tmp_path / "store")
    part = tmp_path / "store" / "part-0"
    shutil.copytree(part, tmp_path / ".store.partial" / "part-0")  # a build that was killed behind its first file
    os.utime(file, ns=((year - 1970) * YEAR * 10**9,) * 2)
    before = (tmp_path / ".store.partial" / "part-0" / "manifest.json").read_bytes()
    again = Panel.build(reference, [file], tmp_path / "store", progress=said.append)
    assert (part / "manifest.json").read_bytes() == before
    assert again.fingerprint == first.fingerprint


@pytest.mark.slow
@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (the Debian package faketime)")
def test_a_clock_that_jumps_by_years_changes_nothing(finished, tmp_path):
    """The offset changes every second while a study runs, is killed, and runs on with its inputs dated anew."""
    panel, study, out = tmp_path / "panel.vcf.gz", tmp_path / "study.toml", tmp_path / "out"
    shutil.copy(PANEL, panel)
    study.write_text(TOY.replace('panel = ["embedded"]', 'panel = ["panel.vcf.gz"]'))
    offset, ended = tmp_path / "offset", threading.Event()
    offset.write_text("+0\n")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel's monotonic clock does not jump
        "NO_FAKE_STAT": "1",
    }

    def jump() -> None:
        n = 0
        while not ended.wait(1.0):
            n += 1
            offset.write_text(f"{'+' if n % 2 else '-'}{YEAR}\n")

    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        asked, seen = "import time; print(time.time())", set()
        for _ in range(20):
            answer = subprocess.check_output([sys.executable, "-c", asked], env=environment)
            seen.add(round(float(answer) / YEAR, 1))
            ended.wait(0.2)
        assert len(seen) > 1, "the clock does not jump"
        command = [sys.executable, "-m", "kleiber", "run", str(study), "--out", str(out)]
        first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
        while not list(out.glob("runs/*/begun")) and first.poll() is None:
            ended.wait(0.1)
        os.killpg(first.pid, 9)
        first.wait()
        os.utime(panel, ns=(60 * YEAR * 10**9,) * 2)
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        ended.set()
        jumping.join()
    assert result.returncode == 0, result.stderr
    assert (out / "observations.csv").read_bytes() == (finished / "observations.csv").read_bytes()
    states = [run["state"] for run in json.loads(typed("status", study, "--out", out, "--json").stdout)]
    assert states == ["done"] * 4
    os.utime(panel, ns=(0, 0))
    assert typed("run", study, "--out", out).returncode == 0
