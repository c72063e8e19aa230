"""Verbs of corpora: corpus describe, sample, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from kleiber.cli.options import Flag, Several

__all__ = ["Choice", "app", "describe", "export", "sample"]

app = App(name="corpus", help="Describe, sample and export corpora.")


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """Which corpus.

    Parameters
    ----------
    panel
        A haplotype store made by `kleiber panel build`; it holds its reference.
    reference
        A FASTA file, for the strategy reference without a panel.
    assemblies
        FASTA files of assembled genomes, or folders of them, for the strategy pangenome: contigs by PanSN
        (HG002#1#chr8), files by sample and haplotype (HG002.hap1.fa). With --reference, its chromosomes.
    chromosomes
        A table of contigs of assemblies and their chromosomes, or the one chromosome that all are of.
    strategy
        reference, pangenome or variant.
    window
        Bases of a window.
    holdout
        Contigs or blocks that belong to the other split.
    split
        Which side of the split.
    samples
        Read these samples only.
    contigs
        Read these contigs only.
    include
        Read these regions only: a BED file, contigs, or regions such as chr8:1-1,000,000.
    exclude
        Do not read these.
    reverse_complement
        Probability that a window is read from the other strand.
    with_n
        Let windows hold N.
    soft_masked
        Let windows hold soft-masked bases, which are lower-case in the FASTA.
    mode
        anchored: every window has as many bases. span: the haplotype over so many reference bases.
    chromosome_uniform
        Draw the contig first, each alike, as the original study did.
    seed
        Decides every window.
    """

    panel: Path | None = None
    reference: Path | None = None
    assemblies: Annotated[tuple[Path, ...], Several] = ()
    chromosomes: str = ""
    strategy: str = "reference"
    window: int = 700
    holdout: Annotated[tuple[str, ...], Several] = ()
    split: Literal["train", "heldout"] = "train"
    samples: Annotated[tuple[str, ...], Several] = ()
    contigs: Annotated[tuple[str, ...], Several] = ()
    include: Annotated[tuple[str, ...], Several] = ()
    exclude: Annotated[tuple[str, ...], Several] = ()
    reverse_complement: float = 0.0
    with_n: Annotated[bool, Flag] = False
    soft_masked: bool = True
    mode: Literal["anchored", "span"] = "anchored"
    chromosome_uniform: Annotated[bool, Flag] = False
    seed: int = 17


@app.command
def describe(choice: Choice = Choice(), *, n: int = 0, json: Annotated[bool, Flag] = False) -> None:
    """Count the windows of a corpus: all, those that hold a variant, by contig; bases, GC, N.

    Example: ``kleiber corpus describe --panel panel --strategy variant --window 700 --holdout chr8``

    Parameters
    ----------
    n
        Windows to be read: adds how often they pass over each base.
    json
        Print JSON.
    """
    from json import dumps

    with _open(choice) as corpus:
        facts = corpus.describe()
    if n:
        facts["coverage"] = n * choice.window / facts["n_unique_bases"]
    if json:
        print(dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value[:6])) + (f" and {len(value) - 6} more" if len(value) > 6 else "")
        elif key == "left_out":
            value = "; ".join(f"{v['n_contigs']:,} x {role}, {v['n_bases']:,} bases" for role, v in value.items())
        elif isinstance(value, dict):
            value = ", ".join(f"{name} {number:,}" for name, number in value.items())
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        print(f"{key:<20} {value}")


@app.command
def sample(choice: Choice = Choice(), *, n: int = 10, first: int = 0, json: Annotated[bool, Flag] = False) -> None:
    """Print windows of a corpus as FASTA, with where each comes from.

    Example: ``kleiber corpus sample --panel panel --strategy pangenome --n 3``

    Parameters
    ----------
    n
        How many.
    first
        The number of the first; any window can be asked for alone.
    json
        Print one JSON object a window, with the records that it holds.
    """
    from json import dumps

    with _open(choice) as corpus:
        for index in range(first, first + n):
            text, where = corpus[index].tobytes().decode(), corpus.explain(index)
            if json:
                print(dumps({"index": index, **where, "sequence": text}))
                continue
            whose = f" {where['sample']} {where['slot']}" if where["sample"] else ""
            print(f">{index} {where['contig']}:{where['start']}{where['strand']}{whose}\n{text}")


@app.command
def export(
    choice: Choice = Choice(),
    *,
    n: int,
    out: Path,
    format: Literal["text", "fasta", "parquet"] = "text",
    files: int = 100,
    workers: int = 1,
) -> None:
    """Write windows of a corpus to files: the original study's layout, FASTA, or Parquet with provenance.

    Example: ``kleiber corpus export --panel panel --strategy variant --n 1000000 --out corpora``

    Parameters
    ----------
    n
        How many windows.
    out
        They land in OUT/reference_sampling, OUT/random_sampling or OUT/variant_sampling.
    format
        text: one sequence a line. fasta. parquet: with sample, slot, contig, start and strand.
    files
        How many files.
    workers
        Processes that write side by side; the files do not depend on it.
    """
    from kleiber.corpus.export import export as write
    from kleiber.study.progress import Narrator

    with _open(choice) as corpus, Narrator().bar(f"exporting {n:,} windows") as told:
        folder = write(corpus, n, out, format, files, workers, told)
    print(folder)


@contextmanager
def _open(choice: Choice) -> Iterator[Any]:
    """Open the corpus of a choice."""
    from dataclasses import fields

    from kleiber.cli.genome import open_genome, open_pangenome
    from kleiber.corpus.assembled import open_assemblies
    from kleiber.corpus.regions import regions_or_bed
    from kleiber.corpus.sampling import CorpusConfig, open_corpus
    from kleiber.study.progress import Narrator

    say = Narrator().line
    options = {field.name: getattr(choice, field.name) for field in fields(CorpusConfig) if hasattr(choice, field.name)}
    if choice.assemblies:
        with open_pangenome(choice.assemblies, choice.reference, choice.panel, choice.chromosomes) as assemblies:
            yield open_assemblies(assemblies, CorpusConfig(**options), choice.seed)
        return
    with open_genome(choice.reference, choice.panel) as (reference, panel):
        for key in ("include", "exclude"):
            options[key] = regions_or_bed(options[key], reference, say)
        yield open_corpus(reference, panel, CorpusConfig(**options), choice.seed)
