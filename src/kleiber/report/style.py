"""How a figure is built, coloured and saved: one table and one Altair specification serve HTML, SVG, PNG and CSV.

A figure's specification carries no colours of its own where it can help it: colours come from a configuration that
the page swaps between light and dark. Rejected: matplotlib for the files beside a JavaScript library for the page,
which draws everything twice and lets the two drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from kleiber.storage import write_atomic

__all__ = [
    "WIDTH",
    "Figure",
    "arm_colour",
    "config",
    "figure",
    "layer",
    "log_axis",
    "only",
    "save",
    "size_colour",
    "tooltip",
]

WIDTH, HEIGHT = 640, 340
# Okabe and Ito (2008): told apart by colour-blind readers, on white and on black.
CATEGORY = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F"]


@dataclass(frozen=True)
class Figure:
    """One figure of the report.

    Attributes
    ----------
    name
        File name without ending, and anchor in the page.
    group
        Heading under which the page shows it.
    caption
        What is drawn, with units; ends in a full stop.
    alt
        What a reader who cannot see the figure needs to know.
    table
        Every value drawn; the CSV beside the figure.
    chart
        The specification, without data and without theme.
    panels
        The arms that have a panel each, in order; none where all rows share one.
    """

    name: str
    group: str
    title: str
    caption: str
    alt: str
    table: pl.DataFrame
    chart: Any
    panels: tuple[str, ...] = ()

    def spec(self) -> dict[str, Any]:
        """Return the Vega-Lite specification with its data, ready for JSON; non-finite values are null."""
        spec: dict[str, Any] = self.chart.to_dict(validate=False)
        spec.pop("config", None)
        for child in spec["layer"]:
            child.pop("data", None)  # all layers draw the one table
        for channel in ("x", "y"):
            _scale_log(spec["layer"], channel, self.table)
        if self.panels:
            spec = _in_panels(spec, self.panels)
        spec["data"] = {"values": [_compact(row) for row in self.table.iter_rows(named=True)]}
        spec["description"] = self.alt
        return spec


def figure(
    name: str,
    group: str,
    title: str,
    caption: str,
    alt_text: str,
    rows: Sequence[Mapping[str, Any]] | pl.DataFrame,
    layers: Sequence[alt.Chart],
    height: int = HEIGHT,
    panels: Sequence[str] = (),
) -> Figure:
    """Assemble one figure from the rows of its table and its layers; `panels` are values of ``arm``."""
    table = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, infer_schema_length=None)
    chart = alt.layer(*layers).properties(width=WIDTH, height=height)
    return Figure(name, group, title, caption, alt_text, table, chart, tuple(panels))


def layer(kind: str | Sequence[str] | None = None) -> alt.Chart:
    """Return a chart on the figure's table, or on those of its rows whose ``kind`` is given."""
    chart = alt.Chart()
    return chart if kind is None else chart.transform_filter(only(kind))


def only(kind: str | Sequence[str]) -> Any:
    """Return the filter that keeps rows of one kind, or of several."""
    kinds = [kind] if isinstance(kind, str) else list(kind)
    return alt.FieldOneOfPredicate(field="kind", oneOf=kinds)


def log_axis(channel: Any, field: str, title: str) -> Any:
    """Return a logarithmic quantitative encoding.

    Labels are such as 0.5, 2M or 1e13; ticks come from the table.
    """
    big = "replace(format(datum.value, '.1~e'), '+', '')"
    text = f"datum.value >= 1e9 ? {big} : datum.value < 1 ? format(datum.value, '~g') : format(datum.value, '~s')"
    return channel(f"{field}:Q", title=title, scale=alt.Scale(type="log"), axis=alt.Axis(labelExpr=text))


def size_colour(sizes: Sequence[str], title: str = "N (size)") -> alt.Color:
    """Return the colour of model sizes: ordered, small to large."""
    return alt.Color("size:O", sort=list(sizes), scale=alt.Scale(domain=list(sizes)), title=title)


def arm_colour(arms: Sequence[str], field: str = "arm", title: str = "arm") -> alt.Color:
    """Return the colour of arms, the same in every figure."""
    return alt.Color(f"{field}:N", sort=list(arms), scale=alt.Scale(domain=list(arms)), title=title)


