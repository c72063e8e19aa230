"""Figures of the fitted laws: compute-optimal N and D, IsoFLOP valleys, residuals, exponents."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from kleiber.report.measures import (
    PUBLISHED_FLOPS,
    PowerLaw,
    frontier,
    optima,
    predicted_loss,
    published,
    size_count,
)
from kleiber.report.reader import METHODS, Law, StudyOutput
from kleiber.report.style import CATEGORY, Figure, arm_colour, arm_group, figure, layer, log_axis, tooltip

__all__ = ["d_flops", "exponents", "isoflop_valleys", "n_flops", "profiles", "residuals"]

NAMES = {
    "parametric": "parametric law",
    "isoflop": "IsoFLOP",
    "envelope": "envelope",
    "gradient-rule": "original's rule (not compute-optimal)",
}
PUBLISHED_NAME = "original study, published"


def _method_colour(rows: list[dict[str, Any]]) -> alt.Color:
    """Return the colour of methods, the same in every figure; the legend lists those that are drawn."""
    drawn = {row.get("method") for row in rows}
    every = zip([*NAMES.values(), PUBLISHED_NAME], [0, 2, 4, 1, 7], strict=True)
    names = {name: CATEGORY[i] for name, i in every if name in drawn}
    scale = alt.Scale(domain=list(names), range=list(names.values()))
    return alt.Color("method:N", scale=scale, title=None, legend=alt.Legend(columns=2, symbolOpacity=1))


def n_flops(study: StudyOutput, arm: str) -> Figure | None:
    """Draw the compute-optimal number of parameters against compute, by every method."""
    return _optimum(study, arm, "n", f"N ({_count_name(size_count(study, arm))})")


def d_flops(study: StudyOutput, arm: str) -> Figure | None:
    """Draw the compute-optimal number of tokens against compute, by every method."""
    return _optimum(study, arm, "d", "D, tokens read")


def _count_name(column: str) -> str:
    names = {"n_params": "parameters", "n_params_non_embedding": "parameters without embeddings"}
    return names.get(column, column.removeprefix("n_") + " parameters")


def _optimum(study: StudyOutput, arm: str, which: str, title: str) -> Figure | None:
    points = study.points(arm)
    if points.is_empty():
        return None
    column = size_count(study, arm) if which == "n" else "n_tokens"
    rows: list[dict[str, Any]] = [
        {"kind": "run", "flops": c, "value": v, "size": s}
        for c, v, s in zip(points["flops"], points[column], points["size"], strict=True)
    ]
    flops = np.geomspace(float(points["flops"].min()), float(points["flops"].max()), 16)  # type: ignore[arg-type]
    drawn: list[str] = []
    for method in METHODS:
        law = study.law(arm, method)
        lines = frontier(law) if law is not None and law.status != "REFUSED" else None
        if law is None or lines is None:
            continue
        drawn.append(method)
        rows += _fan(law, lines[0 if which == "n" else 1], which, flops)
        for point in optima(law).iter_rows(named=True):
            ends = {}
            if point["n_low"] and point["n_high"]:
                n_ends = (point["n_low"], point["n_high"])
                low, high = n_ends if which == "n" else [point["flops"] / (6 * n) for n in reversed(n_ends)]
                ends = {"low": low, "high": high}
            rows.append(
                {"kind": "optimum", "method": NAMES[method], "flops": point["flops"], "value": point[which], **ends}
            )
    original = published(study, arm)
    if original is not None:
        line = original.n if which == "n" else original.d
        rows += [
            {"kind": "published", "method": PUBLISHED_NAME, "flops": c, "value": v}
            for c, v in zip(flops.tolist(), line(flops).tolist(), strict=True)
        ]
    letter = which.upper()
    return figure(
        f"{letter}-flops.{arm}",
        arm_group(arm),
        f"Compute-optimal {letter} against compute: {arm}",
        _optimum_caption(drawn, letter, original is not None, float(flops[0]), float(flops[-1])),
        f"Optimal {letter} of {arm} against compute by {len(drawn)} methods, beside the original study's line.",
        rows,
        _optimum_layers(title, _method_colour(rows), {row["kind"] for row in rows}),
    )


def _fan(law: Law, line: PowerLaw, which: str, flops: np.ndarray) -> list[dict[str, Any]]:
    """Return a method's line, with the interval of its exponent as a fan about the middle of the compute."""
    exponent = law.interval("a" if which == "n" else "b")
    middle = float(np.sqrt(flops[0] * flops[-1]))
    rows = []
    for c, v in zip(flops.tolist(), line(flops).tolist(), strict=True):
        row: dict[str, Any] = {"kind": "line", "method": NAMES[law.method], "flops": c, "value": v}
        if exponent is not None and law.method == "parametric":
            ends = sorted(v * (c / middle) ** (slope - line.slope) for slope in exponent)
            row |= {"low": ends[0], "high": ends[1]}
        rows.append(row)
    return rows


