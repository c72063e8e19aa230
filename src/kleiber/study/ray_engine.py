"""Run the units of a study on a Ray cluster: an adapter, because units are idempotent and know where they left off.

Every unit is one task; the driver holds no state. A task whose worker or node dies is given to another one, which goes
on from the last checkpoint; a task that fails by itself is reported and not repeated. All nodes have to see the output
folder under the same path. Rejected: Ray Train and Tune, whose checkpoints and schedulers would be a second truth.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from kleiber.errors import ConfigError, MissingDependency, Stopped
from kleiber.signals import stop_asked
from kleiber.study.engine import Job, Outcome, attempt, limit_threads

__all__ = ["run_on_ray"]

RETRIES = 8  # deaths of workers or nodes under one unit


def run_on_ray(
    jobs: Sequence[Job],
    choices: dict[str, Any],
    address: str | None,
    on_progress: Callable[[float], None],
    on_end: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run every job and return how each ended, in the order given; without an address Ray is started here.

    Raises ConfigError when no cluster answers there, MissingDependency without Ray, Stopped as `run_jobs` does.
    """
    try:
        import ray
    except ImportError:
        raise MissingDependency("ray", "ray") from None
    environment = {"env_vars": limit_threads(choices["threads"])}
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    try:
        if address and ":" in address:  # Ray itself would ask again and again, for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address or "local", runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(f"No Ray cluster answers at {address}: {error}.\n  Start one: ray start --head") from None
    total, done, outcomes = sum(job.work for job in jobs) or 1.0, 0.0, {}
    threads, devices = choices["threads"], choices["devices"]
    needs = {"num_cpus": threads, "num_gpus": devices} if choices["gpus"] else {"num_cpus": threads * devices}
    remote = ray.remote(max_retries=RETRIES, retry_exceptions=False, **needs)(_attempt)
    try:
        with stop_asked() as stop:
            order = sorted(range(len(jobs)), key=lambda i: -jobs[i].work)
            pending = {remote.remote(jobs[i]): i for i in order}
            while pending and not stop.is_set():
                ready, _ = ray.wait(list(pending), timeout=0.5)
                for task in ready:
                    i = pending.pop(task)
                    outcomes[i] = Outcome(jobs[i].name, _result(ray, task))
                    done += jobs[i].work
                    on_end(outcomes[i])
                on_progress(done / total)
        if pending:
            raise Stopped(f"{len(pending)} of {len(jobs)} runs are left; the same command goes on.")
    finally:
        ray.shutdown()
    return [outcomes[i] for i in range(len(jobs))]


def _attempt(job: Job) -> str:
    return attempt(job, lambda share: None)


def _result(ray: Any, task: Any) -> str:
    """Return what went wrong with one task, or nothing."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        return f"its worker or node was lost {RETRIES + 1} times: {error}"
