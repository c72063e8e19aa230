"""Verbs of whole studies: new, plan, run, sweep, status, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

__all__ = ["new", "plan", "report", "run", "status", "sweep"]

StudyFile = Annotated[Path, Parameter(help="The study file.")]
Out = Annotated[Path | None, Parameter(help="The output folder; ``out/NAME`` in the current folder by default.")]
Kind = Annotated[
    Literal["pool", "ray"],
    Parameter(help="What trains the models: processes of this machine, or a Ray cluster."),
]
Address = Annotated[
    str | None,
    Parameter(help="Of a running Ray cluster: auto, or HOST:PORT. Without it Ray is started here for the while."),
]
Devices = Annotated[
    int,
    Parameter(help="GPUs (or processes, where there are none) that train one model together, under torchrun."),
]


def new(
    study: Path = Path("study.toml"),
    *,
    reference: Path | None = None,
    panel: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    holdout: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    embedded: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a commented study file for your own FASTA and VCF.

    Example: ``kleiber new mine.toml --reference genome.fa.gz --panel chr20.vcf.gz chr21.vcf.gz --holdout chr21``

    Parameters
    ----------
    study
        The file to write; its name without the ending is the name of the study.
    reference
        A FASTA file, plain or compressed.
    panel
        Phased VCF or BCF files; none for a study of the reference alone.
    holdout
        Contigs or blocks that training never reads; one contig of middle size by default.
    embedded
        Study the data that come with kleiber, 3 Mb of human chromosome 20 and 300 phased genomes.
    """
    from kleiber.errors import ConfigError
    from kleiber.genome.reference import contigs_of
    from kleiber.genome.vcf import VcfFile
    from kleiber.storage import write_atomic
    from kleiber.study.config import EMBEDDED, parse_study
    from kleiber.study.template import EMBEDDED_HOLDOUT, default_holdout, study_text

    if study.exists():
        raise ConfigError(f"{study} exists.\n  Choose another name, or move it away.")
    if embedded == (reference is not None):
        raise ConfigError("Name either your own FASTA (--reference) or the data that come with kleiber (--embedded).")
    if embedded:
        text = study_text(study.stem, EMBEDDED, [EMBEDDED], holdout or [EMBEDDED_HOLDOUT])
    else:
        contigs = contigs_of(str(reference))
        for file in panel or ():
            VcfFile(file)
        text = study_text(
            study.stem, str(reference), list(map(str, panel or ())), holdout or [default_holdout(contigs)]
        )
    read = parse_study(text, str(study), study.parent)
    if not embedded:
        from kleiber.study.territory import outline, tell_territory

        tell_territory(read, outline(Path(read.genome.reference)), print)
    write_atomic(study, text)
    print(f"wrote {study}; run it with: kleiber run {study}")


