"""All figures of a report, in reading order, and the files they are saved to.

One function per figure lives in `runs` (what was trained), `opponents` (what counts reach), `laws` (what was fitted)
and `certainty` (how sure that is); each returns None where its data are missing, so that half a study still gives half
a report.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from kleiber.report import certainty, laws, opponents, runs
from kleiber.report.downstream import downstream_figures
from kleiber.report.reader import StudyOutput, read_study
from kleiber.report.style import Figure, save

__all__ = ["all_figures", "write_figures"]


def all_figures(study: StudyOutput) -> list[Figure]:
    """Return every figure that the study's files can give, in reading order."""
    drawn: list[Figure | None] = [runs.bits_per_base(study), laws.exponents([study]), runs.corpus_differences(study)]
    drawn.append(runs.tokenizer_differences(study))
    for arm in study.arms:
        drawn += [runs.loss_steps(study, arm), runs.loss_flops(study, arm)]
        drawn += [laws.n_flops(study, arm), laws.d_flops(study, arm)]
        drawn += [opponents.counts_figure(study, arm)]
        drawn += [runs.loss_tokens(study, arm), laws.isoflop_valleys(study, arm), laws.elasticity_map(study, arm)]
    drawn += downstream_figures(study)
    drawn += [certainty.holdouts(study), *certainty.residuals(study), *certainty.profiles(study)]
    drawn += [runs.epochs(study), runs.learning_rate(study)]
    return _with_safe_names([one for one in drawn if one is not None])


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
