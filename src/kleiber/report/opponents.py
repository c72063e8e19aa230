"""Networks beside counting: curves of count models over data, and how many bases of counting a network is worth.

`baselines.json` has how counts score that have read what the runs of an arm read, at several amounts of data. Here they
are only looked up and interpolated. The best order at each point is chosen with the held-out DNA in sight, which
favours the counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import altair as alt
import polars as pl

from kleiber.report.numbers import compact
from kleiber.report.reader import StudyOutput
from kleiber.report.style import Figure, figure, layer, log_axis, size_colour, tooltip

__all__ = ["KINDS", "CountPoint", "Worth", "count_curve", "counts_figure", "worth"]

KINDS = {
    "markov-": "before (best order)",
    "two-sided-": "both sides (best width)",
    "two-sided-mean": "both sides, mean",
}


@dataclass(frozen=True)
class CountPoint:
    """What counting reaches with some data.

    Attributes
    ----------
    n_tokens, n_bases
        What was read.
    bits
        Bits per base of the best model of each of `KINDS`.
    names
        Which model that is.
    """

    n_tokens: int
    n_bases: int
    bits: dict[str, float]
    names: dict[str, str]

    @property
    def best(self) -> float:
        """The least bits per base of all."""
        return min(self.bits.values())


@dataclass(frozen=True)
class Worth:
    """How many bases counts have to read to score as a network does.

    `bound` is ``"<"`` or ``">"`` where the curve begins below its score, or ends above it, at `n_bases`; else empty.
    """

    n_bases: float
    bound: str = ""

    def __str__(self) -> str:
        words = {"<": "fewer than ", ">": "more than "}
        return f"{words.get(self.bound, '')}{compact(self.n_bases)}"


def count_curve(entries: Mapping[str, Any]) -> list[CountPoint]:
    """Return the counts of an arm, of its entries in ``baselines.json``, in the order of their data."""
    points = []
    for entry in entries.get("curve") or ():
        scores = {name: float(score["bits_per_base"]) for name, score in entry["scores"].items()}
        names = {}
        for kind in KINDS:
            alike = [name for name in scores if _is_of(name, kind)]
            if alike:
                names[kind] = min(alike, key=scores.__getitem__)
        bits = {kind: scores[name] for kind, name in names.items()}
        points.append(CountPoint(entry["n_tokens"], entry["n_bases"], bits, names))
    return points


def _is_of(name: str, kind: str) -> bool:
    return name == kind if kind == "two-sided-mean" else name.startswith(kind) and name != "two-sided-mean"


def worth(curve: list[CountPoint], bits: float) -> Worth | None:
    """Return how many bases of counting score `bits`: between two points, on a line over log bases."""
    if not curve:
        return None
    if bits > curve[0].best:
        return Worth(curve[0].n_bases, "<")
    for before, after in pairwise(curve):
        if after.best <= bits <= before.best:
            share = (before.best - bits) / (before.best - after.best) if before.best > after.best else 0.0
            log_bases = math.log(before.n_bases) + share * (math.log(after.n_bases) - math.log(before.n_bases))
            return Worth(math.exp(log_bases))
    return Worth(curve[-1].n_bases, ">")


def counts_figure(study: StudyOutput, arm: str) -> Figure | None:
    """Draw held-out bits per base of an arm's models and of counts against the bases read."""
    curve = count_curve(study.baselines.get(arm) or {})
    scored = study.points(arm).filter(pl.col("bits_per_base").is_not_null() & pl.col("n_bases").is_not_null())
    if not curve or scored.is_empty():
        return None
    rows: list[dict[str, Any]] = [
        {"kind": "counts", "counts": KINDS[kind], "model": point.names[kind], "bits_per_base": bits}
        | {"n_bases": point.n_bases, "n_tokens": point.n_tokens}
        for point in curve
        for kind, bits in point.bits.items()
    ]
    names = ("size", "n_bases", "n_tokens", "bits_per_base")
    rows += [{"kind": "model", **{name: row[name] for name in names}} for row in scored.iter_rows(named=True)]
    base = {
        "x": log_axis(alt.X, "n_bases", "bases read"),
        "y": alt.Y("bits_per_base:Q", title="held-out bits per base", scale=alt.Scale(zero=False)),
    }
    dash = alt.StrokeDash("counts:N", sort=list(KINDS.values()), title="counts of the bases")
    tip = tooltip("counts:N", "model:N", "n_bases:Q", "n_tokens:Q", "bits_per_base:Q")
    lines = layer("counts").mark_line(color="#8a8f98", strokeWidth=1.6, point={"color": "#8a8f98", "size": 25})
    points = layer("model").mark_point()
    return figure(
        f"counts.{arm}",
        "By arm",
        f"Networks beside counting: {arm}",
        "Coloured: annealed models. Grey: counts of bases, fitted on the windows that their runs read. Counts see "
        "every base around the one they are asked for; networks see none of the masked token.",
        f"Bits per base of {arm} against bases read: a colour a model size, grey lines for models that count.",
        rows,
        [
            lines.encode(**base, strokeDash=dash, tooltip=tip),
            points.encode(
                **base,
                color=size_colour(study.sizes),
                tooltip=tooltip("size:N", "n_bases:Q", "n_tokens:Q", "bits_per_base:Q"),
            ),
        ],
    )