def run(
    study: StudyFile = Path("study.toml"),
    *,
    out: Out = None,
    engine: Kind = "pool",
    address: Address = None,
    devices: Devices = 1,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run a whole study, in order, skipping what is done.

    Corpora, tokenizers, models, held-out losses, laws, figures and the report land in the output folder. It can be
    stopped at any moment and started again: what is done is kept, and the result is the same to the byte.

    Example: ``kleiber run studies/first.toml``

    Parameters
    ----------
    json
        Print where everything is as JSON.
    """
    from json import dumps

    from kleiber.study.config import load_study
    from kleiber.study.engine import Engine
    from kleiber.study.run import run_study

    folder = out or Path("out") / load_study(study).study.name
    page = run_study(study, folder, Engine(engine, address, devices))
    made = {"out": folder, "report": page, "observations": folder / "observations.csv", "fits": folder / "fits"}
    print(dumps({key: str(path) for key, path in made.items()}) if json else f"report: {page}")


def plan(
    study: StudyFile = Path("study.toml"),
    *,
    out: Out = None,
    gpu: str | None = None,
    mfu: float | None = None,
    gpus: int = 1,
    measure: Annotated[bool, Parameter(negative="--no-measure")] = True,
    half_width: Annotated[bool, Parameter(negative="")] = False,
    pilot: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a study will run and cost, before a second is spent, and judge its design.

    Example: ``kleiber plan studies/original.toml --gpu a100 --gpus 8``

    Parameters
    ----------
    study
        The study file; the data that it names need not be there. Where its FASTA is, its other files have to be, too.
    out
        The output folder, for what it knows of the data already; ``out/NAME`` by default.
    gpu
        Tell the hours on GPUs of a kind: a100, h100, l40s, rtx4090, v100.
    mfu
        The share of their peak that they reach. Without it the rates that were measured on such a GPU are taken,
        size by size (h100), or else 0.4.
    gpus
        How many there are.
    measure
        Train each model for a few steps, to tell the hours on this machine.
    half_width
        Predict the 95 % interval of a, arm by arm: simulated tables of this design are fitted and judged (half a
        minute each).
    pilot
        A table of observations whose laws and luck the simulated tables take, such as that of a smaller study; without
        it a prior, which is printed. Asks for `half_width`.
    json
        Print JSON.
    """
    from collections import Counter
    from json import dumps

    from kleiber.study.config import load_study
    from kleiber.study.stages import planned, territory

    read = load_study(study)
    told = territory(read)
    whole = planned(read, out or Path("out") / read.study.name)
    facts = {**_plan_facts(read, whole, gpu, mfu, gpus, measure), "territory": told}
    if half_width or pilot:
        from kleiber.study.foresight import foresights
        from kleiber.study.progress import Narrator

        with Narrator().bar("half-width of a") as progress:
            foreseen = foresights(read, whole, pilot, progress)
        facts["half_width"] = {arm: found.to_dict() for arm, found in foreseen.items()}
    if json:
        print(dumps(facts))
        return
    print(f"{'run':<24}{'N total':>14}{'N blocks':>14}{'steps':>9}{'lr':>10}{'FLOPs':>11}{'epochs':>8}  D, tokens")
    for run in facts["runs"]:
        epochs = "?" if run["epochs"] is None else f"{run['epochs']:.2f}"
        budgets = ", ".join(f"{d:.3g}" for d in run["tokens"])
        print(
            f"{run['arm'] + ' ' + run['size']:<24}{run['n_params']:>14,}{run['n_params_non_embedding']:>14,}"
            f"{run['n_steps']:>9,}{run['peak_lr']:>10.2e}{run['flops']:>11.3e}{epochs:>8}  {budgets}"
        )
    print(f"{len(facts['runs'])} runs, {facts['flops']:.4e} FLOPs, {facts['n_bytes'] / 1e9:.2f} GB on disk")
    if "stacks" in facts:
        alike = Counter((stack["runs"], stack["size"]) for stack in facts["stacks"])
        sizes = ", ".join(f"{n} x {runs} of {size}" for (runs, size), n in alike.items())
        print(f"stacks of runs that are trained at once: {sizes}")
    if "hours_here" in facts:
        side = f"{facts['machine']['workers']} runs side by side, {facts['machine']['threads']} threads each"
        print(f"on this machine, {side}: {_duration(facts['hours_here'])}")
    if "hours_gpu" in facts:
        print(f"on {gpus} x {gpu} at {facts['gpu_rates']}: {_duration(facts['hours_gpu'])}")
    if "hours_gpu_stacked" in facts:
        print(f"on {gpus} x {gpu} at the rates of stacks there: {_duration(facts['hours_gpu_stacked'])}")
    for line in told:
        print(line)
    print("the design:")
    for check in facts["checks"]:
        print(f"  {check['status']:<5} {check['check']}: {check['detail']}")
    for arm, found in facts.get("half_width", {}).items():
        print(f"{arm}: {found['says']}\n  by {found['source']}")
        print(f"  two arms of this design: the half-width of their difference in a is {found['difference']:.3f}")


def _plan_facts(study: Any, whole: Any, gpu: str | None, mfu: float | None, gpus: int, measure: bool) -> dict[str, Any]:
    """Return a plan as JSON."""
    from kleiber.study.plan import checklist

    facts: dict[str, Any] = {
        "study": study.study.name,
        "runs": [
            {
                "arm": run.unit.arm,
                "size": run.unit.size,
                "seed": run.unit.seed,
                "unique": run.unit.unique,
                "n_params": run.model.n_params,
                "n_params_non_embedding": run.model.n_params_non_embedding,
                "tokens": list(run.run.tokens),
                "n_steps": run.run.n_steps,
                "peak_lr": study.train.peak_lr(run.model),
                "flops": run.flops,
                "epochs": whole.epochs(run),
            }
            for run in whole.runs
        ],
        "flops": whole.flops,
        "n_bytes": whole.n_bytes,
        "checks": checklist(study, whole),
    }
    if study.ladder.stack > 1:
        sizes = {run.stack: (run.unit.size, run.stacked) for run in whole.runs}
        facts["stacks"] = [{"size": size, "runs": n} for _, (size, n) in sorted(sizes.items())]
    if gpu:
        facts["precision"] = whole.precision
        share = 0.4 if mfu is None else mfu
        facts["hours_gpu"] = whole.hours_on(gpu, share, gpus)
        facts["gpu_rates"] = f"{share:.0%} of the {whole.precision} peak"
        measured = whole.hours_measured(gpu, gpus) if mfu is None else None
        if measured is not None:
            facts["hours_gpu"] = measured
            facts["gpu_rates"] = "the rates measured on one, size by size, a run at a time"
            if study.ladder.stack > 1:
                facts["hours_gpu_stacked"] = whole.hours_measured(gpu, gpus, stacked=True)
    if measure:
        from kleiber.study.clock import predict_seconds
        from kleiber.study.machine import choose, settled

        choices = choose(study, whole)
        facts["machine"] = choices
        facts["hours_here"] = predict_seconds(study, settled(whole, choices), choices) / 3600
    return facts


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.1f} minutes"
    return f"{hours:,.1f} hours" if hours < 100 else f"{hours / 24:,.0f} days"


