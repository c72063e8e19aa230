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

SCRIPT = str(Path(__file__).with_name("distributed.py"))


def torchrun(n: int, *arguments: object) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONFAULTHANDLER"] = "1"  # where a process was that a signal ended
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n), "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout, done.stderr)  # for whoever looks at a failure
    return done.returncode


def metrics(folder: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    return [(line["loss"], line["grad_norm"]) for line in lines]


@pytest.fixture(scope="module")
def store(embedded):
    return embedded[1].path


@pytest.fixture(scope="module", params=[(), ("--dnabert2",)], ids=["shortconv", "dnabert2"])
def alone(request, store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert torchrun(1, store, folder, *request.param) == 0
    return request.param, folder


@pytest.mark.parametrize("options", [(), ("--shard",), ("--micro", "1")], ids=["ddp", "fsdp2", "ddp-micro"])
def test_two_processes_are_one(options, store, alone, tmp_path):
    network, alone = alone
    if network and options != ("--shard",):
        pytest.skip("the parts that differ are sharded; what is not is tested with the other network")
    options += network
    assert torchrun(2, store, tmp_path / "two", *options) == 0
    found, expected = metrics(tmp_path / "two"), metrics(alone)
    assert len(found) == len(expected) == 44  # the trunk's 32, cooldowns of 4 and 8
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(np.array(found)[:, 0], np.array(expected)[:, 0], atol=1e-5)
    gradients = [load_file(folder / "gradients.safetensors") for folder in (tmp_path / "two", alone)]
    assert len(gradients[1]) > 20
    largest = max(gradient.abs().max() for gradient in gradients[1].values())
    for name, gradient in gradients[1].items():  # some are zero in theory: measured by the largest of all
        assert (gradients[0][name] - gradient).abs().max() < 1e-5 * largest, name
    rows = [json.loads((folder / "rows.json").read_bytes())["rows"] for folder in (tmp_path / "two", alone)]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], abs=1e-5)
    assert (tmp_path / "two" / "manifest.json").exists()


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
