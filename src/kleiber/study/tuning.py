"""What a study multiplies its learning rates by, from a few short trials.

How rates change with parameters, tokens in a step and data was measured, and comes with the package
(`kleiber.train.config.OPTIMIZERS`); what other genomes, vocabularies and optimizers change is their height. So one size
or more is trained on little data at several multiples of all rates. A parabola in the logarithm gives the best multiple
of each size, and their geometric mean is what every run uses; it is kept in ``lr.json``. What is compared is the
training loss over the second half of the cooldown: the held-out DNA decides nothing about how models are trained.
Rejected: a line through the best rates of several sizes, whose slope takes more trials than the runs that it is for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from kleiber.errors import DataError
from kleiber.storage import read_manifest, write_atomic
from kleiber.study import training
from kleiber.study.config import Study
from kleiber.study.engine import Engine
from kleiber.study.progress import Narrator
from kleiber.study.stacks import trial_stacks

__all__ = ["best_rate", "tune"]


def tune(study: Study, out: Path, say: Narrator, engine: Engine) -> None:
    """Write ``lr.json``, training what it needs; nothing when the study gives its rates.

    Raises
    ------
    DataError
        When a size has fewer than three finite losses.
    """
    path = out / "lr.json"
    if not study.tune.sizes or path.exists():
        return
    training.train_stacks(study, out, trial_stacks(study, out), say, engine, "tuning the learning rate")
    points: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    for size in study.tune.sizes:
        tried = []
        for unit in (unit for unit in study.trials() if unit.size == size):
            run = training.run_of(study, out, unit)
            loss = _loss(training.run_folder(out, run))
            trials.append({"size": size, "factor": unit.factor, "lr": run.train.peak_lr(run.model), "train_loss": loss})
            if loss is not None:
                tried.append((unit.factor, loss))
        if len(tried) < 3:
            raise DataError(
                f"[tune] {size}: {len(tried)} of {len(study.tune.factors)} factors gave a finite loss; 3 are needed.\n"
                "  Lower [train] lr, or name other [tune] factors."
            )
        factor, is_inside = best_rate(*zip(*tried, strict=True))
        points.append({"size": size, "factor": factor, "inside": is_inside})
        if not is_inside:
            say.line(
                f"[tune] {size}: {factor:g} times the rates is best, at the edge of what was tried: name [tune] factors"
            )
    found = exp(fmean(log(point["factor"]) for point in points))
    write_atomic(path, json.dumps({"factor": found, "points": points, "trials": trials}, indent=1) + "\n")


def _loss(folder: Path) -> float | None:
    """Return a trial's training loss, None where it diverged."""
    if (read_manifest(folder) or {}).get("diverged"):
        return None
    return json.loads((folder / "rows.json").read_bytes())["rows"][0]["train_loss"]


def best_rate(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, bool]:
    """Return the rate at which a parabola of the loss in ln(rate) is lowest.

    And whether rates on both sides are worse.

    The parabola goes through the lowest point and its neighbours; the lowest point itself is the answer where it is the
    first or the last.
    """
    order = np.argsort(rates)
    x, y = np.log(np.asarray(rates, float))[order], np.asarray(losses, float)[order]
    i = int(y.argmin())
    if not 0 < i < len(x) - 1:
        return exp(x[i]), False
    second, first, _ = np.polyfit(x[i - 1 : i + 2] - x[i], y[i - 1 : i + 2], 2)
    return (exp(x[i] - first / (2 * second)) if second > 0 else exp(x[i])), True
