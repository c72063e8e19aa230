"""Run many idempotent units on the cores of this machine.

A unit is a call that fills one folder and returns at once when the folder is complete; so an engine holds no state,
and stopping it at any moment costs at most what the units have not yet checkpointed. Workers are fresh processes
(spawned, not forked: a forked child inherits threads and locks of numba, polars and torch in whatever state they
were). A unit that fails is reported and does not stop the others. Rejected: a queue with its own database, which
would know less than the folders do.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from kleiber.errors import KleiberError, Stopped, refusal
from kleiber.signals import end_with_parent, stop_asked

__all__ = ["POOL", "Engine", "Job", "Outcome", "attempt", "limit_threads", "run_jobs"]


@dataclass(frozen=True)
class Engine:
    """What runs the units of a study.

    Attributes
    ----------
    kind
        ``"pool"``: processes of this machine; ``"ray"``: a Ray cluster.
    address
        Of the cluster; None starts Ray on this machine.
    devices
        That train one run together, under ``torchrun``.
    """

    kind: str = "pool"
    address: str | None = None
    devices: int = 1


POOL = Engine()
ATTEMPTS = 3  # pools: a worker that is killed takes its pool down, but not what its unit has saved


@dataclass(frozen=True)
class Job:
    """One unit of work: what to call, and how much work it is next to the others."""

    name: str
    call: Callable[..., Any]  # importable; called as call(*arguments, progress)
    arguments: tuple[Any, ...]
    work: float


@dataclass(frozen=True)
class Outcome:
    """How one job ended: `error` is empty when it succeeded."""

    name: str
    error: str = ""


_shares: Any = None  # in a worker: one float per job, how much of it is done


def run_jobs(
    jobs: Sequence[Job],
    workers: int,
    threads: int,
    on_progress: Callable[[float], None],
    on_end: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run every job and return how each ended, in the order given.

    Parameters
    ----------
    workers, threads
        Processes side by side, and threads each of them computes with.
    on_progress
        Called a few times a second with the fraction of all work that is done.
    on_end
        Called once for each job, as it ends.

    Raises
    ------
    Stopped
        When SIGTERM or SIGUSR1 came; what is under way is saved.
    """
    total = sum(job.work for job in jobs) or 1.0
    context = get_context("spawn")
    shares = context.Array("d", len(jobs), lock=False)
    outcomes: dict[int, Outcome] = {}
    os.environ.update(limit_threads(threads))  # children inherit it before they load any library

    def end(i: int, error: str) -> None:
        outcomes[i] = Outcome(jobs[i].name, error)
        shares[i] = 1.0
        on_end(outcomes[i])

    def tell() -> None:
        on_progress(sum(share * job.work for share, job in zip(shares, jobs, strict=True)) / total)

    with stop_asked() as stop:
        for _ in range(ATTEMPTS):
            # the longest first: no straggler at the end
            waiting = sorted(set(range(len(jobs))) - set(outcomes), key=lambda i: -jobs[i].work)
            if not waiting or stop.is_set():
                break
            given = shares, context.Value("i")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=given) as pool:
                _drain(pool, {pool.submit(_work, i, jobs[i]): i for i in waiting}, end, tell, stop)
    if stop.is_set() and len(outcomes) < len(jobs):
        raise Stopped(
            f"{len(jobs) - len(outcomes)} of {len(jobs)} runs are left, and are saved; the same command goes on."
        )
    for i in sorted(set(range(len(jobs))) - set(outcomes)):
        end(i, f"its worker process was killed {ATTEMPTS} times; you may have run out of memory")
    return [outcomes[i] for i in range(len(jobs))]


def _drain(
    pool: ProcessPoolExecutor,
    pending: dict[Future[str], int],
    end: Callable[[int, str], None],
    tell: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Wait for the jobs of one pool; those that a killed worker took down are left for the next pool.

    When asked to stop, so are the workers, again and again: one that is not training yet does not listen.
    """
    try:
        while pending:
            done, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                i = pending.pop(future)
                if not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool | Stopped):
                    end(i, future.result())
            tell()
            if stop.is_set():
                for future in pending:
                    future.cancel()
                for process in list((pool._processes or {}).values()):
                    if process.is_alive() and process.pid:
                        os.kill(process.pid, signal.SIGUSR1)
    except BaseException:  # Ctrl-C: units have saved what they have; do not wait for them
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def limit_threads(threads: int) -> dict[str, str]:
    """Return the environment in which libraries use so many threads, once they are loaded."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
    return dict.fromkeys(names, str(threads))


def _start_worker(shares: Any, started: Any) -> None:
    """Number the workers of a pool from 0 on: where there are GPUs, each computes on its own."""
    global _shares
    _shares = shares
    end_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until a run listens
    with started.get_lock():
        os.environ["LOCAL_RANK"] = str(started.value)
        started.value += 1


def _work(index: int, job: Job) -> str:
    """Do one job in a worker; return what went wrong, or nothing."""

    def progress(share: float) -> None:
        _shares[index] = share

    return attempt(job, progress)


def attempt(job: Job, progress: Callable[[float], None]) -> str:
    """Do one job; return what went wrong, or nothing.

    Raises
    ------
    Stopped
        When the job was asked to stop.
    """
    try:
        job.call(*job.arguments, progress)
    except Stopped:
        raise
    except Exception as error:  # the other jobs go on; the whole trace of a bug is kept for whoever mends it
        told = error if isinstance(error, KleiberError) else refusal(error)
        return traceback.format_exc() if told is None else f"{type(told).__name__}: {told}"
    return ""
