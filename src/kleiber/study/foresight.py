"""How well a planned study will tell a, arm by arm: its points, and a pilot's table or a stated prior, simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from kleiber.errors import ConfigError
from kleiber.scaling.foresight import Design, Foresight, Prior, foresee, no_law, prior_of_pilot, stated_prior
from kleiber.scaling.observations import Observations
from kleiber.scaling.table import read_table
from kleiber.study.config import Study
from kleiber.study.plan import Plan

__all__ = ["design_of", "foresights"]


def design_of(planned: Plan, arm: str) -> Design:
    """Return the points of one arm: those that read most unique data, as its law is fitted to them."""
    runs = [run for run in planned.runs if run.unit.arm == arm]
    most = max(run.unit.unique for run in runs)
    sizes, tokens, cluster = [], [], []
    for number, run in enumerate(run for run in runs if run.unit.unique == most):
        step = run.run.train.batch * run.run.train.length
        for branch in run.run.branches():
            sizes.append(run.run.flops_per_step / (6 * step))
            tokens.append(float(branch.end * step))
            cluster.append(number)
    return Design(np.array(sizes), np.array(tokens), np.array(cluster))


def foresights(
    study: Study, planned: Plan, pilot: Path | None, progress: Callable[[float], None] = lambda share: None
) -> dict[str, Foresight]:
    """Foresee every arm; arms with one design and one prior are foreseen once, under the first one's name.

    Arms of a few models, which are set beside others and carry no law, are passed over.

    Parameters
    ----------
    pilot
        A table of observations, such as that of a smaller study; its rows of the arm's name, where it has arms.
    progress
        Is told the share that is done.

    Raises
    ------
    ConfigError
        When the pilot has arms, and none of that name.
    DataError
        When the pilot, or the design, cannot carry a law.
    """
    seed = study.study.seed
    known = None if pilot is None else (pilot, read_table(pilot))
    asked: dict[tuple[bytes, ...], tuple[str, Design, Prior]] = {}
    for arm in study.arms:
        design = design_of(planned, arm)
        if (study.arms[arm].sizes or study.arms[arm].tokens) and no_law(design):
            continue
        prior = stated_prior(design) if known is None else _of_table(*known, arm, seed)
        asked.setdefault((design.N.tobytes(), design.D.tobytes(), prior.laws.tobytes()), (arm, design, prior))
    found: dict[str, Foresight] = {}

    def tell(share: float) -> None:
        progress((len(found) + share) / len(asked))

    for arm, design, prior in asked.values():
        found[arm] = foresee(design, prior, seed=seed, progress=tell)
    return found


def _of_table(path: Path, table: pl.DataFrame, arm: str, seed: int) -> Prior:
    if "arm" in table.columns:
        arms = table["arm"].unique(maintain_order=True).to_list()
        if arm not in arms:
            raise ConfigError(f"{path} has no rows of the arm {arm!r}; its arms are {', '.join(map(str, arms))}.")
        table = table.filter(pl.col("arm") == arm)
    return prior_of_pilot(Observations.of(table, name=str(path)), name=path.name, seed=seed)
