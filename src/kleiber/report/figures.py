"""All figures of a report, in reading order, and the files they are saved to.

One function per figure lives in `compute` (the first one), `runs` (what was trained), `opponents` (what counts reach),
`laws` (what was fitted) and `certainty` (how sure that is); each returns None where its data are missing, so that half
a study still gives half a report.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from kleiber.report import certainty, laws, opponents, runs
from kleiber.report.compute import PANELS, bits_against_compute
from kleiber.report.downstream import downstream_figures
from kleiber.report.reader import StudyOutput, read_study
from kleiber.report.style import Figure, save

__all__ = ["all_figures", "write_figures"]


def all_figures(study: StudyOutput) -> list[Figure]:
    """Return every figure that the study's files can give, in reading order, a kind arm by arm."""
    drawn: list[Figure | None] = [*_bits_against_compute(study), runs.bits_per_base(study)]
    drawn += [*runs.arm_differences(study), laws.exponents([study])]
    of_arm: tuple[Callable[[StudyOutput, str], Figure | None], ...] = (
        laws.n_flops,
        laws.d_flops,
        runs.loss_tokens,
        opponents.counts_figure,
        laws.isoflop_valleys,
        laws.elasticity_map,
        partial(runs.loss_curves, over="flops"),
        partial(runs.loss_curves, over="steps"),
    )
    drawn += [draw(study, arm) for draw in of_arm for arm in study.arms]
    drawn += downstream_figures(study)
    drawn += [certainty.holdouts(study), *certainty.residuals(study), *certainty.profiles(study)]
    drawn += [runs.epochs(study), runs.learning_rate(study)]
    return _with_safe_names([one for one in drawn if one is not None])


def _bits_against_compute(study: StudyOutput) -> list[Figure | None]:
    """Draw the first figure of all arms, or of as many at a time as can be read; those after the first go below."""
    parts = [study.arms[i : i + PANELS] for i in range(0, len(study.arms), PANELS)]
    drawn = [bits_against_compute(study.observations, study.baselines, part) for part in parts]
    return [*drawn[:1], *(replace(one, group="Between arms") for one in drawn[1:] if one is not None)]


def _with_safe_names(drawn: list[Figure]) -> list[Figure]:
    """Return the figures with names that are file names and anchors on any system, each once."""
    named: dict[str, Figure] = {}
    for one in drawn:
        name = stem = re.sub(r"[^\w.+-]", "_", one.name, flags=re.ASCII)
        number = 1
        while name in named:
            number += 1
            name = f"{stem}-{number}"
        named[name] = replace(one, name=name)
    return list(named.values())


def write_figures(out: Path) -> list[Path]:
    """Write ``figs/NAME.svg``, ``.png`` and ``.csv`` for every figure of a study; return the SVG files.

    Raises
    ------
    DataError
        When `out` is no study's folder, or a file in it is damaged.
    """
    folder = Path(out) / "figs"
    drawn = all_figures(read_study(Path(out)))
    for one in drawn:
        save(one, folder)
    return [folder / f"{one.name}.svg" for one in drawn]
