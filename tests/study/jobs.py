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
