"""The same study from every engine: bytes do not depend on what runs them, nor on what dies on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pytest

from inprocess import kleiber
from study.conftest import TOY
from study.conftest import kleiber as typed

os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray asks for a token where an earlier run of it has left one in the home
LONGER = TOY.replace("tokens = [4e3, 8e3]", "tokens = [1e5, 2e5]")


def table(out: Path) -> bytes:
    return (out / "observations.csv").read_bytes()


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "kleiber", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until(done, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def steps(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in out.glob("runs/*/metrics.jsonl"))


@pytest.fixture(scope="module")
def longer(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("longer") / "study.toml"
    path.write_text(LONGER)
    return path


@pytest.fixture(scope="module")
def undisturbed(longer) -> bytes:
    """What the longer study gives when nothing happens to it."""
    out = longer.parent / "undisturbed"
    result = typed("run", longer, "--out", out)
    assert result.returncode == 0, result.stderr
    return table(out)


def test_a_sweep_that_is_asked_to_stop_saves_and_exits_75(longer, tmp_path):
    out = tmp_path / "out"
    sweep = start("sweep", longer, "--out", out)
    wait_until(lambda: steps(out) > 20)
    os.kill(sweep.pid, signal.SIGUSR1)
    _, errors = sweep.communicate(timeout=900)
    assert sweep.returncode == 75, errors
    assert "the same command goes on" in errors
    states = [run["state"] for run in json.loads(kleiber("status", longer, "--out", out, "--json").stdout)]
    assert "stopped" in states
    assert "failed" not in states
    assert list(out.glob("runs/*/*.safetensors"))


def workers_of(driver: subprocess.Popen[str]) -> list[int]:
    return [pid for pid in children(driver.pid) if "spawn_main" in command_of(pid)]


def test_killed_again_and_again_and_with_one_worker_it_ends_in_the_same_bytes(toy_study, finished, tmp_path):
    """All of it while it begins, its driver while it trains, and a worker; `hardening.test_kills` kills everywhere.

    machine.json decides the workers: the table is the same with one.
    """
    out = tmp_path / "out"
    out.mkdir()
    choices = json.loads((finished / "machine.json").read_bytes())
    (out / "machine.json").write_text(json.dumps({**choices, "workers": 1}))
    driver = start("run", toy_study, "--out", out)
    wait_until((out / "genome").exists)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=900)

    driver = start("run", toy_study, "--out", out)
    wait_until(lambda: steps(out) > 3)
    (worker,) = workers_of(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=900)
    wait_until(lambda: not command_of(worker), 60)

    n = steps(out)
    driver = start("run", toy_study, "--out", out)
    wait_until(lambda: steps(out) > n)
    os.kill(workers_of(driver)[0], signal.SIGKILL)
    _, errors = driver.communicate(timeout=900)
    assert driver.returncode == 0, errors
    assert table(out) == table(finished)


@pytest.mark.slow
def test_several_devices_train_one_run(toy_study, finished, tmp_path):
    """Two processes under torchrun for each run: the same losses but for rounding; another number is refused."""
    out = tmp_path / "out"
    result = typed("run", toy_study, "--out", out, "--devices", "2")
    assert result.returncode == 0, result.stderr
    found, expected = (pl.read_csv(folder / "observations.csv") for folder in (out, finished))
    assert found["run"].to_list() == expected["run"].to_list()
    assert found["loss"].to_list() == pytest.approx(expected["loss"].to_list(), abs=5e-3)
    (out / "report.html").unlink()
    result = typed("run", toy_study, "--out", out)
    assert result.returncode == 2
    assert "--devices 2" in result.stderr


@pytest.mark.slow
def test_torchrun_outlives_a_killed_driver_and_keeps_its_run(toy_study, tmp_path):
    """The workers end with the driver; the next driver waits for what they had started, and never writes beside it."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert typed("run", toy_study, "--out", whole, "--devices", "2").returncode == 0
    driver = start("run", toy_study, "--out", out, "--devices", "2")
    wait_until(lambda: steps(out) > 3)
    workers = workers_of(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate(timeout=900)
    wait_until(lambda: not any(command_of(pid) for pid in workers), 5)
    assert everything("torch.distributed.run")
    result = typed("run", toy_study, "--out", out, "--devices", "2")
    assert result.returncode == 0, result.stderr
    assert table(out) == table(whole)


@contextmanager
def cluster(folder: Path, nodes: int) -> Iterator[tuple[str, list[int]]]:
    """Start a Ray cluster of several one-core nodes on the loopback device; yield its address and its raylets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus", "1"]
    ray += ["--object-store-memory", "100000000", "--disable-usage-stats", "--temp-dir", str(folder)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    before = set(raylets())
    try:
        for node in range(nodes):
            where = ["--head", "--port", str(port), "--include-dashboard", "false"] if not node else []
            where = where or ["--address", address]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            begin = [word for word in ray if node == 0 or word not in ("--temp-dir", str(folder))]
            where += ["--node-ip-address", f"127.0.0.{1 + node}"]  # a driver goes to the node with its own address
            subprocess.run([*begin, *where], check=True, timeout=120, env=environment, **quiet)
        yield address, sorted(set(raylets()) - before)
    finally:
        for pid in [*everything(str(folder)), *everything(f":{port} ")]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def raylets() -> list[int]:
    return [pid for pid in pids() if "/raylet/raylet " in command_of(pid)]


def everything(mark: str) -> list[int]:
    """Return the processes whose command names the folder or the port of a cluster, and their children."""
    own = [pid for pid in pids() if mark in command_of(pid) and pid != os.getpid()]
    return [*own, *(child for pid in own for child in children(pid))]


def children(pid: int) -> list[int]:
    found = []
    for other in pids():
        try:
            parent = int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(other)
    return found


@pytest.fixture
def ray_folder():
    """A short path: Ray keeps sockets in it, whose names may have 107 letters."""
    import tempfile

    pytest.importorskip("ray")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_cluster_of_two_nodes(toy_study, finished, tmp_path, ray_folder):
    with cluster(ray_folder, 2) as (address, nodes):
        assert len(nodes) == 2
        result = typed("run", toy_study, "--out", tmp_path / "out", "--engine", "ray", "--address", address)
        assert result.returncode == 0, result.stderr
    assert table(tmp_path / "out") == table(finished)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_a_node_and_its_driver(longer, undisturbed, tmp_path, ray_folder):
    out = tmp_path / "out"
    with cluster(ray_folder, 2) as (address, nodes):
        command = ("run", longer, "--out", out, "--engine", "ray", "--address", address)
        driver = start(*command)
        wait_until(lambda: steps(out) > 20)
        workers = [pid for pid in pids() if command_of(pid).startswith("ray::_attempt")]
        assert workers  # and no agent of Ray, with which its whole node would die
        os.kill(workers[0], signal.SIGKILL)
        time.sleep(1.5)
        os.kill(nodes[1], signal.SIGKILL)
        time.sleep(1.5)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate(timeout=900)
        assert not (out / "manifest.json").exists()
        for _ in range(6):  # Ray takes half a minute to see that a node is gone, and sends a driver there
            result = typed(*command)
            if "No Ray cluster answers" not in result.stderr:
                break
            time.sleep(10)
        assert result.returncode == 0, result.stderr
    assert table(out) == undisturbed


def test_a_cluster_that_is_not_there(toy_study, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    result = typed("sweep", toy_study, "--out", out, "--engine", "ray", "--address", "127.0.0.1:1")
    assert result.returncode == 2
    assert "No Ray cluster answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr
