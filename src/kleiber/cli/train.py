"""The verb train: one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kleiber.cli.options import Flag, Several
from kleiber.train.config import TrainConfig

__all__ = ["train"]

DEFAULTS = TrainConfig()


def train(
    *,
    tokenizer: Path,
    out: Path,
    reference: Path | None = None,
    panel: Path | None = None,
    strategy: str = "reference",
    holdout: Annotated[tuple[str, ...], Several],
    size: str = "0.4M",
    architecture: str = "shortconv",
    tokens: Annotated[tuple[float, ...], Several] = (1e6,),
    seed: int = 17,
    init_from: Path | None = None,
    threads: int = 0,
    shard: Annotated[bool, Flag] = False,
    tracker: str | None = None,
    settings: Annotated[TrainConfig, Parameter(name="*")] = DEFAULTS,
) -> None:
    """Train one model, or go on with it; under torchrun, on several devices.

    Example: ``kleiber train --reference genome.fa.gz --tokenizer tokenizer.json --holdout chr8 --size 0.4M --out run``

    Parameters
    ----------
    tokenizer
        A tokenizer.json.
    out
        The run's folder.
    reference
        A FASTA file.
    panel
        A haplotype store made by `kleiber panel build`; it holds its reference.
    strategy
        Which windows are read: reference, pangenome or variant.
    holdout
        Contigs or blocks that are never trained on, and that the model is scored on.
    size
        0.4M and the like (non-embedding parameters), or 15M, 28M, 60M, 117M, 230M (the original study's).
    architecture
        shortconv reads order; dnabert2 is the published network.
    tokens
        Budgets of data, each annealed.
    seed
        Decides everything.
    init_from
        A checkpoint to start from: ours, or a published DNABERT-2.
    threads
        Threads of the processor; 0 for all.
    shard
        Under torchrun: FSDP2 instead of DDP.
    tracker
        tensorboard (into the run's folder), or an installed module such as wandb or trackio.
    """
    import os
    from dataclasses import asdict, replace
    from json import dumps

    import numpy as np

    from kleiber.cli.genome import open_genome
    from kleiber.corpus.sampling import CorpusConfig, open_corpus
    from kleiber.errors import ConfigError
    from kleiber.model.config import shape_for
    from kleiber.model.weights import load_weights
    from kleiber.storage import digest, locked, write_atomic
    from kleiber.study.progress import Narrator
    from kleiber.study.territory import territory_lines
    from kleiber.tokens.kinds import load
    from kleiber.train.config import ORIGINAL_WINDOW, Run
    from kleiber.train.devices import leave
    from kleiber.train.intervals import lay_intervals
    from kleiber.train.loop import train as train_run
    from kleiber.train.scoring import held_out
    from kleiber.train.trackers import open_tracker

    is_first = os.environ.get("RANK", "0") == "0"
    loaded = load(tokenizer)
    shape = shape_for(size, loaded.vocab_size, settings.dropout, architecture)
    weights, start = None, ""
    if init_from is not None:
        found, weights = load_weights(init_from)
        if replace(found, dropout=shape.dropout) != shape:
            raise ConfigError(
                f"{init_from} is {found}, and the run asks for {shape}.\n"
                "  Name its size, its architecture and its tokenizer."
            )
        start = digest([[name, float(np.float64(tensor.double().sum()))] for name, tensor in sorted(weights.items())])
    with locked(out) if is_first else _no_lock(), open_genome(reference, panel) as (genome, store):
        rows = settings.row_tokens * loaded.max_token_length
        window = ORIGINAL_WINDOW if settings.original else rows
        chosen = CorpusConfig(strategy, window, window, holdout)
        corpus = open_corpus(genome, store if chosen.reads_haplotypes else None, chosen, seed)
        held = open_corpus(genome, None, CorpusConfig("reference", rows, rows, holdout, "heldout"), seed)
        evaluation = held_out(held, loaded, settings, seed, genome, store)
        read = {region.contig for region in corpus.territory}
        for line in territory_lines(genome.contigs, read, read | {region.contig for region in held.territory}):
            if is_first:
                Narrator().line(line)
        labels: dict[str, str | int | float] = {"corpus": strategy, "tokenizer": tokenizer.stem, "size": size}
        run = Run(out.name, shape, settings, tuple(sorted(round(d) for d in tokens)), seed, start, labels)
        _refuse_another(
            out, digest([run.train.__dict__, run.model.__dict__, run.tokens, seed, start, corpus.fingerprint])
        )
        if is_first:
            out.mkdir(parents=True, exist_ok=True)
            write_atomic(out / "tokenizer.json", dumps(loaded.model, indent=1) + "\n")
        shown = open_tracker(tracker, out, asdict(settings)) if tracker and is_first else None
        n_threads = threads or len(os.sched_getaffinity(0))
        with Narrator().bar(f"training {shape.n_params:,} parameters") as told:
            observations = train_run(
                run, corpus, loaded, evaluation, out, n_threads, told, weights, shard, shown, settings.attention,
                lay_intervals(held, loaded, settings),
            )  # fmt: skip
        if shown is not None:
            shown.finish()
    for row in observations if is_first else ():
        print(
            f"{row['n_tokens']:>13,} tokens  {row['bits_per_base']:.4f} ± {row['bits_per_base_se']:.4f} bits/base  "
            f"{row['loss']:.4f} nats/token  accuracy {row['accuracy']:.3f}"
        )
    leave()


def _no_lock() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _refuse_another(out: Path, asked: str) -> None:
    """Raise when a folder holds another run than the one asked for; note which one it holds."""
    from kleiber.errors import StateError
    from kleiber.storage import write_atomic

    note = out / "run.sha256"
    if note.exists() and note.read_text().strip() != asked:
        raise StateError(f"{out} holds another run ({note.read_text()[:12]}, not {asked[:12]}).\n  Name another --out.")
    write_atomic(note, asked + "\n")
