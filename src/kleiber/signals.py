"""SIGTERM and SIGUSR1 ask long work to save and stop: Slurm sends them before a limit, clouds before they preempt.

A killed process cannot tell its workers; they watch it, so that none goes on writing beside the next build.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

__all__ = ["end_with_parent", "stop_asked"]


def end_with_parent() -> None:
    """Let this worker process end, at once, when the process that started it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def stop_asked() -> Iterator[threading.Event]:
    """Yield what SIGTERM and SIGUSR1 set, instead of ending the process; signals only reach a main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
