"""What decides bytes and speed alike: precision, how attention is computed, what is compiled, and threads of a run.

All are measured once and kept in ``machine.json``, so that a resumed or distributed study computes the same bytes
throughout. Precision takes a second of matrix products, in every study; the others are tried on the model that a study
spends most on. One thread a run and as many runs as cores stays the choice, and plain matrix products for attention,
unless another is faster by more than the clock errs. On GPUs the network is also tried compiled; a run is compiled if
that saves more time than compiling takes. A study that is over sooner than it could be measured takes these as they
are.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from kleiber.errors import StateError
from kleiber.model.config import BACKENDS
from kleiber.storage import write_atomic
from kleiber.study.clock import COMPILING, GPU, LARGEST, measure_rates
from kleiber.study.config import Study
from kleiber.study.plan import Plan, PlannedRun
from kleiber.train.config import Run

__all__ = ["choose", "cpu_name", "machine", "settle", "settled"]

SMALL = 1e14  # operations of a study that is over in ten minutes: trying its choices would take one of them
MARGIN = 1.05  # what is faster by less than this is as fast
TURNS = 2


def machine(study: Study, planned: Plan, out: Path, devices: int = 1) -> dict[str, Any]:
    """Return the choices in ``machine.json``, making them the first time.

    Raises
    ------
    StateError
        When they were made for another number of devices a run.
    """
    path = out / "machine.json"
    if not path.exists():
        write_atomic(path, json.dumps(choose(study, planned, devices), indent=1) + "\n")
    choices = json.loads(path.read_bytes())
    if choices["devices"] != devices:
        raise StateError(
            f"The runs of {out} are trained on {choices['devices']} devices each, not {devices}.\n"
            f"  Give --devices {choices['devices']}, or another --out."
        )
    return choices


def settle(run: Run, choices: dict[str, Any]) -> Run:
    """Return a run as it was chosen: its precision, and whether it is compiled.

    Its name stays that of the study file, on every machine.
    """
    train, least = run.train, choices["compiled_from"]
    pays = least is not None and run.flops_per_step * run.n_steps >= least
    return replace(run, train=replace(train, precision=choices["precision"], compile=train.compile or pays))


def settled(planned: Plan, choices: dict[str, Any]) -> Plan:
    """Return a plan with its runs as they were chosen; those of a stack are not compiled."""

    def one(run: PlannedRun) -> PlannedRun:
        return replace(run, run=settle(run.run, choices if run.stacked == 1 else {**choices, "compiled_from": None}))

    return replace(planned, runs=tuple(map(one, planned.runs)), trials=tuple(map(one, planned.trials)))


def choose(study: Study, planned: Plan, devices: int = 1) -> dict[str, Any]:
    """Measure what is fastest here, for runs that are trained alone, on so many devices each.

    Returns
    -------
    ``threads`` of a run, ``workers`` side by side, ``attention``, ``compiled_from`` (the operations of a run from
    which compiling pays; None for never), what the machine is, and the operations a second of everything that was
    tried (``measured``).
    """
    cores, gpus = len(os.sched_getaffinity(0)), _n_gpus()
    workers = max(1, (gpus or cores) // devices)
    choices: dict[str, Any] = {
        "threads": max(1, cores // (workers * devices)),
        "workers": workers,
        "devices": devices,
        "attention": "matmul" if study.train.attention == "auto" else study.train.attention,
        "compiled_from": None,
        "precision": study.train.precision if study.train.precision != "auto" else _precision(),
        "cpu": cpu_name(),
        "gpus": gpus,
        "measured": {},
    }
    if planned.flops > SMALL * (GPU if gpus else 1):
        costliest = _costliest(planned, LARGEST * (10 if gpus else 1))
        spec = study.arms[costliest.unit.arm].tokenizer
        if study.train.attention == "auto":
            _choose_attention(choices, costliest, spec)
        if not gpus and devices == 1:
            _choose_threads(choices, costliest, spec, cores)
        if gpus and not study.train.compile:
            _choose_compiling(choices, costliest, spec)
    return choices


def _precision() -> str:
    from kleiber.train.clock import faster_precision
    from kleiber.train.devices import Devices

    return faster_precision(Devices().device)


def _choose_attention(choices: dict[str, Any], run: PlannedRun, spec: str) -> None:
    """FlexAttention only where it has a backward pass: on a GPU, and only for rows too long for a bias on paper."""
    long = choices["gpus"] and run.run.train.length > 512
    _take_fastest(choices, [{"attention": name} for name in BACKENDS if name != "flex" or long], run, spec)


def _choose_threads(choices: dict[str, Any], run: PlannedRun, spec: str, cores: int) -> None:
    """Try every power of two up to all cores."""
    powers = (2**k for k in range(cores.bit_length()))
    _take_fastest(choices, [{"workers": cores // n, "threads": n} for n in powers if n <= cores], run, spec)


def _choose_compiling(choices: dict[str, Any], run: PlannedRun, spec: str) -> None:
    """Try the network compiled, and note from which size of a run on the time is won that compiling takes."""
    compiled = replace(run, run=replace(run.run, train=replace(run.run.train, compile=True)))
    plain, fast = (sum(measure_rates([(one, spec)] * choices["workers"], choices)) for one in (run, compiled))
    choices["measured"] |= {"plain": plain, "compiled": fast}
    if fast > MARGIN * plain:  # both are of all workers, and each of them compiles
        choices["compiled_from"] = COMPILING / (choices["workers"] / plain - choices["workers"] / fast)


def _take_fastest(choices: dict[str, Any], options: list[dict[str, Any]], run: PlannedRun, spec: str) -> None:
    """Take the fastest option, the first one among equals.

    Options take turns and the best of each counts, so that another job which comes and goes decides nothing.
    """
    rates = [0.0] * len(options)
    for i in [*range(len(options))] * TURNS:
        taken = {**choices, **options[i]}
        rates[i] = max(rates[i], sum(measure_rates([(run, spec)] * taken["workers"], taken)))
        choices["measured"][f"{taken['workers']} x {taken['threads']} threads, {taken['attention']}"] = rates[i]
    best = max(range(len(options)), key=rates.__getitem__)
    choices.update(options[best if rates[best] > MARGIN * rates[0] else 0])


def _costliest(planned: Plan, largest: float) -> PlannedRun:
    """Return the run on which most operations go, among those that can be tried in seconds."""
    runs = [replace(run, stacked=1) for run in planned.runs]
    small = [run for run in runs if run.model.n_params <= largest]
    return max(small, key=lambda run: run.flops) if small else min(runs, key=lambda run: run.model.n_params)


def cpu_name() -> str:
    """Return the processor's name, as Linux tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _n_gpus() -> int:
    """Count the GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
