"""Verbs of whole studies: run, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["report", "run"]


def run(study: Path = Path("study.toml"), *, out: Path | None = None) -> None:
    """Run a whole study, in order, skipping what is done.

    Corpora, tokenizers, models, held-out losses, laws, figures and the report land in the output folder. It can be
    stopped at any moment and started again: what is done is kept, and the result is the same to the byte.

    Example
    -------
    ``kleiber run studies/first.toml``

    Parameters
    ----------
    study
        The study file.
    out
        The output folder; ``out/NAME`` in the current folder by default.
    """
    from kleiber.study.config import load_study
    from kleiber.study.run import run_study

    folder = out or Path("out") / load_study(study).study.name
    print(f"report: {run_study(study, folder)}")


def report(*out: Annotated[Path, Parameter(required=True)], to: Path | None = None) -> None:
    """Write the report of a study, or of several side by side.

    Example
    -------
    ``kleiber report out/first``

    Parameters
    ----------
    out
        Output folders of studies.
    to
        Where the page lands; ``report.html`` in the first folder by default.
    """
    from kleiber.report.page import write_report

    print(f"report: {write_report(list(out), to)}")