def tooltip(*fields: str) -> list[alt.Tooltip]:
    """Return what a mark shows when pointed at; numbers to five digits."""
    return [alt.Tooltip(one, format=".5~g") if one.endswith(":Q") else alt.Tooltip(one) for one in fields]


def config(dark: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite configuration of the light or the dark theme."""
    ink, faint, grid = ("#e6e6e6", "#9aa0a6", "#3a3d42") if dark else ("#1f2328", "#57606a", "#e3e6ea")
    sizes = {"scheme": "viridis", "extent": [0.25, 1.0] if dark else [0.0, 0.82]}
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    return {
        "background": None if dark else "white",
        "font": "system-ui, 'DejaVu Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": grid, "domainColor": faint, "tickColor": faint},
        "header": {"labelColor": ink, "labelFontSize": 12, "labelFontWeight": 600, "labelPadding": 3},
        "legend": {**text, "orient": "bottom", "columns": 5, "symbolLimit": 40, "labelLimit": 260},
        "range": {"category": CATEGORY, "ordinal": sizes},
        "mark": {"tooltip": True},
        "line": {"strokeWidth": 2},
        "point": {"size": 60, "filled": True, "opacity": 1},
        "rule": {"color": ink},
        "text": {"color": ink, "fontSize": 12},
        "tick": {"color": ink},
    }


def save(drawn: Figure, folder: Path) -> None:
    """Write one figure as SVG, PNG (twice the pixels) and CSV; files land atomically."""
    import vl_convert

    spec = {**drawn.spec(), "config": config()}
    spec["title"] = {"text": drawn.title, "anchor": "start", "fontSize": 14, "fontWeight": 600, "offset": 12}
    # Files stand alone, so the table is written beside them in full precision.
    svg = vl_convert.vegalite_to_svg(spec)
    write_atomic(folder / f"{drawn.name}.svg", svg)
    write_atomic(folder / f"{drawn.name}.png", vl_convert.svg_to_png(svg, scale=2))
    write_atomic(folder / f"{drawn.name}.csv", drawn.table.write_csv())


def _in_panels(spec: dict[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    """Give each arm a panel of its own, on shared axes, in rows of two or three."""
    columns = 2 if len(arms) <= 4 else 3
    plot = {"layer": spec.pop("layer"), "width": round(spec.pop("width") / columns), "height": spec.pop("height")}
    by = {"field": "arm", "type": "nominal", "sort": list(arms), "title": None}
    return spec | {"facet": by, "columns": columns, "spacing": {"row": 12, "column": 26}, "spec": plot}


def _scale_log(layers: list[dict[str, Any]], channel: str, table: pl.DataFrame) -> None:
    """Give a logarithmic channel one domain and few round ticks; Vega's own crowd a short axis with every digit."""
    encodings = [child["encoding"][channel] for child in layers if channel in child["encoding"]]
    logs = [one for one in encodings if one.get("scale", {}).get("type") == "log"]
    second = [child["encoding"].get(f"{channel}2", {}) for child in layers]
    fields = {one["field"] for one in [*logs, *second] if one.get("field") in table.columns}
    values = [v for field in fields if logs for v in table[field].drop_nulls().to_list() if v > 0]
    if not values:
        return
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.03 * (high - low), 0.02)
    ticks = _log_ticks(low - margin, high + margin)
    for one in logs:
        one["scale"] |= {"domain": [10 ** (low - margin), 10 ** (high + margin)], "nice": False}
        one["axis"] |= {"values": ticks}


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round values between two powers of ten, at most about eight."""
    span = high - low
    digits = tuple(range(1, 10)) if span < 0.7 else (1, 2, 5) if span < 2.3 else (1, 3) if span < 3.5 else (1,)
    step = max(1, math.ceil(span / 8))
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades if decade % step == 0 for digit in digits]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _compact(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without nulls and with numbers to six digits: what a screen can show, at half the bytes."""
    short = {}
    for key, value in row.items():
        if isinstance(value, float):
            if not math.isfinite(value):
                continue
            value = float(f"{value:.6g}")
            value = int(value) if value.is_integer() and abs(value) < 1e15 else value
        if value is not None:
            short[key] = value
    return short
