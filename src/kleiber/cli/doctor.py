"""The verb doctor: this machine, and what it means for a study."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

__all__ = ["doctor"]


def doctor(
    *,
    measure: Annotated[bool, Parameter(negative="--no-measure")] = True,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what this machine has, and what that means for a study.

    Cores, memory, GPUs, which precision is faster by measurement, and the packages with their versions: what a report
    of a problem should hold.

    Example: ``kleiber doctor --json``

    Parameters
    ----------
    measure
        Multiply matrices for some seconds, to find the faster precision.
    json
        Print JSON.
    """
    from json import dumps

    from kleiber.study.doctor import advice, examine

    facts = examine(measure=measure)
    told = advice(facts)
    if json:
        print(dumps({**facts, "advice": told}))
        return
    gpus = [f"{gpu['name']}, {gpu['memory_gb']} GB" for gpu in facts["gpus"]]
    rates = [f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in facts["products"].items()]
    packages = [f"{name} {version or 'MISSING'}" for name, version in facts["packages"].items()]
    extras = {
        extra: [f"{name} {version or 'missing'}" for name, version in found.items()]
        for extra, found in facts["extras"].items()
    }
    rows = {
        "kleiber": [f"{facts['kleiber']} on Python {facts['python']}, {facts['system']}"],
        "processor": [f"{facts['cpu']}, {facts['cores']} cores, bf16 {'native' if facts['bf16'] else 'not native'}"],
        "memory": [f"{facts['memory_gb']} GB, and {facts['disk_gb']} GB free on disk"],
        "GPUs": gpus or ["none"],
        "products": rates or ["not measured"],
        "packages": packages,
        **extras,
    }
    for name, values in rows.items():
        print(f"{name:<12}{', '.join(values)}")
    print("\nfor a study:")
    for line in told:
        print(f"  {line}")
