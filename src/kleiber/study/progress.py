"""What a person sees while a study runs: bars on a terminal, one plain line per finished thing in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Narrator"]


class Narrator:
    """Tell on standard error what is being done, how far it is, and how long it took."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Print one plain line; text from files is never read as markup."""
        self.console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; print its name and seconds when it took more than a tenth of one."""
        spinner = self.console.status(f"{name} …") if self.console.is_terminal else nullcontext()
        with self._timed(name), spinner:
            yield

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time one long stage and show a bar, on a terminal only; yields what to tell the share done to."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
        with self._timed(name), bar:
            task = bar.add_task(name, total=1.0)
            yield lambda share: bar.update(task, completed=share)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        if seconds >= 0.1:
            self.line(f"{name:<28} {seconds:6.1f} s")
