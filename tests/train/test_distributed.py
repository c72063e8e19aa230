"""Several processes compute what one does: DDP and FSDP2 on gloo, under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from train import distributed

TOGETHER = {
    "ddp": (),
    "ddp-micro": ("--micro", "1"),
    "fsdp2": ("--shard",),
    "fsdp2-dnabert2": ("--shard", "--dnabert2"),
}


def torchrun(n: int, *arguments: object) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONFAULTHANDLER"] = "1"  # where a process was that a signal ended
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n), "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", distributed.__file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout, done.stderr)  # for whoever looks at a failure
    return done.returncode


def metrics(folder: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines]


@pytest.fixture(scope="module")
def store(embedded):
    return embedded[1].path


@pytest.fixture(scope="module")
def alone(embedded, tmp_path_factory):
    """The folder of each network's run, trained in this process."""
    folders = {network: tmp_path_factory.mktemp("alone") / "run" for network in ("", "--dnabert2")}
    for network, folder in folders.items():
        distributed.train(embedded[1], [str(folder), *filter(None, [network])])
    return folders


@pytest.fixture(scope="module")
def together(store, tmp_path_factory):
    """The folder of each run of two processes, which train one after the other: to start them takes the longest."""
    folders = {name: tmp_path_factory.mktemp("together") / "run" for name in TOGETHER}
    runs = [("+", folders[name], *options) for name, options in TOGETHER.items()]
    assert torchrun(2, store, *(word for run in runs for word in run)) == 0
    return folders


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_are_one(name, alone, together):
    """What is not sharded is tested with one network: the parts in which they differ are alike otherwise."""
    two, alone = together[name], alone["--dnabert2" if "--dnabert2" in TOGETHER[name] else ""]
    found, expected = metrics(two), metrics(alone)
    assert len(found) == len(expected) == 44  # the trunk's 32, cooldowns of 4 and 8
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(np.array(found)[:, 0], np.array(expected)[:, 0], atol=1e-5)
    gradients = [load_file(folder / "gradients.safetensors") for folder in (two, alone)]
    assert len(gradients[1]) > 20
    largest = max(gradient.abs().max() for gradient in gradients[1].values())
    for name, gradient in gradients[1].items():  # some are zero in theory: measured by the largest of all
        assert (gradients[0][name] - gradient).abs().max() < 1e-5 * largest, name
    rows = [json.loads((folder / "rows.json").read_bytes())["rows"] for folder in (two, alone)]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], abs=1e-5)
    assert (two / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "options"),
    [(1, ()), (1, ("--bf16",)), (2, ()), (2, ("--bf16", "--dropout", 0.1)), (2, ("--shard",))],
    ids=["one", "one-bf16", "ddp", "ddp-bf16-dropout", "fsdp2"],
)
def test_killed_and_resumed_to_the_same_bits(n, options, store, tmp_path):
    assert torchrun(n, store, tmp_path / "whole", *options) == 0
    assert torchrun(n, store, tmp_path / "killed", "--die-at", 17, *options) != 0
    assert len(metrics(tmp_path / "killed")) < 20
    assert torchrun(n, store, tmp_path / "killed", *options) == 0
    for name in ("metrics.jsonl", "rows.json", "checkpoints/step-40/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
