"""Results as text that can be read in a terminal, a pipe or a log: aligned, never cut, never coloured.

Rejected: a table of a terminal library, which cuts its cells to a width that a pipe does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

from kleiber.scaling.result import REFUSABLE, FitResult

__all__ = ["describe", "table"]

MEANS = {
    "BOUND_HIT": "a parameter ended on a bound, and its number means nothing",
    "MAX_ITER": "the optimizer gave up: not usable",
    "REFUSED": "the data cannot carry the estimate",
}
SAYS = {True: "for", False: "AGAINST", None: "cannot tell"}
NAMED = {
    "E": "loss that neither N nor D can remove",
    "A": "scale of A/N^α",
    "B": "scale of B/D^β",
    "alpha": "α, exponent of N",
    "beta": "β, exponent of D",
    "a": "N_opt ∝ C^a",
    "b": "D_opt ∝ C^b",
    "by_n": "-dL/dlnN of the largest models at the most data",
    "by_d": "-dL/dlnD there",
}
FIRST = ("a is not usable", "what would settle it")  # warnings that come before the numbers
GUESSES = ("error_in_noise", "nearest", "line")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns: names and sentences to the left, numbers to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    for i in range(len(header)):
        width = max(len(line[i]) for line in lines)
        is_text = any(line[i][:1].isalpha() and line[i] not in ("yes", "NO") for line in lines[1:])
        for line in lines:
            line[i] = line[i].ljust(width) if i == 0 or is_text else line[i].rjust(width)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def describe(result: FitResult) -> str:
    """Return what a result says, with its doubts, as lines of text."""
    lines = [f"{result.method} ({result.form}): {result.status} · {_meaning(result)}"]
    facts = [f"{result.n} {'curves' if result.method in ('envelope', 'gradient-rule') else 'points'}"]
    facts += [f"{key} {low:.3g} to {high:.3g}" for key, (low, high) in result.ranges.items()]
    if result.objective is not None:
        facts.append(f"objective {result.objective:.9g}")
    lines.append(", ".join(facts))
    if result.witnesses or not result.usable:
        lines += [f"! {warning}" for warning in result.warnings[:2] if warning.startswith(FIRST)]
    if result.estimates:
        rows = [_row(result, key) for key in result.estimates]
        lines.append(table(("", "estimate", "95 % low", "high", "identified", "meaning"), rows))
    if result.witnesses:
        rows = [(one["name"], SAYS[one["agrees"]], one["says"]) for one in result.witnesses]
        lines.append(table(("witness", "of a", "what it saw"), rows))
    if result.optima:
        points = [("", f"{o['flops']:.4g}", f"{o['n']:.4g}", f"{o['d']:.4g}") for o in result.optima]
        lines.append(table(("optima", "C", "N", "D"), points))
    if choices := result.settings.get("band_of_choices"):
        luck = result.settings["interval_of_luck"]
        lines.append(
            f"a by luck: {luck[0]:.4g} to {luck[1]:.4g}; over form, δ, counts and points left out: {choices[0]:.4g} to "
            f"{choices[1]:.4g}"
            if result.usable
            else "a is refused: what each witness would have it be stands beside it"
        )
    if result.holdouts:
        errors = [
            (str(row["left_out"]), str(row["points"]), *(_or_dash(row.get(key)) for key in ("error", *GUESSES)))
            for row in result.holdouts
        ]
        header = ("left out", "points", "error (nats)", "in luck", "nearest point", "line in ln C")
        lines.append(table(header, errors))
    lines += [f"! {warning}" for warning in result.warnings if not warning.startswith(FIRST)]
    return "\n".join(lines)


def _row(result: FitResult, key: str) -> tuple[str, ...]:
    """Return one estimate's line; an exponent of the frontier that is not identified has no number."""
    known = {True: "yes", False: "NO", None: ""}[result.identified.get("a" if key == "b" else key)]
    if key in REFUSABLE and not result.identified["a"]:
        return key, "refused", "–", "–", known, NAMED[key]
    low, high = (f"{v:.5g}" for v in result.intervals[key]) if key in result.intervals else ("–", "–")
    return key, f"{result.estimates[key]:.5g}", low, high, known, NAMED.get(key, "")


def _meaning(result: FitResult) -> str:
    if result.status != "CONVERGED":
        return MEANS[result.status]
    if result.method == "gradient-rule":
        return "computed as the original study did: not compute-optimal"
    if "a" in result.estimates:
        return "a is usable" if result.usable else "settled, but a is not usable"
    return "settled"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