def _optimum_layers(title: str, colour: alt.Color, kinds: set[str]) -> list[alt.Chart]:
    """Return the layers that have something to draw: an empty one leaves a legend of no size, which Vega cannot lay."""
    x = log_axis(alt.X, "flops", "C, training compute (FLOPs)")
    y = log_axis(alt.Y, "value", title)
    base = {"x": x, "y": y, "color": colour}
    tip = tooltip("method:N", "flops:Q", "value:Q", "low:Q", "high:Q")
    ends = {"x": x, "y": log_axis(alt.Y, "low", title), "y2": "high:Q", "color": colour}
    fan = layer("line").transform_filter("isValid(datum.low)").mark_area(opacity=0.15, line=False)
    bars = layer("optimum").transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5)
    runs = layer("run").mark_point(size=22, color="#8a8f98", opacity=0.55)
    layers = [
        ("line", fan.encode(**ends)),
        ("run", runs.encode(x=x, y=y, tooltip=tooltip("size:N", "flops:Q", "value:Q"))),
        ("line", layer("line").mark_line().encode(**base, tooltip=tip)),
        ("published", layer("published").mark_line(strokeDash=[6, 4]).encode(**base, tooltip=tip)),
        ("optimum", bars.encode(**ends)),
        ("optimum", layer("optimum").mark_point(size=70, stroke="white", strokeWidth=0.6).encode(**base, tooltip=tip)),
    ]
    return [drawn for kind, drawn in layers if kind in kinds]


def _optimum_caption(drawn: list[str], letter: str, has_published: bool, low: float, high: float) -> str:
    text = "Grey dots: the models trained. "
    text += (
        f"Lines and points: the optimum by {', '.join(NAMES[m] for m in drawn)}. " if drawn else "No law is fitted. "
    )
    if "parametric" in drawn:
        text += (
            "Shaded: the interval of the parametric exponent, turned about the middle of the compute. "
            "Optima of the parametric law take C = 6·N·D. "
        )
    if "gradient-rule" in drawn:
        text += (
            "The original's rule stops each loss curve at a fixed slope; on any separable law it returns exponent 1, "
            "so it is shown for comparison only. "
        )
    if has_published:
        far = PUBLISHED_FLOPS[0] / high
        text += (
            f"Dashed: the original study's printed line for {letter}, fitted at {PUBLISHED_FLOPS[0]:.1g} to "
            f"{PUBLISHED_FLOPS[1]:.1g} FLOPs"
        )
        text += f" and continued here {far:.0e} times below its range: compare slopes, not heights." if far > 1 else "."
    return text.strip()


