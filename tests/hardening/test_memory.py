"""Too little memory, and everything else that only the system decides: one message, exit 2, and the others go on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from hardening.test_permissions import FASTA, PANEL
from kleiber.errors import refusal
from kleiber.study.engine import Job, run_jobs
from study import jobs

LIMITED = """
import resource, sys
import kleiber.genome.panel, kleiber.cli.panel, kleiber.study.progress
from pathlib import Path
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = ["kleiber", *sys.argv[2:]]
from kleiber.cli import main
main()
"""


def test_a_run_without_memory_or_space_stops_no_other(tmp_path):
    outcomes = run_jobs(
        [
            Job("python", jobs.exhaust, ("python",), 1.0),
            Job("torch", jobs.exhaust, ("torch",), 1.0),
            Job("full", jobs.no_space, (tmp_path / "run",), 1.0),
            Job("other", jobs.write, (tmp_path / "other", "done"), 1.0),
        ],
        1,
        1,
        lambda share: None,
        lambda outcome: None,
    )
    for outcome in outcomes[:2]:
        assert outcome.error.startswith("SystemRefusal: There is no memory left"), outcome
        assert "fewer workers" in outcome.error
    assert outcomes[2].error.startswith(f"SystemRefusal: There is no space left for {tmp_path / 'run'} ("), outcomes
    assert outcomes[3].error == ""
    assert (tmp_path / "other").read_text() == "done"


def test_a_panel_without_memory(tmp_path):
    command = ["panel", "build", "--reference", str(FASTA), "--panel", str(PANEL), "--out", str(tmp_path / "store")]
    result = subprocess.run([sys.executable, "-c", LIMITED, str(4 << 20), *command], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "There is no memory left" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EMFILE", "EIO", "ENOMEM"])
def test_what_the_system_says_names_the_file_and_a_way_out(number, tmp_path):
    told = str(refusal(OSError(getattr(errno, number), os.strerror(getattr(errno, number)), str(tmp_path / "file"))))
    what, advice = told.split("\n")
    assert str(tmp_path / "file") in what
    assert advice.startswith("  ")
    assert "{" not in told


def test_bugs_keep_their_trace():
    for error in (ValueError("x"), RuntimeError("x"), FileNotFoundError(errno.ENOENT, "x", "y"), OSError("x")):
        assert refusal(error) is None
    assert "run out of memory" in str(refusal(BrokenProcessPool()))
    assert str(Path.cwd()) in str(refusal(OSError(errno.ENOSPC, "No space left on device")))
