"""Figures of how sure the laws are: residuals, profiles of the objective, and predictions of what was left out."""

from __future__ import annotations

from math import log
from typing import Any

import altair as alt
import polars as pl

from kleiber.report.measures import predicted_loss, size_count
from kleiber.report.reader import StudyOutput
from kleiber.report.style import Figure, arm_colour, figure, layer, log_axis, tooltip

__all__ = ["RISE", "holdouts", "profiles", "residuals"]

RISE = "rise of the objective above its minimum"
GUESSES = {"error": "the law", "nearest": "nearest point seen", "line": "line of ln L on ln C"}


def residuals(study: StudyOutput) -> list[Figure]:
    """Draw how far held-out losses lie from the fitted laws, against N, D and C."""
    rows: list[dict[str, Any]] = []
    for i, arm in enumerate(study.arms):
        aside = 1.02 ** (i - (len(study.arms) - 1) / 2)  # arms share N and D: drawn side by side
        law, points = study.law(arm), study.fitted(arm)
        if law is None or law.status == "REFUSED" or points.is_empty():
            continue
        n, d = points[size_count(study, arm)].to_numpy(), points["n_tokens"].to_numpy()
        expected = predicted_loss(law, n.astype(float), d.astype(float))
        if expected is None:
            continue
        for point, value in zip(points.iter_rows(named=True), expected.tolist(), strict=True):
            residual = 100 * (point["loss"] / value - 1)
            known = {"kind": "point", "arm": arm, "size": point["size"], "n": point[size_count(study, arm)]}
            known |= {"d": point["n_tokens"], "flops": point["flops"], "residual": residual}
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
    tip = tooltip("arm:N", "size:N", f"{field}:Q", "residual:Q")
    colour = arm_colour(study.arms)
    layers = [
        layer("zero").mark_rule(strokeDash=[3, 3]).encode(y=y),
        layer("point").mark_point(size=45).encode(x=x, y=y, color=colour, tooltip=tip),
    ]
    letter = {"n": "N", "d": "D", "flops": "C"}[field]
    return figure(
        f"residuals-{letter}",
        "How sure",
        f"Residuals against {letter}",
        "Held-out loss relative to the law of its arm. A trend or a curve means that the form is wrong.",
        f"Scatter of residuals in percent against {letter}, coloured by arm, with a line at zero.",
        table.filter(pl.col(field).is_not_null() | (pl.col("kind") == "zero")),
        layers,
        height=240,
    )


def profiles(study: StudyOutput) -> list[Figure]:
    """Draw the profile likelihoods that the parametric fits carry; that of a where a is usable."""
    found = []
    names = {"a": "a", "E": "E (nats per token)", "alpha": "α", "beta": "β"}
    for parameter, title in names.items():
        rows: list[dict[str, Any]] = []
        for arm in study.arms:
            law = study.law(arm)
            curve = (law.raw.get("profiles") or {}).get(parameter) if law is not None else None
            if curve and law is not None and (parameter != "a" or law.is_usable):
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
                    y=alt.Y("rise:Q", title=RISE),
                    color=arm_colour(study.arms),
                    tooltip=tooltip("arm:N", "value:Q", "rise:Q"),
                )
            )
            caption = "Best objective with one parameter held fixed. A flat curve: that parameter is not identified."
            text = f"Profile curves of {parameter}, one line an arm."
            name = f"Profile of {title}"
            found.append(figure(f"profile-{parameter}", "How sure", name, caption, text, rows, [line], height=240))
    return found


def holdouts(study: StudyOutput) -> Figure | None:
    """Draw how well laws predict points that they were not fitted to, beside two naive guesses."""
    rows: list[dict[str, Any]] = []
    for arm in study.arms:
        law = study.law(arm)
        bases = study.points(arm)["bases_per_token"].drop_nulls()
        for entry in law.raw.get("holdouts") or () if law is not None else ():
            for key, name in GUESSES.items():
                if entry.get(key) is not None:
                    row = {"arm": arm, "left_out": entry["left_out"], "guess": name, "points": entry.get("points")}
                    row |= {"nats": entry[key], "bits": entry[key] / log(2) / bases[0] if len(bases) else None}
                    rows.append(row)
    if not rows:
        return None
    field = "bits" if all(row["bits"] is not None for row in rows) else "nats"
    title = "root mean square error ({})".format({"bits": "bits per base", "nats": "nats per token"}[field])
    left_out = list(dict.fromkeys(row["left_out"] for row in rows))
    shape = alt.Shape("guess:N", title=None, sort=list(GUESSES.values()), legend=alt.Legend(columns=1))
    place = {
        "x": log_axis(alt.X, field, title),
        "y": alt.Y("left_out:N", sort=left_out, title="left out"),
        "yOffset": alt.YOffset("arm:N", sort=list(study.arms)),
    }
    tip = tooltip("arm:N", "left_out:N", "guess:N", "points:Q", "nats:Q", "bits:Q")
    marks = layer().mark_point(size=55).encode(**place, color=arm_colour(study.arms), shape=shape, tooltip=tip)
    return figure(
        "holdouts",
        "How sure",
        "Predictions of what was left out",
        "Error on points that a law was fitted without. It is worth its parameters where it beats both naive guesses.",
        "Errors of the law and of two naive guesses on points left out, by arm and by what was left out.",
        rows,
        [marks],
        height=60 + 16 * len(study.arms) * len(left_out),
    )