def isoflop_valleys(study: StudyOutput, arm: str) -> Figure | None:
    """Draw loss against N at each budget of compute, with the fitted valleys and their minima."""
    law = study.law(arm, "isoflop")
    rows: list[dict[str, Any]] = []
    for budget in law.raw.get("valleys") or () if law is not None else ():
        c = f"{budget['flops']:.2g}"
        rows += [
            {"kind": "point", "budget": c, "n": n, "loss": loss}
            for n, loss in zip(budget.get("n", ()), budget.get("loss", ()), strict=True)
        ]
        rows += [
            {"kind": "curve", "budget": c, "n": n, "loss": loss}
            for n, loss in zip(budget.get("curve_n", ()), budget.get("curve_loss", ()), strict=True)
        ]
        if budget.get("n_opt"):
            low, high = budget.get("n_interval") or (None, None)
            rows.append({"kind": "minimum", "budget": c, "n": budget["n_opt"], "loss": budget.get("loss_opt")})
            rows[-1] |= {"low": low, "high": high}
    if not rows:
        return None
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    colour = alt.Color("budget:O", sort=budgets, scale=alt.Scale(domain=budgets), title="C (FLOPs)")
    base = {
        "x": log_axis(alt.X, "n", f"N ({_count_name(size_count(study, arm))})"),
        "y": alt.Y("loss:Q", title="loss (nats per predicted token)", scale=alt.Scale(zero=False)),
        "color": colour,
    }
    tip = tooltip("budget:N", "n:Q", "loss:Q", "low:Q", "high:Q")
    layers = [
        layer("curve").mark_line(strokeWidth=1.4).encode(**base),
        layer("point").mark_point(size=40).encode(**base, tooltip=tip),
        layer("minimum").mark_rule(strokeWidth=1.5).encode(**{**base, "x": log_axis(alt.X, "low", "N")}, x2="high:Q"),
        layer("minimum").mark_point(shape="diamond", size=120, stroke="white").encode(**base, tooltip=tip),
    ]
    return figure(
        f"isoflop.{arm}",
        arm_group(arm),
        f"IsoFLOP valleys: {arm}",
        "Held-out loss of models that cost the same compute, against their size; diamonds: the minimum of each valley "
        "with its interval. A budget whose lowest point is its smallest or largest model has no minimum, and none is "
        "drawn.",
        f"Loss against model size of {arm} at fixed compute, one curve a budget.",
        rows,
        layers,
    )


def residuals(study: StudyOutput) -> list[Figure]:
    """Draw how far held-out losses lie from the fitted laws, against N, D and C."""
    rows: list[dict[str, Any]] = []
    for i, arm in enumerate(study.arms):
        aside = 1.02 ** (i - (len(study.arms) - 1) / 2)  # arms share N and D: drawn side by side
        law, points = study.law(arm), study.points(arm)
        if law is None or law.status == "REFUSED" or points.is_empty():
            continue
        n, d = points[size_count(study, arm)].to_numpy(), points["n_tokens"].to_numpy()
        expected = predicted_loss(law, n.astype(float), d.astype(float))
        if expected is None:
            continue
        for point, value in zip(points.iter_rows(named=True), expected.tolist(), strict=True):
            error = 200 * (point["loss_se"] or 0.0) / point["loss"]
            residual = 100 * (point["loss"] / value - 1)
            ends = {"low": residual - error, "high": residual + error}
            known = {"kind": "point", "arm": arm, "size": point["size"], "n": point[size_count(study, arm)]}
            known |= {"d": point["n_tokens"], "flops": point["flops"], "residual": residual, **ends}
            rows.append(known | {f"{name}_drawn": aside * known[name] for name in ("n", "d", "flops")})
    if not rows:
        return []
    table = pl.DataFrame([*rows, {"kind": "zero", "residual": 0.0}], infer_schema_length=None)
    axes = {"n": "N, parameters", "d": "D, tokens read", "flops": "C, training compute (FLOPs)"}
    return [_residual(study, table, field, title) for field, title in axes.items()]


def _residual(study: StudyOutput, table: pl.DataFrame, field: str, title: str) -> Figure:
    x = log_axis(alt.X, f"{field}_drawn", title)
    heading = "residual (% of loss)"
    y = alt.Y("residual:Q", title=heading)
    tip = tooltip("arm:N", "size:N", f"{field}:Q", "residual:Q", "low:Q", "high:Q")
    colour = arm_colour(study.arms)
    bars = layer("point").mark_rule(strokeWidth=1)
    layers = [
        layer("zero").mark_rule(strokeDash=[3, 3]).encode(y=y),
        bars.encode(x=x, y=alt.Y("low:Q", title=heading), y2="high:Q", color=colour),
        layer("point").mark_point(size=45).encode(x=x, y=y, color=colour, tooltip=tip),
    ]
    letter = {"n": "N", "d": "D", "flops": "C"}[field]
    return figure(
        f"residuals-{letter}",
        "How sure",
        f"Residuals against {letter}",
        f"Held-out loss relative to the fitted law of its arm, against {title} (bars: ± 2 standard errors of the "
        "evaluation). A trend or a curve here means that the form is wrong.",
        f"Scatter of residuals in percent against {letter}, coloured by arm, with a line at zero.",
        table.filter(pl.col(field).is_not_null() | (pl.col("kind") == "zero")),
        layers,
        height=240,
    )


