"""A real Slurm on the loopback device: munge, a controller and one node, in a folder, for as long as a test runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
CONFIGURATION = """
ClusterName=kleiber
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
InactiveLimit=0
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return the programs of Slurm that are not installed, or what else keeps it from running."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    found = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return found or ([] if os.geteuid() == 0 else ["root's rights, which slurmd wants"])


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of this machine; yield the environment that its commands need."""
    ports = [free_port(), free_port()]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    cores = len(os.sched_getaffinity(0))
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, ports=ports, folder=folder, cores=cores).lstrip()
    )
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] = f"{os.environ['PATH']}:/usr/sbin"
    munge = [
        "munged",
        "--foreground",
        "--force",
        "--key-file",
        folder / "munge.key",
        "--socket",
        folder / "munge.socket",
    ]
    munge += [
        "--pid-file",
        folder / "munge.pid",
        "--log-file",
        folder / "munge.log",
        "--seed-file",
        folder / "munge.seed",
    ]
    commands = [munge, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]]
    daemons = []
    try:
        for command in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen([str(word) for word in command], env=environment, **quiet))
            time.sleep(1)
        for _ in range(60):
            state = ask(["scontrol", "show", "node", host], environment)
            if "State=IDLE" in state and "NOT_RESPONDING" not in state:
                break
            time.sleep(1)
        else:
            raise RuntimeError(f"no node came up:\n{state}\n{(folder / 'slurmctld.log').read_text()[-2000:]}")
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def ask(command: list[str], environment: dict[str, str]) -> str:
    """Return what a command of Slurm prints."""
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return found.stdout + found.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
