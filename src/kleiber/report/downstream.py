"""What lower loss buys: downstream scores against loss, N, D and C, and where the two disagree.

Scores and correlations were computed when the study was analysed (``fits/downstream.json``, and columns of the
observations); here they are shown, beside what counts of words reach without a network.
"""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from kleiber.report.reader import StudyOutput
from kleiber.report.style import Figure, arm_colour, figure, layer, log_axis, tooltip

__all__ = ["downstream_figures", "downstream_sentences"]

GROUP = "Downstream"
NAMES = {"auroc": "AUROC", "mcc": "MCC", "spearman": "Spearman"}
AXES = {
    "bits_per_base": "held-out bits per base",
    "n_params_non_embedding": "N (parameters without embeddings)",
    "n_tokens": "D (tokens)",
    "flops": "C (FLOPs)",
}


def _tasks(study: StudyOutput) -> dict[str, dict[str, Any]]:
    return study.extra.get("downstream") or {}


def _points(study: StudyOutput, task: str, statistic: str) -> pl.DataFrame:
    """Return the models that have a score, with ``value``, ``low`` and ``high``."""
    column = f"{task}_{statistic}"
    if column not in study.observations.columns:
        return pl.DataFrame()
    ends = {"value": column, "low": f"{column}_low", "high": f"{column}_high"}
    table = study.observations.with_columns(
        pl.col(name).cast(pl.Float64, strict=False).alias(as_) for as_, name in ends.items()
    )
    return table.filter(pl.col("value").is_finite() & pl.col("bits_per_base").is_not_null())


def downstream_figures(study: StudyOutput) -> list[Figure]:
    """Return each task's scores against loss, N, D and C; none where nothing was scored."""
    drawn = []
    for task, facts in _tasks(study).items():
        statistic = str(facts["statistic"])
        points = _points(study, task, statistic)
        for column, title in AXES.items() if len(points) else ():
            rows = points.select("arm", "size", column, "value", "low", "high")
            linear = alt.X(f"{column}:Q", title=title, scale=alt.Scale(zero=False))
            x = linear if column == "bits_per_base" else log_axis(alt.X, column, title)
            y = alt.Y("value:Q", title=f"{task}: {NAMES[statistic]}", scale=alt.Scale(zero=False))
            colour = arm_colour(study.arms)
            marks = (
                layer()
                .mark_point(filled=True, size=60)
                .encode(
                    x=x,
                    y=y,
                    color=colour,
                    tooltip=tooltip("arm:N", "size:N", f"{column}:Q", "value:Q", "low:Q", "high:Q"),
                )
            )
            bars = layer().mark_rule().encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour)
            drawn.append(
                figure(
                    f"downstream-{task}-{column}",
                    GROUP,
                    f"{task} against {title}",
                    f"Each point is an annealed model; lines are 95 % intervals of its {NAMES[statistic]}.",
                    f"{NAMES[statistic]} of {task} for {len(rows)} models against {title}.",
                    rows,
                    [bars, marks],
                )
            )
    return drawn


def downstream_sentences(study: StudyOutput) -> list[str]:
    """Say of each task how its order of models goes with that of their loss, and what counts alone reach."""
    return [sentence for task, facts in _tasks(study).items() for sentence in _of_task(study, task, facts)]


def _of_task(study: StudyOutput, task: str, facts: dict[str, Any]) -> list[str]:
    statistic = str(facts["statistic"])
    points, name = _points(study, task, statistic), NAMES[statistic]
    if points.is_empty():
        return []
    best = points.sort("value", descending=True).row(0, named=True)
    lowest = points.sort("bits_per_base").row(0, named=True)
    sentences = [f"{task}: the best {name} is {_shown(best)}, of {_called(best)}."]
    if best["run"] != lowest["run"] or best["n_tokens"] != lowest["n_tokens"]:
        overlap = best["low"] is not None and lowest["high"] is not None and lowest["high"] >= best["low"]
        sentences.append(
            f"{task}: loss and {name} disagree about the best model: the lowest loss is that of {_called(lowest)}, "
            f"with {_shown(lowest)}" + ("; their intervals overlap." if overlap else "; their intervals do not meet.")
        )
    else:
        sentences.append(f"{task}: the model of the lowest loss is the best here, too.")
    rank, interval = facts.get("rank_correlation"), facts.get("interval")
    if rank is not None:
        known = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "too few runs for an interval"
        what = "" if interval and interval[0] > 0 else " Whether lower loss means a lower error is not shown by this."
        sentences.append(
            f"{task}: rank correlation of error and bits per base over {facts['n_models']} models of "
            f"{facts['n_runs']} runs: {rank:+.2f} ({known}).{what}"
        )
    beside = [f"{key} {value[0]:.3f}" for key, value in (facts.get("opponents") or {}).items() if value[0] is not None]
    if beside:
        sentences.append(f"{task}, without a network ({name}): {', '.join(beside)}.")
    return sentences


def _shown(row: dict[str, Any]) -> str:
    ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{ends}"


def _called(row: dict[str, Any]) -> str:
    return f"{row['arm']} {row['size']} after {row['n_tokens']:,} tokens"
