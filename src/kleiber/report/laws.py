"""Figures of the fitted laws: compute-optimal N and D, IsoFLOP valleys, elasticities, exponents."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from kleiber.report.measures import (
    PUBLISHED_FLOPS,
    PowerLaw,
    frontier,
    optima,
    published,
    size_count,
)
from kleiber.report.reader import METHODS, Law, StudyOutput
from kleiber.report.style import CATEGORY, Figure, figure, layer, log_axis, tooltip

__all__ = ["d_flops", "elasticity_map", "exponents", "isoflop_valleys", "n_flops"]

NAMES = {
    "parametric": "parametric law",
    "isoflop": "IsoFLOP",
    "envelope": "envelope",
    "gradient-rule": "original's rule",
}
PAYS = ("data pay more", "parameters pay more", "within noise")
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
    if points.is_empty() or study.identified(arm) is None:
        return None  # the models alone are in other figures
    column = size_count(study, arm) if which == "n" else "n_tokens"
    rows: list[dict[str, Any]] = [
        {"kind": "run", "flops": c, "value": v, "size": s}
        for c, v, s in zip(points["flops"], points[column], points["size"], strict=True)
    ]
    flops = np.geomspace(float(points["flops"].min()), float(points["flops"].max()), 16)  # type: ignore[arg-type]
    drawn: list[str] = []
    for method in METHODS:
        law = study.law(arm, method)
        lines = frontier(law) if law is not None and law.is_usable else None
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
    if not drawn:
        return None
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
        "Law",
        f"Compute-optimal {letter} against compute: {arm}",
        _optimum_caption(drawn, letter, original is not None, float(flops[-1])),
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


def _optimum_caption(drawn: list[str], letter: str, has_published: bool, high: float) -> str:
    text = f"Grey: the models trained. Coloured: the optimum by {', '.join(NAMES[m] for m in drawn)}"
    text += ", with the band of the parametric exponent's interval (C = 6·N·D)." if "parametric" in drawn else "."
    if has_published:
        far = PUBLISHED_FLOPS[0] / high
        text += f" Dashed: the line that the original study printed for {letter}"
        text += f", {far:.0e} times below its range: compare slopes, not heights." if far > 1 else "."
    return text


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
        "By arm",
        f"IsoFLOP valleys: {arm}",
        "Held-out loss of models of equal compute against their size. Diamonds: minima with their intervals, where a "
        "valley has both sides.",
        f"Loss against model size of {arm} at fixed compute, one curve a budget.",
        rows,
        layers,
    )


def elasticity_map(study: StudyOutput, arm: str) -> Figure | None:
    """Draw whether parameters or data pay more between neighbouring models, and where they balance."""
    law = study.law(arm, "elasticities")
    cells = law.raw.get("settings", {}).get("cells") or () if law is not None else ()
    if not cells or law is None:
        return None
    rows: list[dict[str, Any]] = []
    for cell in cells:
        row = {"kind": "cell"} | {key: cell[key] for key in ("n", "d", "by_n", "by_d")}
        row |= {"gap": abs(cell["by_d"] - cell["by_n"]), "verdict": PAYS[0 if cell["by_d"] > cell["by_n"] else 1]}
        if "by_n_interval" in cell:
            (n_low, n_high), (d_low, d_high) = cell["by_n_interval"], cell["by_d_interval"]
            row |= {"n_low": n_low, "n_high": n_high, "d_low": d_low, "d_high": d_high}
            if d_low <= n_high and n_low <= d_high:
                row["verdict"] = PAYS[2]
        rows.append(row)
    rows += [{"kind": "balance", "n": row["n"], "d": row["d"]} for row in optima(law).sort("n").iter_rows(named=True)]
    # No continuous colour: Vega numbers the gradients of such legends, and a page would not be the same bytes twice.
    scale = alt.Scale(domain=list(PAYS), range=[CATEGORY[0], CATEGORY[1], CATEGORY[7]])
    place = {
        "x": log_axis(alt.X, "d", "D, tokens read"),
        "y": log_axis(alt.Y, "n", f"N ({_count_name(size_count(study, arm))})"),
    }
    tip = tooltip("verdict:N", "n:Q", "d:Q", "by_n:Q", "n_low:Q", "n_high:Q", "by_d:Q", "d_low:Q", "d_high:Q")
    marks = {
        "color": alt.Color("verdict:N", scale=scale, title=None),
        "size": alt.Size("gap:Q", title="difference, nats", scale=alt.Scale(range=[40, 400])),
        "tooltip": tip,
    }
    layers = [
        layer("cell").mark_point().encode(**place, **marks),
        layer("balance").mark_line(strokeDash=[5, 3], color="#7F7F7F").encode(**place, order="n:Q"),
        layer("balance")
        .mark_point(shape="diamond", size=110, filled=False, color="#7F7F7F")
        .encode(**place, tooltip=tooltip("n:Q", "d:Q")),
    ]
    return figure(
        f"elasticity.{arm}",
        "By arm",
        f"What pays more, parameters or data: {arm}",
        "Which takes more off the loss for the same compute, by differences between neighbouring models (no law "
        "assumed). Grey: the two 95 % intervals overlap. Diamonds: where the two balance.",
        f"Map over N and D of {arm}: whether more data or more parameters lower the loss further.",
        rows,
        layers,
    )


def exponents(studies: list[StudyOutput]) -> Figure | None:
    """Draw the exponent a of every arm and method with its interval, beside the published value."""
    rows: list[dict[str, Any]] = []
    for study in studies:
        for arm in study.arms:
            if study.identified(arm) is None:
                continue
            label = arm if len(studies) == 1 else f"{study.name}: {arm}"
            for method in METHODS:
                law = study.law(arm, method)
                value = law.estimate("a") if law is not None and law.is_usable else None
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
        "Law",
        "Exponent a by arm and method",
        "Identified exponents only, with 95 % intervals. a = 0.5 shares new compute evenly between parameters and "
        "data; a = 1 spends it all on parameters. The original study's values have no intervals, and its rule is no "
        "criterion of optimal compute.",
        "Interval plot of the exponent a for each arm and method, with the original study's published values.",
        rows,
        layers,
        height=60 + 75 * len({row["arm"] for row in rows}),
    )
