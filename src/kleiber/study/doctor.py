"""What this machine is and has, and what that means for a study: what one looks at before asking why it is slow.

Facts are read from the system, and the one that no data sheet tells, which precision is faster, is measured as a study
measures it. Rejected: guesses of a study's hours from the clock rate; `kleiber plan` trains a few steps for that.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from kleiber.study.machine import cpu_name

__all__ = ["advice", "examine"]

GIGABYTE = 1e9
NATIVE = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")  # flags of processors that multiply in bf16
LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
LEAST_MEMORY = 1.5  # GB a process: torch, the compiled kernels, a small model and its batches
LEAST_DISK = 5.0  # GB: what the study of the package and its environment leave


def examine(folder: Path = Path(), measure: bool = True) -> dict[str, Any]:
    """Return what this machine has, as JSON.

    Parameters
    ----------
    folder
        Where results would land.
    measure
        Whether to multiply matrices for some two seconds.

    Returns
    -------
    ``kleiber``, ``python``, ``system``, ``cpu``, ``cores`` (that this process may use), ``bf16`` (whether the
    processor has it), ``memory_gb`` (of the machine, or of the container), ``disk_gb`` (free), ``gpus``, ``products``
    (operations a second by precision, on the first GPU or all cores; empty without a measurement), ``precision`` (what
    ``"auto"`` means here), ``packages`` and ``extras`` (versions; None for what is missing).
    """
    needed, extras = _requirements()
    facts: dict[str, Any] = {
        "kleiber": metadata.version("kleiber"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "bf16": _has_bf16(),
        "memory_gb": round(_memory() / GIGABYTE, 1),
        "disk_gb": round(shutil.disk_usage(folder).free / GIGABYTE, 1),
        "gpus": [],
        "products": {},
        "precision": None,
        "packages": {name: _version(name) for name in needed},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in extras.items()},
    }
    if facts["packages"].get("torch"):
        facts |= _torch_facts(measure)
    return facts


def advice(facts: Mapping[str, Any]) -> list[str]:
    """Return what the facts mean for a study, a sentence each; what stands in its way comes first."""
    lines = [
        f"{name} is missing: pip install --upgrade kleiber."
        for name, version in facts["packages"].items()
        if not version
    ]
    gpus, cores = facts["gpus"], facts["cores"]
    workers = len(gpus) or cores
    if gpus:
        lines.append(f"Runs train on {len(gpus)} x {gpus[0]['name']}, one on each.")
    else:
        lines.append(
            f"{cores} runs train side by side, a thread each; no GPU is seen, and studies of small models need none."
        )
    if (each := facts["memory_gb"] / workers) < LEAST_MEMORY:
        lines.append(
            f"Memory is short: {facts['memory_gb']} GB are {each:.1f} GB a run, and {LEAST_MEMORY} GB are wanted. "
            f"Let it see fewer cores: taskset -c 0-{max(0, int(facts['memory_gb'] / LEAST_MEMORY) - 1)} kleiber run …"
        )
    if facts["disk_gb"] < LEAST_DISK:
        lines.append(f"Only {facts['disk_gb']} GB are free here; kleiber plan tells what a study writes.")
    if facts["products"]:
        lines += _precision_lines(facts)
    missing = [extra for extra, packages in facts["extras"].items() if None in packages.values()]
    if missing:
        lines.append(f"Not installed, and needed for some things only: pip install 'kleiber[{','.join(missing)}]'.")
    return lines


def _precision_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    fp32, bf16 = (facts["products"][name] for name in ("fp32", "bf16"))
    ratio = f"products in bf16 run at {bf16 / fp32:.2g} times the rate of fp32"
    taken = f'precision = "auto" means {facts["precision"]} here: {ratio}'
    if facts["gpus"]:
        yield f"{taken}."
    else:
        yield f"{taken}, and the processor {'has' if facts['bf16'] else 'does not have'} it."
    hours = 1e15 / (max(fp32, bf16) * max(1, len(facts["gpus"]))) / 3600
    yield f"A study of 1e15 operations takes {_duration(hours)} at least; kleiber plan STUDY.toml counts and measures."


def _duration(hours: float) -> str:
    return f"{60 * hours:.2g} minutes" if hours < 1 else f"{hours:.2g} hours"


def _torch_facts(measure: bool) -> dict[str, Any]:
    import torch

    from kleiber.train.clock import faster, product_rates

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found: dict[str, Any] = {
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / GIGABYTE, 1)} for gpu in gpus]
    }
    if measure:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        rates = product_rates(torch.device("cuda" if gpus else "cpu"))
        found |= {"products": rates, "precision": faster(rates)}
    return found


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages that kleiber needs, and those of each extra for users."""
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("kleiber") or ():
        name = re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0]
        if extra := re.search(r"extra == ['\"](\w+)['\"]", line):
            if extra[1] not in ("dev", "docs"):
                extras.setdefault(extra[1], []).append(name)
        else:
            needed.append(name)
    return needed, extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _has_bf16() -> bool:
    """Say whether the processor multiplies in bf16, as Linux tells it; elsewhere the measurement does."""
    information = Path("/proc/cpuinfo")
    return bool(information.exists() and NATIVE.search(information.read_text()))


def _memory() -> float:
    """Return the bytes of memory, of the container where it has less than the machine."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for path in LIMITS:
        if path.exists() and (text := path.read_text().strip()).isdigit():
            limits.append(float(text))
    return min(limits)
