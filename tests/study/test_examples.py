"""The examples run as they stand: a Slurm array with requeues, a Ray cluster of two nodes, a Snakemake workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from inprocess import kleiber
from study.conftest import TOY
from study.slurm import ask, free_port, missing, slurm

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONWARNINGS": "ignore",
    "RAY_AUTH_MODE": "disabled",
}


@pytest.mark.parametrize("script", ["slurm.sbatch", "ray/two-nodes.sh"])
def test_scripts_parse_and_say_how_they_are_used(script):
    subprocess.run(["bash", "-n", str(EXAMPLES / script)], check=True)
    result = subprocess.run(["bash", str(EXAMPLES / script)], capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode != 0
    assert "usage:" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"Slurm needs {', '.join(missing())}")
def test_an_array_of_slurm_with_requeues(toy_study, finished, tmp_path, monkeypatch):
    """The last task is too long for its minute: Slurm asks it to stop, it saves, queues again and goes on."""
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(TOY.replace("tokens = [4e3, 8e3]", "tokens = [1e6, 2e6]"))
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as folder, slurm(Path(folder)) as environment:
        environment |= {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
        limits = ["--array=1-4", "--cpus-per-task=1", "--time=1", "--signal=B:USR1@30"]
        limits += [f"--output={tmp_path}/%A_%a.log", f"--chdir={tmp_path}"]
        said = ask(["sbatch", *limits, str(EXAMPLES / "slurm.sbatch"), str(study), str(out)], environment)
        assert "Submitted batch job" in said
        wait_for_queue(environment, 560)
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert len(re.findall(r"Stopped: .* runs are left, and are saved", logs)) >= 1, logs
    result = kleiber("status", study, "--out", out)
    assert "4 done" in result.stdout, result.stdout + logs
    undisturbed = tmp_path / "undisturbed"
    for folder in (out, undisturbed):
        result = kleiber("run", study, "--out", folder)
        assert result.returncode == 0, result.stderr
    assert (out / "observations.csv").read_bytes() == (undisturbed / "observations.csv").read_bytes()


def wait_for_queue(environment: dict[str, str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (queue := ask(["squeue", "--noheader"], environment)).strip():
        assert time.monotonic() < end, queue
        time.sleep(2)


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes(toy_study, finished, tmp_path):
    pytest.importorskip("ray")
    environment = {**ENVIRONMENT, "RAY_PORT": str(free_port()), "RAY_USAGE_STATS_ENABLED": "0"}
    command = ["bash", str(EXAMPLES / "ray" / "two-nodes.sh"), str(toy_study), str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "out" / "observations.csv").read_bytes() == (finished / "observations.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_a_snakemake_workflow(toy_study, finished, tmp_path):
    command = ["snakemake", "--snakefile", str(EXAMPLES / "Snakefile"), "--cores", "4", "--directory", str(tmp_path)]
    command += ["--config", f"study={toy_study}", f"out={tmp_path / 'out'}", "tasks=2"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "observations.csv").read_bytes() == (finished / "observations.csv").read_bytes()