def sweep(
    study: StudyFile = Path("study.toml"),
    *,
    out: Out = None,
    task: str | None = None,
    engine: Kind = "pool",
    address: Address = None,
    devices: Devices = 1,
) -> None:
    """Train a study's runs: all, or the share of one task of an array.

    Example: ``kleiber sweep studies/first.toml --task 1/4``

    Tasks may run on any machines that share the output folder. When all are done, `kleiber run` writes the table, the
    laws and the report. SIGTERM and SIGUSR1 save what is under way and exit 75: the same command goes on.

    Parameters
    ----------
    task
        I/N: of every N runs (or stacks of them) the I-th, from 1. By default what SLURM_ARRAY_TASK_ID and
        SLURM_ARRAY_TASK_COUNT say, or all.
    """
    from kleiber.study.config import load_study
    from kleiber.study.engine import Engine
    from kleiber.study.run import sweep_study

    folder = out or Path("out") / load_study(study).study.name
    sweep_study(study, folder, _task(task), Engine(engine, address, devices))


def _task(text: str | None) -> tuple[int, int]:
    """Return (i from 0, n) of ``I/N``, or of the environment of a Slurm array."""
    import os
    import re

    from kleiber.errors import ConfigError

    if text is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        number = int(os.environ["SLURM_ARRAY_TASK_ID"]) - first + 1
        text = f"{number}/{os.environ.get('SLURM_ARRAY_TASK_COUNT', '1')}"
    match = re.fullmatch(r"(\d+)/(\d+)", text or "1/1")
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{text!r} is no task.\n  Write I/N with I from 1 to N: --task 2/8.")
    return int(match[1]) - 1, int(match[2])


def status(
    study: StudyFile = Path("study.toml"),
    *,
    out: Out = None,
    watch: float | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show which runs are done, running, stopped, failed and missing, with losses and rates.

    Example: ``kleiber status studies/first.toml --watch 10``

    Parameters
    ----------
    watch
        Show it again every so many seconds, until all runs are done.
    json
        Print JSON.
    """
    import time
    from collections import Counter
    from dataclasses import asdict
    from json import dumps

    from kleiber.study.config import load_study
    from kleiber.study.status import status as look

    read = load_study(study)
    while True:
        runs = look(read, out or Path("out") / read.study.name)
        if json:
            print(dumps([asdict(run) for run in runs]))
        else:
            for run in runs:
                loss = "" if run.loss is None else f"loss {run.loss:.3f}"
                rate = "" if run.rate is None else f"{run.rate:.1f} steps/s"
                share = f"{run.steps:,}/{run.n_steps:,}" if run.n_steps else ""
                name = f"{run.arm} {run.size}"
                line = f"{name:<24}{run.seed:>5}  {run.state:<9}{share:>16}  {loss:<12}{rate} {run.error}"
                print(line.rstrip())
            print(", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items()))
        if watch is None or all(run.state == "done" for run in runs):
            return
        time.sleep(watch)


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
