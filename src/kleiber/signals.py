"""SIGTERM and SIGUSR1 ask long work to save and stop: Slurm sends them before a limit, clouds before they preempt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["stop_asked"]


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
