"""The verb of scaling laws: fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kleiber.scaling.result import FitResult

__all__ = ["fit"]


def fit(
    file: str,
    *,
    method: Literal["parametric", "isoflop", "envelope", "gradient-rule", "all"] = "parametric",
    form: str = "chinchilla",
    delta: float | None = None,
    columns: str = "",
    where: str = "",
    budgets: str = "",
    flops: Literal["6nd", "exact"] = "6nd",
    frequencies: float | None = None,
    force: bool = False,
    bootstrap: int = 1000,
    seed: int = 0,
    json: bool = False,
    out: Path | None = None,
) -> None:
    """Fit a scaling law to a table of (N, D, loss), and say how far to believe it.

    A fit that ran exits 0 whatever its status: CONVERGED, BOUND_HIT, MAX_ITER or REFUSED.

    Example: ``kleiber fit losses.csv --columns N=params,D=tokens,loss=val_loss``

    Parameters
    ----------
    file
        A table, a row a finished and annealed model: text with any separator, JSON, a spreadsheet, Parquet, packed or
        not; or ``original-study``, which is analysed again by its own rule and three other ways from the loss curves in
        its figures.
    method
        The estimator, or all of them; the envelope and the gradient rule take the rows of one N as its loss curve.
    form
        What the parametric method fits: chinchilla, E + A/N^α + B/D^β; its restrictions equal-exponents (α = β) and
        power (E = 0); kaplan's joint form; data counted from a shift (shifted) or after a delay (delayed); joint,
        E + (A/N^α + B/D^β)^γ; or data-constrained, where repeats count less (needs a column of unique data). The
        witnesses judge the first.
    delta
        Where the Huber loss of log residuals turns linear; by default 1.345 of their spreads. Published fits took 1e-3.
    columns
        Which column is what, where the name does not say: N=…,D=…,loss=…,C=…,unique=…,se=…; a unit may follow in
        brackets, as in "N=params (M)".
    where
        Rows to keep: COLUMN=VALUE,….
    budgets
        Budgets of compute for IsoFLOP, in FLOPs: 1e18,1e19,….
    flops
        Whether a column of compute is 6·N·D (checked) or an exact count; by an exact count N is C / 6D.
    frequencies
        The loss of token frequencies alone: points that stay there are left out.
    force
        Fit a table whose rows are all not annealed.
    bootstrap
        Draws behind the intervals; 0 for none.
    seed
        Decides the draws.
    json
        Print JSON alone: one object, or a list with ``--method all``.
    out
        A folder for the full results as JSON and their figures.
    """
    from json import dumps

    from kleiber.scaling.methods import fit_table
    from kleiber.scaling.observations import read_table, select
    from kleiber.scaling.words import describe

    if file == "original-study":
        _print_original_study(bootstrap, seed, json, out)
        return
    table = select(read_table(Path(file)), _pairs(where, "--where"), file)
    exact = flops == "exact"
    chosen = [method] if method != "all" else ["parametric", "isoflop", "envelope", "gradient-rule"]
    names, compute = _pairs(columns, "--columns"), _numbers(budgets, "--budgets")
    asked: dict[str, Any] = {"name": file, "columns": names, "exact_flops": exact, "budgets": compute}
    asked |= {"frequencies": frequencies, "form": form, "delta": delta, "force": force}
    asked |= {"bootstrap": bootstrap, "seed": seed}
    results = fit_table(table, list(chosen), **asked)
    if out is not None:
        for result in results:
            _write(result, out / f"{result.method}.json")
    if json:
        found = [result.summary() for result in results]
        print(dumps(found if method == "all" else found[0], indent=1, allow_nan=False))
    else:
        print("\n\n".join(describe(result) for result in results))


def _print_original_study(bootstrap: int, seed: int, json: bool, out: Path | None) -> None:
    from json import dumps

    from kleiber.scaling.published import original_study
    from kleiber.scaling.words import describe

    found = list(original_study(bootstrap, seed))
    if out is not None:
        for arm, results in found:
            for result in results:
                _write(result, out / f"{arm.name.replace(' ', '-')}.{result.method}.json")
    if json:
        print(dumps([one.summary() for _, results in found for one in results], indent=1, allow_nan=False))
        return
    for arm, results in found:
        print(f"# {arm.name}: the study prints a = {arm.printed:.4f}; its marked optima give {arm.marked:.4f}\n")
        print("\n\n".join(describe(result) for result in results), end="\n\n")


def _write(result: FitResult, path: Path) -> None:
    """Write a result as JSON, and beside it the figures that it has something to draw for."""
    from json import dumps

    import altair as alt

    from kleiber.report.certainty import RISE
    from kleiber.report.style import figure, layer, log_axis, save
    from kleiber.storage import write_atomic

    write_atomic(path, dumps(result.to_dict(), indent=1, sort_keys=True, allow_nan=False) + "\n")
    for parameter, one in result.profiles.items():
        if parameter == "a" and not result.usable:
            continue  # its lowest point would be the number that was refused
        rows = [{"value": v, "rise": r} for v, r in zip(one["values"], one["rise"], strict=True)]
        line = layer().mark_line(point=True).encode(x=alt.X("value:Q", title=parameter), y=alt.Y("rise:Q", title=RISE))
        text = f"Best objective at each fixed {parameter}, above the optimum"
        save(figure(f"{path.stem}.profile-{parameter}", "", text, text, text, rows, [line]), path.parent)
    points = [
        {"flops": f"{valley['flops']:.2g}", "n": n, "loss": loss, "kind": kind}
        for valley in result.valleys
        for kind, sizes, losses in (("point", "n", "loss"), ("curve", "curve_n", "curve_loss"))
        for n, loss in zip(valley[sizes], valley[losses], strict=True)
    ]
    if points:
        x, y = log_axis(alt.X, "n", "N"), alt.Y("loss:Q", title="loss", scale=alt.Scale(zero=False))
        colour = alt.Color("flops:O", title="C (FLOPs)")
        layers = [layer("point").mark_point(), layer("curve").mark_line()]
        text = "Loss against size at equal compute"
        drawn = [one.encode(x=x, y=y, color=colour) for one in layers]
        save(figure(f"{path.stem}.valleys", "", text, text, text, points, drawn), path.parent)


def _pairs(text: str, option: str) -> dict[str, str]:
    import re

    from kleiber.errors import ConfigError

    pairs = [
        part.partition("=") for part in re.split(r",(?=[^,=]*=)", text.strip(" ,")) if part
    ]  # names may hold commas
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise ConfigError(f"{option} {text!r} cannot be read: it is NAME=VALUE, with commas between several.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _numbers(text: str, option: str) -> list[float]:
    from kleiber.errors import ConfigError

    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = [0.0]
    if any(not 0 < number < float("inf") for number in numbers):
        raise ConfigError(f"{option} {text!r} cannot be read: it is positive numbers with commas between them.")
    return numbers
