"""One run of a study on several devices: a worker starts ``torchrun`` on this module, and its processes train together.

    python -m torch.distributed.run --nproc-per-node 8 -m kleiber.study.devices OUT UNIT

UNIT counts the trials of `[tune]` first and then the ladder. The stores in OUT are all that is read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kleiber.errors import StateError, Stopped
from kleiber.signals import stop_asked
from kleiber.study.config import Study, Unit, load_study

__all__ = ["train_on_devices"]


def train_on_devices(study: Study, out: Path, unit: Unit, choices: dict[str, Any], lock: int) -> None:
    """Train one unit under ``torchrun``, or go on with it.

    ``torchrun`` outlives a killed worker; it gets the descriptor of the run's lock, so that no other begins beside it.

    Raises
    ------
    StateError
        With what the processes said last, when they failed.
    Stopped
        When they were asked to stop; all is saved.
    """
    index = [*study.trials(), *study.units()].index(unit)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(choices["devices"])]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", __name__, str(out), str(index)]
    free = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    with stop_asked() as stop, tempfile.TemporaryFile("w+") as said:
        torchrun = subprocess.Popen(command, env=free, stdout=said, stderr=said, pass_fds=(lock,))
        while torchrun.poll() is None:
            if stop.wait(0.5):
                torchrun.terminate()  # it passes the signal on, and its processes save
                torchrun.wait()
                raise Stopped(f"{unit.arm} {unit.size} stopped, and is saved; the same command goes on.")
        if torchrun.returncode:
            said.seek(0)
            lines = [line.rstrip() for line in said if line.strip()]
            raise StateError(f"torchrun on {choices['devices']} devices failed:\n" + "\n".join(lines[-8:]))


def main(out: Path, index: int) -> None:
    """Train one unit as one of several processes."""
    from kleiber.study.training import train_here
    from kleiber.train.devices import leave

    study = load_study(out / "study.toml")
    unit = [*study.trials(), *study.units()][index]
    train_here(study, out, unit, json.loads((out / "machine.json").read_bytes()), lambda share: None)
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
