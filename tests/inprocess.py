"""The command line in the process of the tests: its verbs without three seconds of imports before each.

One test of every kind starts a process as a user does (`study.conftest.kleiber`); the others come here.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

from kleiber.cli import main

__all__ = ["kleiber"]


def kleiber(*arguments: str | Path | int, cwd: Path | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    """Call the command line with what it would be given, and return what it would print and exit with.

    `given` is its standard input.
    """
    command, out, err = ["kleiber", *map(str, arguments)], io.StringIO(), io.StringIO()
    code = 0
    with (
        patch.dict(os.environ),  # a study sets threads for its workers
        patch.object(sys, "argv", command),
        patch.object(sys, "stdin", io.StringIO(given)),
        contextlib.chdir(cwd or Path()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
