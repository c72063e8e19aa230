"""Verbs of whole studies: new, run, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["new", "report", "run"]


def new(
    name: str,
    *,
    reference: Path,
    panel: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    holdout: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
) -> None:
    """Write a commented study file for your own FASTA and VCF.

    Example: ``kleiber new mine --reference genome.fa.gz --panel chr20.vcf.gz chr21.vcf.gz --holdout chr21``

    Parameters
    ----------
    name
        The name of the study; the file is NAME.toml in the current folder.
    reference
        A FASTA file, plain or compressed.
    panel
        Phased VCF or BCF files; none for a study of the reference alone.
    holdout
        Contigs or blocks that training never reads; one contig of middle size by default.
    """
    from kleiber.errors import ConfigError
    from kleiber.genome.reference import contigs_of
    from kleiber.genome.vcf import VcfFile
    from kleiber.storage import write_atomic
    from kleiber.study.config import parse_study
    from kleiber.study.template import default_holdout, study_text

    path = Path(f"{name}.toml")
    if path.exists():
        raise ConfigError(f"{path} exists.\n  Choose another name, or move it away.")
    contigs = contigs_of(reference)
    for file in panel or ():
        VcfFile(file)
    text = study_text(name, reference, panel or (), holdout or [default_holdout(contigs)])
    parse_study(text, str(path), path.parent)
    write_atomic(path, text)
    print(f"wrote {path}; run it with: kleiber run {path}")


def run(study: Path = Path("study.toml"), *, out: Path | None = None, json: bool = False) -> None:
    """Run a whole study, in order, skipping what is done.

    Corpora, tokenizers, models, held-out losses, laws, figures and the report land in the output folder. It can be
    stopped at any moment and started again: what is done is kept, and the result is the same to the byte.

    Example: ``kleiber run studies/first.toml``

    Parameters
    ----------
    study
        The study file.
    out
        The output folder; ``out/NAME`` in the current folder by default.
    json
        Print where everything is as JSON.
    """
    from json import dumps

    from kleiber.study.config import load_study
    from kleiber.study.run import run_study

    folder = out or Path("out") / load_study(study).study.name
    page = run_study(study, folder)
    made = {"out": folder, "report": page, "observations": folder / "observations.csv", "fits": folder / "fits"}
    print(dumps({key: str(path) for key, path in made.items()}) if json else f"report: {page}")


def report(*out: Annotated[Path, Parameter(required=True)], to: Path | None = None) -> None:
    """Write the report of a study, or of several side by side.

    Example: ``kleiber report out/first``

    Parameters
    ----------
    out
        Output folders of studies.
    to
        Where the page lands; ``report.html`` in the first folder by default.
    """
    from kleiber.report.page import write_report

    print(f"report: {write_report(list(out), to)}")
