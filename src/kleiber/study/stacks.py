"""Which runs of a study are trained at once: a function of the study alone, written down before the first step.

Runs of one shape, in the order of the study, fill as few stacks as hold them, all nearly as large. ``stacks.json`` in
the output folder lists them from then on: what is left of a stack is still that stack, for every engine, task and
resume. Rejected: to fill a stack with whatever is not trained yet, which would make the results depend on when a study
was stopped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from kleiber.errors import StateError
from kleiber.storage import write_atomic
from kleiber.study.config import Study, Unit
from kleiber.study.plan import PlannedRun, plan

__all__ = ["Stack", "ladder_stacks", "trial_stacks"]

Stack = tuple[Unit, ...]
"""Runs that are trained at once, one or more."""
FILE = "stacks.json"


def ladder_stacks(study: Study, out: Path) -> list[Stack]:
    """Return the runs of the ladder, stack by stack in the order of their first runs.

    Raises
    ------
    StateError
        When the runs that were written down are not the study's.
    """
    return _written(study, out)["ladder"]


def trial_stacks(study: Study, out: Path) -> list[Stack]:
    """Return the trials of ``[tune]``, as `ladder_stacks` does the runs."""
    return _written(study, out)["trials"]


def _written(study: Study, out: Path) -> dict[str, list[Stack]]:
    units = {"ladder": study.units(), "trials": study.trials()}
    if study.ladder.stack == 1:
        return {name: [(unit,) for unit in found] for name, found in units.items()}
    path = out / FILE
    if not path.exists():
        planned = plan(study)
        stacks = {"ladder": _stacks(planned.runs), "trials": _stacks(planned.trials)}
        listed = {name: [[asdict(unit) for unit in stack] for stack in found] for name, found in stacks.items()}
        write_atomic(path, json.dumps(listed, indent=1) + "\n")
    read = json.loads(path.read_bytes())
    stacks = {name: [tuple(Unit(**unit) for unit in stack) for stack in read[name]] for name in units}
    for name, found in units.items():
        if {unit for stack in stacks[name] for unit in stack} != set(found):
            raise StateError(
                f"{path} lists other runs than the study has ({name}).\n"
                "  Delete it where nothing has been trained yet, or run the study with another --out."
            )
    return stacks


def _stacks(planned: Sequence[PlannedRun]) -> list[Stack]:
    found: dict[int, list[Unit]] = defaultdict(list)
    for run in planned:
        found[run.stack].append(run.unit)
    return [tuple(found[number]) for number in sorted(found)]
