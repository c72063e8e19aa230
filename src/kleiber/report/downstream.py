"""What lower loss buys: downstream scores against loss, N, D and C, and where the two disagree.

Scores and correlations were computed when the study was analysed (``fits/downstream.json``, and columns of the
observations); here they are shown, beside what counts of words reach without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from kleiber.report.reader import StudyOutput
from kleiber.report.style import Figure, arm_colour, figure, layer, log_axis, tooltip

__all__ = ["downstream_figures", "downstream_sentences"]

GROUP = "Downstream"
NAMES = {"auroc": "AUROC", "mcc": "MCC", "spearman": "Spearman"}
CHANCE = {"auroc": 0.5, "mcc": 0.0, "spearman": 0.0}
COUNTS = {"MARKOV": "counts (chain)", "TWO_SIDED": "counts (two-sided)"}  # by the keys of `kleiber score`
DASHES, DOTS = ([1, 0], [8, 3], [3, 2], [8, 2, 2, 2]), [1, 4]  # of opponents, and of chance
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
        beside = [{"kind": "opponent", "opponent": name, "value": value} for name, value in _opponents(facts).items()]
        beside.append({"kind": "opponent", "opponent": "chance", "value": CHANCE[statistic]})
        for column in AXES if len(points) else ():
            rows = points.select(pl.lit("model").alias("kind"), "arm", "size", column, "value", "low", "high")
            drawn.append(_figure(study.arms, task, statistic, column, [*rows.iter_rows(named=True), *beside]))
    return drawn


def _figure(arms: Sequence[str], task: str, statistic: str, column: str, rows: list[dict[str, Any]]) -> Figure:
    """Draw one task's scores against one quantity, with lines for what needs no network."""
    name, title = NAMES[statistic], AXES[column]
    linear = alt.X(f"{column}:Q", title=title, scale=alt.Scale(zero=False))
    x = linear if column == "bits_per_base" else log_axis(alt.X, column, title)
    y = alt.Y("value:Q", title=f"{task}: {name}", scale=alt.Scale(zero=False))
    colour, models = arm_colour(arms), layer("model")
    known = tooltip("arm:N", "size:N", f"{column}:Q", "value:Q", "low:Q", "high:Q")
    names = [row["opponent"] for row in rows if row["kind"] == "opponent"]
    dashes = [DASHES[i % len(DASHES)] for i in range(len(names) - 1)] + [DOTS]
    dash = alt.StrokeDash("opponent:N", title="without a network", scale=alt.Scale(domain=names, range=dashes))
    lines = layer("opponent").mark_rule(color="#8a8f98", strokeWidth=1.6)
    bars = models.transform_filter("isValid(datum.low)").mark_rule()
    n_models = sum(row["kind"] == "model" for row in rows)
    return figure(
        f"downstream-{task}-{column}",
        GROUP,
        f"{task} against {title}",
        f"Each point is an annealed model; lines through them are 95 % intervals of its {name}. Grey: what is reached "
        "without a network.",
        f"{name} of {task} for {n_models} models against {title}, with grey lines for what needs no network.",
        rows,
        [
            lines.encode(y=y, strokeDash=dash, tooltip=tooltip("opponent:N", "value:Q")),
            bars.encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
            models.mark_point(filled=True, size=60).encode(x=x, y=y, color=colour, tooltip=known),
        ],
    )


def _opponents(facts: dict[str, Any]) -> dict[str, float]:
    """Return what each opponent reaches, by a name for people."""
    found = facts.get("opponents") or {}
    return {COUNTS.get(key, key): value[0] for key, value in found.items() if value[0] is not None}


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
    beside = [f"{key} {value:.3f}" for key, value in _opponents(facts).items()]
    if beside:
        sentences.append(f"{task}, without a network ({name}): {', '.join(beside)}.")
    return sentences


def _shown(row: dict[str, Any]) -> str:
    ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{ends}"


def _called(row: dict[str, Any]) -> str:
    return f"{row['arm']} {row['size']} after {row['n_tokens']:,} tokens"
