"""Write the numbers of the pages that tell what studies found: every block between two marks comes from their output.

    kleiber run studies/laptop.toml && kleiber run studies/original-small.toml
    python scripts/document_study.py out/laptop out/original-small

The pages' own words hold no number that was measured. Blocks are replaced in place, so that a page reads alike in the
repository and in the documentation; the observations of each study (`docs/results/`) and its figures are copied, too.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from kleiber.report import doubts, findings
from kleiber.report.compute import bits_against_compute
from kleiber.report.doublings import Gain, gains
from kleiber.report.measures import differences, optima
from kleiber.report.numbers import compact, plus_minus, signed
from kleiber.report.reader import StudyOutput, read_study
from kleiber.report.style import Figure, arm_colour, figure, layer, log_axis, save
from kleiber.report.tables import tables
from kleiber.scaling.fit import fit
from kleiber.scaling.foresight import Design, foresee, prior_of_pilot, stated_prior
from kleiber.scaling.observations import Observations
from kleiber.scaling.pairs import bits_between
from kleiber.scaling.witnesses import examine

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = (DOCS / "results.md", DOCS / "explanation" / "laptop.md")
SEED = 17
BELOW = "below token frequencies"
BLOCK = re.compile(r"(<!-- write: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table_of(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table as Markdown."""
    header = list(header)
    lines = [header, ["---"] * len(header), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def of_report(study: StudyOutput, name: str, without: str | None = None) -> str:
    """Return a table of the report and its caption; without the rows and clauses of one arm, where it is named."""
    made = tables(study)[name]
    rows = [[cell.text for cell in row] for row in made.rows]
    caption = re.sub(rf"; [^;]* {without} [^;]*", "", made.caption)
    return f"{table_of(made.header, (row for row in rows if without not in row[:2]))}\n\n*{caption}.*"


def listed(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def law(study: StudyOutput) -> str:
    """Say whether an exponent is identified, what speaks against it, and what would settle it."""
    said = doubts.verdict(study)
    parts = [f"{said.says} {doubts.basis(study)}"]
    if said.reasons:
        parts.append("What speaks against it:\n\n" + listed(said.reasons))
    if said.settles:
        parts.append(f"What would settle it: {said.settles}.")
    return "\n\n".join(parts)


def pays(study: StudyOutput) -> str:
    """Say what twice the data and twice the parameters take off, arm by arm."""
    rows = []
    for arm in study.arms:
        if any(found := gains(study, arm)):
            rows.append([arm, *map(_gain, found)])
    return table_of(("arm", "twice the data takes off", "twice the parameters take off"), rows)


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return "–"
    return f"{gain.value:.4f} ({gain.low:.4f} to {gain.high:.4f})".replace("-", "−")


def sampling(study: StudyOutput) -> str:
    """Compare arms of one tokenizer that sample otherwise."""
    rows = [
        [d.arm, d.other, signed(d.mean), f"{signed(d.low)} to {signed(d.high)}", str(d.n_cells), str(d.n_runs)]
        for d in differences(study)
        if study.tokenizer(d.arm) == study.tokenizer(d.other) and study.sampling(d.arm) != study.sampling(d.other)
    ]
    return table_of(("arm", "minus arm", "bits/base", "95 % interval", "pairs", "runs each"), rows)


def repeats(study: StudyOutput) -> str:
    """Compare runs that read a small share of the territory, on one strand or on both, with the run that reads all."""
    table = study.observations.drop_nulls("bits_per_base").with_columns(pl.col("unique").cast(pl.Float64))
    shared = table.filter(pl.col("unique") < 1)
    share, size, seed = shared["unique"].min(), shared["size"][0], table["seed"].min()

    def run(arm: str, unique: float) -> list[dict[str, Any]]:
        """Return the models of one run, by their data."""
        of_arm = table.filter((pl.col("arm") == arm) & (pl.col("size") == size) & (pl.col("seed") == seed))
        return of_arm.filter(pl.col("unique") == unique).sort("n_tokens").to_dicts()

    def less(other: dict[str, Any], row: dict[str, Any]) -> str:
        found = bits_between(_clusters(study, other), _clusters(study, row))
        return f"{signed(found.value)} ({signed(found.interval[0])} to {signed(found.interval[1])})"

    runs = (run("ref-bpe", 1.0), run("both-bpe", 1.0), run("ref-bpe", share), run("both-bpe", share))
    rows = [
        [
            compact(all_of_it["n_tokens"]),
            plus_minus(all_of_it["bits_per_base"], all_of_it["bits_per_base_se"]),
            less(both, all_of_it),
            f"{again['epochs']:.1f}",
            less(again, all_of_it),
            less(both_again, all_of_it),
        ]
        for all_of_it, both, again, both_again in zip(*runs, strict=True)
    ]
    header = (
        "tokens",
        f"{size}, all of it, one strand: bits/base",
        "all, both strands: difference",
        f"passes over {share:.0%}".replace("%", " %"),
        f"{share:.0%}, one strand: difference".replace("%", " %"),
        f"{share:.0%}, both strands: difference".replace("%", " %"),
    )
    return table_of(header, rows)


def _clusters(study: StudyOutput, row: dict[str, Any]) -> pl.DataFrame:
    return study.clusters.filter((pl.col("run") == row["run"]) & (pl.col("steps") == row["steps"]))


def blindness(study: StudyOutput) -> str:
    """Show what the networks of an arm score, and what they lose when every row is read backwards."""
    rows = []
    for row in study.observations.drop_nulls("cost_reversed").sort("arm", "n_params").iter_rows(named=True):
        frequencies = study.baselines[row["arm"]]["unigram"]["bits_per_base"]
        rows.append([
            row["arm"], row["size"], plus_minus(row["bits_per_base"], row["bits_per_base_se"]),
            f"{frequencies - row['bits_per_base']:.3f}", plus_minus(row["cost_reversed"], row["cost_reversed_se"]),
        ])  # fmt: skip
    return table_of(("arm", "size", "bits/base ± s.e.", BELOW, "cost of reading backwards ± s.e."), rows)


def order(small: StudyOutput, laptop: StudyOutput) -> str:
    """Set what reversal costs the networks of the two studies side by side; the second read no more than the first."""
    rows, most = [], int(small.observations["n_tokens"].max())
    for study in (small, laptop):
        frequencies = study.baselines["ref-bpe"]["unigram"]["bits_per_base"]
        scored = study.observations.drop_nulls("cost_reversed").filter(pl.col("arm") == "ref-bpe")
        is_fresh = pl.col("n_unique_bases") == pl.col("n_unique_bases").max()
        scored = scored.filter(is_fresh & (pl.col("n_tokens") <= most))
        last = scored.filter(pl.col("n_tokens") == pl.col("n_tokens").max().over("size")).sort("n_params")
        for row in last.unique("size", keep="first", maintain_order=True).iter_rows(named=True):
            rows.append(
                [
                    row["architecture"],
                    row["size"],
                    compact(row["n_tokens"]),
                    plus_minus(row["bits_per_base"], row["bits_per_base_se"]),
                    f"{frequencies - row['bits_per_base']:.3f}",
                    plus_minus(row["cost_reversed"], row["cost_reversed_se"]),
                ]
            )
    header = ("network", "size", "tokens", "bits/base ± s.e.", BELOW, "cost of reading backwards ± s.e.")
    return table_of(header, rows)


def foreseen(study: StudyOutput) -> str:
    """Set the half-width of a that a pilot, and a stated prior, foresee beside that of the study itself."""
    arm = study.arms[0]
    points = study.fitted(arm)
    sizes, budgets = (points[key].unique().sort().to_list() for key in ("n_effective", "n_tokens"))
    part = points.filter(pl.col("n_effective").is_in(sizes[::2]) & pl.col("n_tokens").is_in(budgets[::2]))
    whole = Observations.of(points, name=arm)
    design = Design(whole.N, whole.D, whole.cluster)
    name = f"{len(sizes[::2])} of its sizes and {len(budgets[::2])} of its budgets"
    priors = {name: prior_of_pilot(Observations.of(part, name=name), name=name, seed=SEED)}
    rows = []
    for source, prior in (priors | {"a stated prior": stated_prior(design)}).items():
        found = foresee(design, prior, seed=SEED)
        low, high = found.half_widths
        rows.append([
            f"foreseen from {source}", f"{found.half_width:.3f} ({low:.3f} to {high:.3f})",
            f"{found.n_usable} of {found.n_tables} simulated tables",
        ])  # fmt: skip
    result = examine(fit(whole, seed=SEED), whole)
    low, high = result.intervals["a"]
    rows.append(["the study itself", f"{(high - low) / 2:.3f}", "yes" if result.usable else "no"])
    return table_of(("", "half-width of a's 95 % interval, choices of the fit included", "a usable"), rows)


def rule(study: StudyOutput) -> str:
    """Say what the original study's rule gives on its own recipe, and why where it gives nothing."""
    said = []
    for arm in study.arms:
        found = study.law(arm, "gradient-rule")
        if found is None:
            continue
        kept = ("the rule's slope", "a moves", "no run is a standard error better")
        slopes = [text for text in found.warnings if text.startswith(kept)]
        text = f"REFUSED: {'; '.join(found.warnings)}" if found.status == "REFUSED" else "; ".join(slopes)
        said.append(f"{arm}: {text}.")
    return listed(said)


def by_the_rule(study: StudyOutput, which: str, title: str) -> Figure | None:
    """Draw the N or D at which the original study's rule stops each size, against the compute spent there."""
    laws = {arm: law for arm in study.arms if (law := study.law(arm, "gradient-rule")) is not None}
    found = {arm: optima(law).sort("flops") for arm, law in laws.items() if law.status != "REFUSED"}
    rows = [
        {"kind": "rule", "arm": arm, "flops": point["flops"], "value": point[which]}
        for arm, points in found.items()
        for point in points.iter_rows(named=True)
    ]
    if not rows:
        return None
    title_of = f"{which.upper()} by the original study's rule against compute: no optimum"
    base = {
        "x": log_axis(alt.X, "flops", "C at the rule's step (FLOPs)"),
        "y": log_axis(alt.Y, "value", title),
        "color": arm_colour(list(found)),
    }
    layers = [layer("rule").mark_line().encode(**base), layer("rule").mark_point(size=50, filled=True).encode(**base)]
    return figure(f"original-small-{which}", "Law", title_of, "", "Line chart, a line an arm.", rows, layers)


def blocks(laptop: StudyOutput, small: StudyOutput) -> dict[str, Callable[[], str]]:
    """Return what each mark of the pages stands for; what stands on both is made once."""
    made: dict[str, Callable[[], str]] = {
        "brief": lambda: listed(findings.in_brief(laptop)),
        "law": lambda: law(laptop),
        "pays": lambda: pays(laptop),
        "sampling": lambda: sampling(laptop),
        "tokenization": lambda: of_report(laptop, "equal", without="both-bpe"),
        "repeats": lambda: repeats(laptop),
        "witnesses": lambda: of_report(laptop, "witnesses"),
        "quality": lambda: of_report(laptop, "quality"),
        "arms": lambda: of_report(laptop, "arms"),
        "foreseen": lambda: foreseen(laptop),
        "order": lambda: order(small, laptop),
        "blindness": lambda: blindness(small),
        "rule": lambda: rule(small),
        "limits": lambda: listed(doubts.limits(laptop)),
    }
    return {name: cache(make) for name, make in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("laptop", type=Path)
    parser.add_argument("original", type=Path)
    options = parser.parse_args()
    laptop, small = read_study(options.laptop), read_study(options.original)
    made = blocks(laptop, small)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(lambda one: f"{one[1]}\n{made[one[2]]()}\n\n{one[3]}", text), encoding="utf-8")
    (DOCS / "results").mkdir(exist_ok=True)
    for study in (laptop, small):
        shutil.copy(study.folder / "observations.csv", DOCS / "results" / f"{study.name}.csv")
    keep(bits_against_compute(laptop.observations, laptop.baselines, laptop.arms[:1], name="laptop"))
    for which, title in (("n", "N, parameters"), ("d", "D, tokens read")):
        keep(by_the_rule(small, which, title))


def keep(drawn: Figure | None) -> None:
    """Keep a figure's SVG among the documentation's."""
    if drawn is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        save(drawn, Path(folder))
        shutil.copy(Path(folder) / f"{drawn.name}.svg", DOCS / "figures")


if __name__ == "__main__":
    main()
