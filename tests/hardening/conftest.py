"""File systems of a chosen size, users without rights, and the toy study undisturbed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.conftest import finished, toy_study

__all__ = ["finished", "toy_study"]


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path):
        self.path = path

    def remount(self, options: str) -> None:
        """Change its size (``"size=2m"``), or make it read-only (``"ro"``)."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A file system of 64 MB, as large as the test remounts it; needs the right to mount."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture(scope="session")
def nobody() -> int:
    """The number of a user who owns nothing; only root can become one."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as another user")
    return 65534
