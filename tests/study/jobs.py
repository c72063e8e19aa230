"""Jobs for the tests of the engine; importable by spawned workers."""

import os
import signal
from pathlib import Path

from kleiber.errors import DataError


def write(path: Path, text: str, progress) -> None:
    progress(0.5)
    path.write_text(text)


def fail(progress) -> None:
    raise DataError("the file is bad")


def crash(progress) -> None:
    raise ZeroDivisionError


def die_once(path: Path, progress) -> None:
    if not path.exists():
        path.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_text("lived")


def die(progress) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exhaust(kind: str, progress) -> None:
    """Ask for more memory than the process may have; really, so that the libraries' own errors are met."""
    import resource

    import torch

    torch.set_num_threads(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), limits[1]))
    try:
        {"python": lambda: bytearray(1 << 30), "torch": lambda: torch.empty(1 << 30)}[kind]()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def no_space(path: Path, progress) -> None:
    """Write to a device that is always full."""
    from kleiber.storage import naming

    with naming(path), open("/dev/full", "w") as file:
        file.write("x")
