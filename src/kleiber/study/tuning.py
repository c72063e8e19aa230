"""The learning rate by size, from a small sweep: lr(N) = lr · (N / lr_size)^exponent.

Each of a few sizes is trained on little data at several multiples of the rate that the study file gives. A parabola in
the logarithm of the rate gives the best one of each size, a line through those the rule. It is kept in ``lr.json`` and
used by every run. What is compared is the training loss over the second half of the cooldown: the held-out DNA decides
nothing about how models are trained. Rejected: one rate for all sizes, which the largest models cannot take and the
smallest waste.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.errors import DataError
from kleiber.model.config import shape_for
from kleiber.storage import read_manifest, write_atomic
from kleiber.study import stages, training
from kleiber.study.config import Study
from kleiber.study.engine import Engine
from kleiber.study.progress import Narrator
from kleiber.study.stacks import trial_stacks

__all__ = ["best_rate", "rule", "tune"]


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
    arm = study.arms[next(iter(study.arms))]
    vocab_size = stages.tokenizer_of(study, out, arm.tokenizer).vocab_size
    for size in study.tune.sizes:
        model = shape_for(size, vocab_size, study.train.dropout, study.model.architecture)
        tried = []
        for unit in (unit for unit in study.trials() if unit.size == size):
            run = training.run_of(study, out, unit)
            rate, loss = run.train.peak_lr(model), _loss(training.run_folder(out, run))
            trials.append({"size": size, "lr": rate, "train_loss": loss})
            if loss is not None:
                tried.append((rate, loss))
        if len(tried) < 3:
            raise DataError(
                f"[tune] {size}: {len(tried)} of {len(study.tune.factors)} rates gave a finite loss; 3 are needed.\n"
                "  Lower [train] lr, or name other [tune] factors."
            )
        rate, is_inside = best_rate(*zip(*tried, strict=True))
        points.append({"size": size, "N": model.n_params_non_embedding, "lr": rate, "inside": is_inside})
    found = rule([point["N"] for point in points], [point["lr"] for point in points])
    write_atomic(path, json.dumps({**found, "points": points, "trials": trials}, indent=1) + "\n")


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


def rule(sizes: Sequence[float], rates: Sequence[float]) -> dict[str, float]:
    """Return ``lr``, ``lr_size`` and ``lr_exponent`` of the line through ln(rate) over ln(N)."""
    centre = exp(float(np.mean(np.log(sizes))))
    slope, level = np.polyfit(np.log(np.asarray(sizes, float) / centre), np.log(rates), 1)
    return {"lr": exp(level), "lr_size": centre, "lr_exponent": float(slope)}
