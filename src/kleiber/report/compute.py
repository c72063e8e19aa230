"""The one figure of a report's first screen: bits per base against compute, a line a size, beside what counts reach.

It needs no law, so that it shows the same whether an exponent is identified or not. Counts of bases have no compute to
speak of; what they are given is data. So they stand where the smallest network that read the same data stands: at any
compute no network there has read more. Rejected: one curve of counts for each size, of which all but that one favour
the networks, and the loss in nats, which no opponent and no other tokenizer shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from kleiber.report.opponents import count_curve
from kleiber.report.style import Figure, figure, layer, log_axis, size_colour, tooltip

__all__ = ["OPPONENTS", "PANELS", "bits_against_compute", "opponents_over_compute"]

PANELS = 6  # that can still be read side by side
OPPONENTS = {"best Markov chain": ("markov-",), "best counts of both sides": ("two-sided-", "two-sided-mean")}
DASHES = [[6, 3], [2, 2]]
GREY = "#7f8790"


def bits_against_compute(
    table: pl.DataFrame, opponents: Mapping[str, Any], arms: Sequence[str] = (), name: str = "bits-compute"
) -> Figure | None:
    """Draw held-out bits per base against compute: a line a size, a panel an arm, counts in grey.

    Parameters
    ----------
    table
        Observations: ``arm``, ``size``, ``n_params``, ``n_tokens``, ``flops`` and ``bits_per_base`` of annealed models;
        of runs on repeated data (``n_unique_bases``) those on the most unique data are drawn.
    opponents
        What needs no network, by arm, as ``baselines.json`` of a study has it; may be empty.
    arms
        The arms to draw, in order; those of the table by default.

    Returns
    -------
    The figure, which `kleiber.report.style.save` writes as SVG, PNG and CSV; None where nothing was scored.
    """
    scored = table.filter(pl.col("bits_per_base").is_finite() & (pl.col("flops") > 0))
    if "n_unique_bases" in table.columns:
        fresh = pl.col("n_unique_bases").fill_null(0)
        scored = scored.filter(fresh == fresh.max().over("arm"))
    arms = [arm for arm in (arms or scored["arm"].unique(maintain_order=True)) if arm in set(scored["arm"])]
    scored = scored.filter(pl.col("arm").is_in(arms)).sort("n_params", "n_tokens")
    if scored.is_empty():
        return None
    names = ("arm", "size", "n_tokens", "flops", "bits_per_base")
    rows: list[dict[str, Any]] = [{"kind": "model", **row} for row in scored.select(names).iter_rows(named=True)]
    means = scored.group_by("arm", "size", "n_tokens", maintain_order=True).agg(pl.col("flops", "bits_per_base").mean())
    rows += [{"kind": "size", **row} for row in means.iter_rows(named=True)]
    for arm in arms:
        counts = opponents_over_compute(scored.filter(pl.col("arm") == arm), opponents.get(arm) or {})
        rows += [{"kind": "opponent", "arm": arm, **row} for row in counts]
    panels = arms if len(arms) > 1 else []
    drawn = [one for one in OPPONENTS if any(row.get("opponent") == one for row in rows)]
    return figure(
        name,
        "First",
        "Bits per base against compute",
        _caption(scored, bool(drawn)),
        "Line chart: held-out bits per base against training compute, a coloured line a model size, "
        + ("a panel an arm, " if panels else "")
        + "grey lines for models that count bases.",
        rows,
        _layers(list(scored["size"].unique(maintain_order=True)), drawn),
        height=400 if not panels else 165 if len(panels) > 2 else 330,
        panels=panels,
    )


def opponents_over_compute(scored: pl.DataFrame, entries: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return how counts score over the compute of one arm, flat beyond the most data read.

    Parameters
    ----------
    scored
        The arm's models. A row of counts of D tokens gets the compute of its smallest size at D.
    entries
        Its scores by name; those of ``"curve"`` where it has one, else one level each.
    """
    smallest = scored.filter(pl.col("n_params") == pl.col("n_params").min())
    per_token = float((smallest["flops"] / smallest["n_tokens"]).mean())  # type: ignore[arg-type]
    low, high = float(scored["flops"].min()), float(scored["flops"].max())  # type: ignore[arg-type]
    rows = []
    for name, kinds in OPPONENTS.items():
        points = []
        for point in count_curve(entries):
            known = [kind for kind in kinds if kind in point.bits]
            if known and point.n_tokens >= 0.99 * float(scored["n_tokens"].min()):  # type: ignore[arg-type]
                best = min(known, key=point.bits.__getitem__)
                points.append((max(low, per_token * point.n_tokens), point.bits[best], point.names[best]))
        levels = {key: one["bits_per_base"] for key, one in entries.items() if key.startswith(kinds[0])}
        if not points and levels:
            best = min(levels, key=levels.__getitem__)
            points = [(low, levels[best], best)]
        if points and points[-1][0] < high:
            points.append((high, *points[-1][1:]))
        rows += [{"opponent": name, "flops": c, "bits_per_base": bits, "model": model} for c, bits, model in points]
    return rows


def _layers(sizes: list[str], opponents: list[str]) -> list[alt.Chart]:
    base = {
        "x": log_axis(alt.X, "flops", "C, training compute (FLOPs)"),
        "y": alt.Y("bits_per_base:Q", title="held-out bits per base", scale=alt.Scale(zero=False)),
    }
    colour = size_colour(sizes)
    tip = tooltip("arm:N", "size:N", "n_tokens:Q", "flops:Q", "bits_per_base:Q")
    layers = [
        layer("size").mark_line(strokeWidth=1.6).encode(**base, color=colour),
        layer("model").mark_point(size=32).encode(**base, color=colour, tooltip=tip),
    ]
    if opponents:
        scale = alt.Scale(domain=opponents, range=DASHES[: len(opponents)])
        dash = alt.StrokeDash("opponent:N", scale=scale, title="without a network", legend=alt.Legend(columns=1))
        line = layer("opponent").mark_line(color=GREY, strokeWidth=1.8)
        layers.append(line.encode(**base, strokeDash=dash, tooltip=tooltip("opponent:N", "model:N", "bits_per_base:Q")))
    return layers


def _caption(scored: pl.DataFrame, has_opponents: bool) -> str:
    text = "Each point is an annealed model at one of its budgets of data; lines join those of a size."
    errors = scored["bits_per_base_se"].drop_nulls().drop_nans() if "bits_per_base_se" in scored.columns else None
    if has_opponents:
        text += (
            " Grey: counts of bases that had as much data as the smallest network at that compute; those of both sides "
            "see every other base, a network no masked one."
        )
    if errors is not None and len(errors):
        typical = float(np.median(errors.to_numpy()))
        text += f" Standard error of a point: {typical:.2g}, mostly common to all, as the held-out DNA is."
    if "tokenizer" in scored.columns and scored["tokenizer"].n_unique() > 1:
        text += " Between tokenizers compare slopes, not heights: the cuts between tokens give part of the bases away."
    return text
