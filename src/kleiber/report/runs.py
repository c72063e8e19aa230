"""Figures of what was trained and measured: loss curves, held-out losses, epochs, differences between arms."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from kleiber.report.measures import Difference, differences, predicted_loss, size_count, strongest_baselines
from kleiber.report.reader import Curve, StudyOutput
from kleiber.report.style import CATEGORY, Figure, arm_colour, figure, layer, log_axis, size_colour, tooltip

__all__ = ["arm_differences", "bits_per_base", "epochs", "learning_rate", "loss_curves", "loss_tokens"]

EARLIEST = 0.02  # of a run: the fall from chance before it would take half of every axis
POINTS_PER_CURVE = 120  # more than a screen can tell apart on a logarithmic axis
LOSS = "loss (nats per predicted token)"
MUENNIGHOFF = 4  # epochs up to which repeated data are worth about as much as new (Muennighoff et al. 2023)


def loss_curves(study: StudyOutput, arm: str, over: str) -> Figure | None:
    """Draw the training loss of every run of an arm over ``steps`` or ``flops``, with its held-out losses."""
    rows = [row for curve in study.curves if curve.arm == arm for row in _binned(curve)]
    rows += _held_out(study, arm, ("steps", "flops"), "held-out")
    rows = [row for row in rows if row[over] is not None]
    if not rows:
        return None
    what = {"steps": "steps", "flops": "compute"}[over]
    base = {
        "x": log_axis(alt.X, over, {"steps": "optimizer step", "flops": "C, training compute (FLOPs)"}[over]),
        "y": alt.Y("loss:Q", title=LOSS, scale=alt.Scale(zero=False)),
        "color": size_colour(study.sizes),
    }
    tip = tooltip("size:N", "phase:N", f"{over}:Q", "loss:Q")
    trunk = layer("trunk").mark_line(interpolate="linear", strokeWidth=1.6).encode(**base, detail="run:N", tooltip=tip)
    branch = layer("cooldown").mark_line(strokeWidth=1.2, strokeDash=[4, 2])
    bars = layer("held-out").mark_rule(strokeWidth=1.5)
    points = layer("held-out").mark_point(size=55, stroke="white", strokeWidth=0.6)
    return figure(
        f"loss-{over}.{arm}",
        "By arm",
        f"Loss over {what}: {arm}",
        f"Lines: training loss, averaged over short stretches, from {EARLIEST:.0%} of a run on (dashed: cooldowns). "
        "Points: held-out loss of annealed models, ± 2 standard errors. The two are scored under different masks and "
        "on different DNA: compare lines with lines and points with points.",
        f"Line chart: loss falls with {what} for each model size of {arm}.",
        rows,
        [
            trunk,
            branch.encode(**base, detail=["run:N", "phase:N"], tooltip=tip),
            bars.encode(**{**base, "y": alt.Y("low:Q", title=LOSS)}, y2="high:Q"),
            points.encode(**base, tooltip=tip),
        ],
    )


def _binned(curve: Curve) -> list[dict[str, Any]]:
    """Average a log over bins that grow geometrically with the step; a bin stands at its last step."""
    rows = []
    last = max(2.0, float(curve.steps["step"].max() or 0))  # type: ignore[arg-type]
    edges = np.unique(np.geomspace(1, last + 1, POINTS_PER_CURVE).round())
    for (phase,), steps in curve.steps.filter(pl.col("step") >= EARLIEST * last).group_by("phase", maintain_order=True):
        kind = "trunk" if phase == "trunk" else "cooldown"
        number = np.searchsorted(edges, steps["step"].to_numpy(), side="right")
        binned = steps.with_columns(bin=pl.Series(number)).group_by("bin", maintain_order=True)
        means = binned.agg(pl.col("step", "flops").last(), pl.col("loss").mean())
        for step, flops, loss in means.select("step", "flops", "loss").iter_rows():
            known = {"kind": kind, "run": curve.run, "size": curve.size, "phase": phase}
            rows.append(known | {"steps": step, "flops": flops, "loss": loss})
    return rows


def _held_out(study: StudyOutput, arm: str, names: tuple[str, ...], kind: str) -> list[dict[str, Any]]:
    """Return the annealed points of an arm as figure rows, with an interval of ± 2 standard errors."""
    rows = []
    for point in study.points(arm).iter_rows(named=True):
        error = 2 * (point["loss_se"] or 0.0)
        rows.append(
            {"kind": kind, "run": point["run"], "size": point["size"], "phase": "held-out"}
            | {name: point[name] for name in names}
            | {"loss": point["loss"], "low": point["loss"] - error, "high": point["loss"] + error}
        )
    return rows


def learning_rate(study: StudyOutput) -> Figure | None:
    """Draw the learning rate of every size over steps; arms share their schedules."""
    rows = []
    for size in study.sizes:
        curve = next((c for c in study.curves if c.size == size and c.steps["lr"].is_not_null().any()), None)
        if curve is None:
            continue
        steps = curve.steps.filter(pl.col("lr").is_not_null())
        for (phase,), part in steps.group_by("phase", maintain_order=True):
            thin = part.gather_every(max(1, len(part) // 60))
            thin = pl.concat([thin, part.tail(1)]).unique("step", keep="first", maintain_order=True)
            for step, rate in zip(thin["step"], thin["lr"], strict=True):
                rows.append({"size": size, "phase": phase, "steps": step, "lr": rate})
    if not rows:
        return None
    line = (
        layer()
        .mark_line(strokeWidth=1.6)
        .encode(
            x=alt.X("steps:Q", title="optimizer step"),
            y=alt.Y("lr:Q", title="learning rate", axis=alt.Axis(format="~g"), scale=alt.Scale(zero=True, nice=False)),
            color=size_colour(study.sizes),
            detail="phase:N",
            tooltip=tooltip("size:N", "phase:N", "steps:Q", "lr:Q"),
        )
    )
    return figure(
        "learning-rate",
        "Data and training",
        "Learning rate over steps",
        "Learning rate of one run a size: warm-up, a constant trunk, and one cooldown for every budget of data.",
        "Line chart of the learning rate over steps for each size.",
        rows,
        [line],
        height=240,
    )


def loss_tokens(study: StudyOutput, arm: str) -> Figure | None:
    """Draw held-out loss against data, a line a size, with the fitted law."""
    rows = _held_out(study, arm, ("n_tokens",), "held-out")
    if not rows:
        return None
    law = study.law(arm)
    points = study.points(arm)
    count = size_count(study, arm)
    has_law = False
    if law is not None and law.status != "REFUSED":
        d = np.geomspace(float(points["n_tokens"].min()) / 1.15, float(points["n_tokens"].max()) * 1.15, 24)  # type: ignore[arg-type]
        for size, n in points.group_by("size", maintain_order=True).agg(pl.col(count).first()).iter_rows():
            loss = predicted_loss(law, np.full_like(d, n), d)
            if loss is None:
                break
            has_law = True
            rows += [
                {"kind": "law", "size": size, "n_tokens": x, "loss": y}
                for x, y in zip(d.tolist(), loss.tolist(), strict=True)
            ]
    base = {
        "x": log_axis(alt.X, "n_tokens", "D, tokens read"),
        "y": alt.Y("loss:Q", title=LOSS, scale=alt.Scale(zero=False)),
        "color": size_colour(study.sizes),
    }
    tip = tooltip("size:N", "n_tokens:Q", "loss:Q", "low:Q", "high:Q")
    layers = [
        layer("held-out").mark_rule(strokeWidth=1.5).encode(**{**base, "y": alt.Y("low:Q", title=LOSS)}, y2="high:Q"),
        layer("held-out").mark_point().encode(**base, tooltip=tip),
    ]
    if has_law:
        layers.insert(0, layer("law").mark_line(strokeWidth=1.4).encode(**base))
    drawn = "lines: the fitted law E + A/N^α + B/D^β" if has_law else "no law was fitted"
    return figure(
        f"loss-tokens.{arm}",
        "By arm",
        f"Held-out loss against data, by size: {arm}",
        f"Points: held-out loss of annealed models, ± 2 standard errors of the evaluation; {drawn}.",
        f"Held-out loss of {arm} against tokens read, one colour a model size.",
        rows,
        layers,
    )


def bits_per_base(study: StudyOutput) -> Figure | None:
    """Draw held-out bits per base of every arm and size at its largest budget, with the baselines."""
    rows: list[dict[str, Any]] = []
    for arm in study.arms:
        points = study.points(arm).filter(pl.col("bits_per_base").is_not_null())
        largest = points.filter(pl.col("n_tokens") == pl.col("n_tokens").max().over("size"))
        for point in largest.iter_rows(named=True):
            known = {name: point[name] for name in ("arm", "size", "bits_per_base", "bits_per_base_se")}
            rows.append({"kind": "model", **known})
        for name, (bits, se) in strongest_baselines(study, arm).items():
            known = {"arm": arm, "baseline": name, "bits_per_base": bits, "bits_per_base_se": se}
            rows.append({"kind": "baseline", **known})
    if not any(row["kind"] == "model" for row in rows):
        return None
    title = "held-out bits per base (less is better)"
    x = alt.X("bits_per_base:Q", title=title, scale=alt.Scale(zero=False))
    y = alt.Y("arm:N", sort=list(study.arms), title=None)
    base = {"x": x, "y": y}
    tip = tooltip("arm:N", "size:N", "bits_per_base:Q", "bits_per_base_se:Q")
    shape = alt.Shape("baseline:N", title="without a network", sort=None, legend=alt.Legend(columns=2))
    layers = [
        layer("model").mark_point().encode(**base, color=size_colour(study.sizes), tooltip=tip),
    ]
    if any(row["kind"] == "baseline" for row in rows):
        marks = layer("baseline").mark_point(filled=False, color="#8a8f98", size=70, strokeWidth=1.4)
        layers.append(marks.encode(**base, shape=shape, tooltip=tooltip("arm:N", "baseline:N", "bits_per_base:Q")))
    return figure(
        "bits-per-base",
        "Between arms",
        "Bits per base by corpus and tokenizer",
        "Coloured: each arm's models at their largest budget of data. Grey: models without a network on the same "
        "held-out DNA. Standard errors are mostly common to all; the next figures are paired.",
        "Dot plot of held-out bits per base for every arm and model size, beside the baselines.",
        rows,
        layers,
        height=90 + 55 * len(study.arms),
    )


def arm_differences(study: StudyOutput) -> list[Figure]:
    """Draw the paired differences between arms: of those that share a tokenizer, and of those that do not."""
    by_kind: dict[str, list[Difference]] = {"corpora": [], "tokenizers": []}
    for one in differences(study):
        same = study.tokenizer(one.arm) == study.tokenizer(one.other)
        by_kind["corpora" if same else "tokenizers"].append(one)
    return [_intervals(kind, pairs) for kind, pairs in by_kind.items() if pairs]


def _intervals(kind: str, pairs: list[Difference]) -> Figure:
    rows: list[dict[str, Any]] = [
        {"kind": "pair", "pair": f"{d.arm} − {d.other}", "difference": d.mean, "low": d.low, "high": d.high}
        | {"n_cells": d.n_cells, "n_runs": d.n_runs}
        for d in pairs
    ]
    rows.append({"kind": "zero", "difference": 0.0})
    title = "difference (bits per base)"
    y = alt.Y("pair:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    tip = tooltip("pair:N", "difference:Q", "low:Q", "high:Q", "n_cells:Q", "n_runs:Q")
    return figure(
        f"differences-{kind}",
        "Between arms",
        f"Differences between {kind}",
        "Mean difference of held-out bits per base at equal size, tokens and seed, with its 95 % interval over runs "
        "and clusters of held-out DNA. Left of zero the arm named first is better."
        + (" Equal tokens of different tokenizers are different numbers of bases." if kind == "tokenizers" else ""),
        f"Interval plot of paired differences in bits per base between {kind}, with a line at zero.",
        rows,
        [
            layer("zero").mark_rule(strokeDash=[3, 3]).encode(x=alt.X("difference:Q", title=title)),
            layer("pair").mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y),
            layer("pair").mark_point(color=CATEGORY[0]).encode(x=alt.X("difference:Q", title=title), y=y, tooltip=tip),
        ],
        height=60 + 32 * len(pairs),
    )


def epochs(study: StudyOutput) -> Figure | None:
    """Draw how often the training DNA was read, against data."""
    table = study.observations.filter(pl.col("epochs").is_not_null())
    if table.is_empty():
        return None
    cells = table.group_by("arm", "n_tokens", "n_unique_bases", maintain_order=True).agg(pl.col("epochs").mean())
    rows: list[dict[str, Any]] = [{"kind": "arm", **row} for row in cells.iter_rows(named=True)]
    rows.append({"kind": "limit", "epochs": float(MUENNIGHOFF)})
    y = log_axis(alt.Y, "epochs", "epochs (bases read / unique bases)")
    line = layer("arm").mark_line(point=True)
    layers = [
        layer("limit").mark_rule(strokeDash=[3, 3]).encode(y=y),
        line.encode(
            x=log_axis(alt.X, "n_tokens", "D, tokens read"),
            y=y,
            color=arm_colour(study.arms),
            detail="n_unique_bases:N",
            tooltip=tooltip("arm:N", "n_tokens:Q", "epochs:Q", "n_unique_bases:Q"),
        ),
    ]
    return figure(
        "epochs",
        "Data and training",
        "Epochs against data",
        f"Bases read, divided by the distinct bases that could be read. Dashed: {MUENNIGHOFF} epochs, up to which "
        "Muennighoff et al. (2023) found repeated text worth almost as much as new.",
        "Line chart of epochs against tokens read, one line an arm.",
        rows,
        layers,
        height=260,
    )
