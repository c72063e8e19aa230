"""One run of a study on several devices: a worker starts ``torchrun``, whose processes train together.

Each of them is `kleiber.study.rank`, which is started by its name: what trains here need not be imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kleiber.errors import StateError, Stopped
from kleiber.signals import stop_asked
from kleiber.study.config import Study, Unit

__all__ = ["train_on_devices"]

RANK = "kleiber.study.rank"


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
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", RANK, str(out), str(index)]
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
