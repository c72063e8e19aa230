"""Write what a finished study found as a page of the documentation: sentences, tables and figures of its report.

    python scripts/document_study.py out/laptop docs/explanation/laptop

The report itself is one file of a few megabytes with every figure; this takes from the same functions what a page of
the documentation can carry.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from kleiber.report import doubts, findings
from kleiber.report.reader import read_study
from kleiber.report.tables import Table, tables

TABLES = ("scores", "laws", "quality", "differences", "baselines", "tokenizers", "models")
FIGURES = ("bits-per-base", "differences-corpora", "epochs", "holdouts", "learning-rate")
OF_ARMS = ("elasticity", "loss-tokens")


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    rows = [table.header, ["---"] * len(table.header), *([cell.text for cell in row] for row in table.rows)]
    lines = ("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows)
    return f"**{table.caption}**\n\n" + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    study = read_study(options.out)
    made = tables(study)
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = ["## In brief", *findings.in_brief(study), "## Between corpora and tokenizers"]
    parts += ["\n".join(f"- {sentence}" for sentence in findings.between_arms(study)), "## How sure"]
    parts += ["\n".join(f"- {sentence}" for sentence in doubts.sureness(study))]
    figures = [*FIGURES, *(f"{name}.{arm}" for name in OF_ARMS for arm in study.arms)]
    drawn = [name for name in figures if (options.out / "figs" / f"{name}.svg").exists()]
    for name in drawn:
        shutil.copy(options.out / "figs" / f"{name}.svg", options.folder)
    shown = [name for name in drawn if "." not in name] + [f"{name}.{study.arms[1]}" for name in OF_ARMS]
    parts += ["## Figures", *(f"![{name}]({options.folder.name}/{name}.svg)" for name in shown if name in drawn)]
    parts += ["## Tables", *(markdown(made[name]) for name in TABLES if name in made)]
    (options.folder / "results.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    shutil.copy(options.out / "observations.csv", options.folder)


if __name__ == "__main__":
    main()
