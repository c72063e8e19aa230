"""The original study's loss curves again: by its own rule, and by estimators that it did not use.

The curves were measured from its figures (see ``data/original_study/SOURCE.md``). They are training losses along one
schedule, so that every answer says what such curves can and cannot say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from kleiber.scaling.elasticities import elasticities
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import LossCurve, gradient_rule, isoflop
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.witnesses import agree, examine

__all__ = ["Arm", "original_study", "published_arms"]

TOKENS = 1024 * 128  # a step
STEPS = 97_656
BEGIN = 20_000  # the study fits its curves from this step on
THRESHOLD = 2.5e-6  # nats a step
POINTS = 40  # of a curve that the estimators see
READING_ERROR = 0.003  # nats, of a curve in a figure
LIMITS = {
    "gradient-rule": "can say: what the study computed. Cannot say: which size is best for any budget",
    "isoflop": "can say: which size was ahead at equal compute while the runs trained. Cannot say: which would be "
    "ahead had each run been annealed for its budget; the larger a budget, the fewer sizes bracket it",
    "parametric": "can say: which law these curves follow. Cannot say: what annealed models would lose, how repeated "
    "data count (22 epochs are taken as new), or how far seeds stray (one run a size)",
    "elasticities": "can say: what bought more at the end of these runs. Cannot say: which share of the fall in loss "
    "is the learning rate's, which D cannot be told from here; intervals hold the reading of the figures only",
}


class Arm(NamedTuple):
    """One corpus and tokenizer of the study: its curves and exponents.

    `marked` is the slope of N through the optima that it marked, `printed` the one in print.
    """

    corpus: str
    tokenizer: str
    curves: list[LossCurve]
    marked: float
    printed: float

    @property
    def name(self) -> str:
        """What the arm is called."""
        return f"{self.corpus} {self.tokenizer}"


def published_arms() -> list[Arm]:
    """Read the study's arms from the package; hidden stretches of curves are left out."""
    folder = Path(str(files("kleiber") / "data" / "original_study"))
    optima, laws = pl.read_csv(folder / "optima.csv"), pl.read_csv(folder / "laws.csv")
    curves = pl.read_csv(folder / "curves.csv.gz").drop_nulls("loss")
    found = []
    for (corpus, tokenizer), own in curves.group_by("corpus", "tokenizer", maintain_order=True):
        here = (pl.col("corpus") == corpus) & (pl.col("tokenizer") == tokenizer)
        marks = optima.filter(here)
        c, n = (np.log(marks[column].cast(pl.Float64).to_numpy()) for column in ("flops", "params"))
        printed = laws.filter(here & (pl.col("quantity") == "N_opt"))["slope"].item()
        lines = [_curve(part) for _, part in own.group_by("params", maintain_order=True)]
        slope = float(np.polyfit(c, n, 1)[0])
        found.append(Arm(str(corpus), str(tokenizer), sorted(lines, key=lambda curve: curve.N), slope, printed))
    return found


def original_study(bootstrap: int = 1000, seed: int = 0) -> Iterator[tuple[Arm, list[FitResult]]]:
    """Fit each arm by the study's rule, IsoFLOP, the parametric law and elasticities.

    Each result ends with its limits.
    """
    for arm in published_arms():
        share = BEGIN / max(curve.step[-1] for curve in arm.curves)
        points = _points(arm)
        valleys = isoflop(points, seed=seed, force=True)
        law = examine(fit(points, bootstrap=bootstrap, seed=seed, force=True), points, valleys)
        results = [
            gradient_rule(arm.curves, THRESHOLD, share, smooth=1),
            agree(valleys, law),
            law,
            elasticities(points, noise=READING_ERROR),
        ]
        labels = {"corpus": arm.corpus, "tokenizer": arm.tokenizer, "a_printed": arm.printed, "a_marked": arm.marked}
        yield (
            arm,
            [
                replace(one, settings=one.settings | labels, warnings=(*one.warnings, LIMITS[one.method]))
                for one in results
            ],
        )


def _curve(part: pl.DataFrame) -> LossCurve:
    """Return one size's curve with the study's counts: all parameters, padding, 6·N·D."""
    n, step = float(part["params"][0]), part["step"].to_numpy()
    tokens = step * TOKENS
    return LossCurve(n, step, tokens, 6 * n * tokens, part["loss"].to_numpy())


def _points(arm: Arm) -> Observations:
    """Read every curve at the same steps from where the study begins; each curve is one run."""
    step = np.geomspace(BEGIN, min(curve.step[-1] for curve in arm.curves), POINTS)
    loss = np.array([np.interp(step, curve.step, curve.loss) for curve in arm.curves])
    N, D = (x.ravel() for x in np.meshgrid([curve.N for curve in arm.curves], step * TOKENS, indexing="ij"))
    table = pl.DataFrame({"N": N, "D": D, "loss": loss.ravel(), "annealed": False})
    return Observations.of(table, name=f"the curves of {arm.name}")