def exponents(studies: list[StudyOutput]) -> Figure | None:
    """Draw the exponent a of every arm and method with its interval, beside the published value."""
    rows: list[dict[str, Any]] = []
    for study in studies:
        for arm in study.arms:
            label = arm if len(studies) == 1 else f"{study.name}: {arm}"
            for method in METHODS:
                law = study.law(arm, method)
                value = law.estimate("a") if law is not None and law.status != "REFUSED" else None
                if law is None or value is None:
                    continue
                low, high = law.interval("a") or (None, None)
                known = {"kind": "fit", "arm": label, "method": NAMES[method], "status": law.status}
                rows.append(known | {"a": value, "low": low, "high": high})
            original = published(study, arm)
            if original is not None:
                rows.append({"kind": "fit", "arm": label, "method": PUBLISHED_NAME, "a": original.n.slope})
    if not any(row["method"] != PUBLISHED_NAME for row in rows):
        return None
    methods = [*(NAMES[m] for m in METHODS), PUBLISHED_NAME]
    y = alt.Y("arm:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    offset = alt.YOffset("method:N", sort=methods, scale=alt.Scale(domain=methods))
    title = "a, exponent of N_opt ∝ C^a"
    bars = layer("fit").transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    colour = _method_colour(rows)
    tip = tooltip("arm:N", "method:N", "status:N", "a:Q", "low:Q", "high:Q")
    layers = [
        bars.encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y, yOffset=offset, color=colour),
        layer("fit")
        .mark_point()
        .encode(
            x=alt.X("a:Q", title=title, scale=alt.Scale(zero=False)),
            y=y,
            yOffset=offset,
            color=colour,
            tooltip=tip,
        ),
    ]
    return figure(
        "exponents",
        "What was found",
        "Exponent a by arm and method",
        "How the compute-optimal size grows with compute: a = 0.5 shares new compute evenly between parameters and "
        "data, a = 1 spends it all on parameters. Bars: 95 % intervals. The original study's values came from its own "
        "rule, which is no compute-optimality criterion, and had no intervals.",
        "Interval plot of the exponent a for each arm and method, with the original study's published values.",
        rows,
        layers,
        height=60 + 75 * len({row["arm"] for row in rows}),
    )


def profiles(study: StudyOutput) -> list[Figure]:
    """Draw the profile likelihoods that the parametric fits carry."""
    found = []
    names = {"a": "a", "E": "E (nats per token)", "alpha": "α", "beta": "β"}
    for parameter, title in names.items():
        rows: list[dict[str, Any]] = []
        for arm in study.arms:
            law = study.law(arm)
            curve = (law.raw.get("profiles") or {}).get(parameter) if law is not None else None
            if curve:
                rows += [
                    {"arm": arm, "value": value, "rise": rise}
                    for value, rise in zip(curve["values"], curve["rise"], strict=True)
                ]
        if rows:
            line = (
                layer()
                .mark_line()
                .encode(
                    x=alt.X("value:Q", title=title, scale=alt.Scale(zero=False)),
                    y=alt.Y("rise:Q", title="rise of the objective"),
                    color=arm_colour(study.arms),
                    tooltip=tooltip("arm:N", "value:Q", "rise:Q"),
                )
            )
            caption = f"Best objective at each fixed {parameter}, above the optimum. A flat curve: not identified."
            text = f"Profile curves of {parameter}, one line an arm."
            name = f"Profile of {parameter}"
            found.append(figure(f"profile-{parameter}", "How sure", name, caption, text, rows, [line], height=240))
    return found
