"""Verbs of models: train, evaluate, model info, import, export."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from kleiber.train.config import TrainConfig

__all__ = ["app", "evaluate", "export", "import_", "info", "train"]

app = App(name="model", help="Look at models, and move them to and from Hugging Face.")
Flag = Parameter(negative="")
Several = Parameter(consume_multiple=True, negative="")
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


def evaluate(
    *checkpoints: Path,
    reference: Path | None = None,
    panel: Path | None = None,
    regions: Annotated[tuple[str, ...], Several] = (),
    tokenizer: Path | None = None,
    length: int = 128,
    rows: int = 2000,
    masks: int = 3,
    seed: int = 17,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Score checkpoints, ours or a published DNABERT-2, on a genome; several are compared in pairs.

    Every scored token is [MASK]. What a model loses when rows are read backwards, shuffled and from the other strand
    says whether it reads order. The difference of two models has the standard error of pairs: both are scored on the
    same clusters of DNA, whatever their tokenizers.

    Example: ``kleiber evaluate run --reference genome.fa.gz --regions chr8``

    Parameters
    ----------
    checkpoints
        Each a run's folder, a checkpoint, or a folder with config.json and weights.
    reference
        A FASTA file.
    panel
        A haplotype store instead: its reference is scored, tokens over its variant sites also apart, and as many rows
        drawn from its haplotypes.
    regions
        Contigs or blocks to score, beside token frequencies and counts of bases of the rest; all when none is named.
    tokenizer
        The tokenizer.json, when there is none beside the checkpoint.
    length
        Tokens in a row.
    rows
        Rows at most, spread evenly.
    masks
        Disjoint mask sets.
    seed
        Decides the masks.
    json
        Print JSON: an object for one checkpoint; for several, ``models`` by name and their ``differences``.
    """
    from itertools import combinations
    from json import dumps

    from kleiber.cli.genome import open_genome
    from kleiber.errors import ConfigError

    if len(set(checkpoints)) < max(1, len(checkpoints)):
        raise ConfigError("Name one checkpoint to score, or several, each once.")
    settings = TrainConfig(length=length, eval_rows=rows, eval_masks=masks)
    models = [load_with_tokenizer(checkpoint, tokenizer) for checkpoint in checkpoints]
    with open_genome(reference, panel) as (genome, store):
        scored = [_score(*model, genome, store, regions, settings, seed) for model in models]
    pairs = [
        {"first": str(checkpoints[i]), "second": str(checkpoints[j]), **_difference(scored[i][1], scored[j][1])}
        for i, j in combinations(range(len(checkpoints)), 2)
    ]
    if json:
        models_by_name = {str(name): facts for name, (facts, _) in zip(checkpoints, scored, strict=True)}
        print(dumps(_finite({"models": models_by_name, "differences": pairs} if pairs else scored[0][0])))
        return
    for name, (facts, _) in zip(checkpoints, scored, strict=True):
        if pairs:
            print(name)
        _show_scores(facts)
    for pair in pairs:
        print(
            f"{pair['first']} - {pair['second']}: {pair['bits_per_base']:+.4f} ± {pair['bits_per_base_se']:.4f} "
            f"bits/base, paired over {pair['n_clusters']} clusters of DNA "
            f"(95 % interval {pair['interval'][0]:+.4f} to {pair['interval'][1]:+.4f})"
        )


def load_with_tokenizer(checkpoint: Path, tokenizer: Path | None) -> tuple[Any, Any]:
    """Return a model, on the GPU where there is one, and its tokenizer."""
    import torch

    from kleiber.errors import DataError
    from kleiber.model.weights import load_model
    from kleiber.tokens.kinds import load

    model = load_model(checkpoint)
    beside = tokenizer or (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "tokenizer.json"
    if not beside.is_file():
        raise DataError(f"There is no {beside}.\n  Name the tokenizer of the model: --tokenizer tokenizer.json.")
    cut = load(beside)
    if cut.vocab_size != model.config.vocab_size:
        raise DataError(
            f"{beside} has {cut.vocab_size:,} tokens, and {checkpoint} was trained on {model.config.vocab_size:,}."
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), cut


def _score(
    model: Any, cut: Any, genome: Any, store: Any, regions: tuple[str, ...], settings: TrainConfig, seed: int
) -> tuple[dict[str, Any], Any]:
    """Return the scores of one model as JSON, and its nats by cluster."""
    from dataclasses import asdict

    from kleiber.corpus.sampling import CorpusConfig, open_corpus
    from kleiber.train.baselines import territory_counts, token_baselines
    from kleiber.train.evaluate import Evaluation, score
    from kleiber.train.intervals import lay_intervals
    from kleiber.train.scoring import held_out, score_model

    bases = settings.row_tokens * cut.max_token_length
    split = "heldout" if regions else "train"
    corpus = open_corpus(genome, None, CorpusConfig("reference", bases, bases, regions, split), seed)
    evaluation = held_out(corpus, cut, settings, seed, genome, store)
    intervals = lay_intervals(corpus, cut, settings)
    scores = score_model(model, evaluation, intervals)
    assert scores.intervals is not None
    found = asdict(scores.score)
    found |= {"bits_per_base_intervals": scores.intervals[0], "bits_per_base_intervals_se": scores.intervals[1]}
    found["orders"] = {name: {"cost": cost.value, "se": cost.se} for name, cost in scores.orders.items()}
    found["reads_order"] = scores.reads_order
    found["n_clusters"] = len(scores.clusters)
    if store is not None:
        drawn = open_corpus(genome, store, CorpusConfig("pangenome", bases, bases, regions, split), seed)
        found["haplotypes"] = asdict(score(model, Evaluation.of_haplotypes(drawn, cut, settings, seed)))
    if regions:
        rest = open_corpus(genome, None, CorpusConfig("reference", bases, bases, regions), seed)
        known = token_baselines(rest, cut, settings, evaluation, intervals)
        found["baselines"] = known | territory_counts(rest, corpus)
    return found, scores.clusters


def _finite(value: Any) -> Any:
    """Return JSON with null for what is no number: an error that one cluster cannot tell."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _difference(first: Any, second: Any) -> dict[str, Any]:
    """Return the paired difference of two models from their nats by cluster."""
    from kleiber.scaling.pairs import bits_between

    gap = bits_between(first, second)
    known = {"bits_per_base": gap.value, "bits_per_base_se": gap.se}
    return {**known, "interval": list(gap.interval), "n_clusters": gap.n}


def _show_scores(found: dict[str, Any]) -> None:
    """Print the scores of one model."""

    def show(what: str, bits: float, se: float, note: str = "", sign: str = "") -> None:
        error = f"{se:.4f}" if isfinite(se) else "unknown"
        print(f"{what:<26}{bits:{sign}.4f} ± {error}  {note}".rstrip())

    by_cluster = f"{found['n_clusters']} clusters of DNA"
    show("bits/base", found["bits_per_base"], found["bits_per_base_se"], f"tokens under [MASK], {by_cluster}")
    show(
        "  of the same bases",
        found["bits_per_base_intervals"],
        found["bits_per_base_intervals_se"],
        "for every tokenizer",
    )
    if "baselines" in found:
        known = found["baselines"]["unigram"]
        show("    by frequencies alone", known["bits_per_base_intervals"], known["bits_per_base_intervals_se"])
    apart = {**found["strata"], **({"haplotypes": found["haplotypes"]} if "haplotypes" in found else {})}
    for name, part in apart.items():
        note = f"{part['n_tokens']:,} tokens"
        show(f"  {name.replace('_', ' ')}", part["bits_per_base"], part["bits_per_base_se"], note)
    for name, cost in found["orders"].items():
        words = {"reversed": "rows backwards", "shuffled": "rows shuffled", "complement": "the other strand"}
        show(f"  {words[name]}", cost["cost"], cost["se"], "cost, paired", "+")
    if not found["reads_order"]:
        print("  warning: it reads no order that can be told: rows backwards cost less than 3 paired standard errors")
    for kind in ("uniform", "unigram", "markov-", "two-sided-") if "baselines" in found else ():
        alike = {name: one for name, one in found["baselines"].items() if name.startswith(kind)}
        name = min(alike, key=lambda name: alike[name]["bits_per_base"])
        best = alike[name]
        show(f"  beside {name}", best["bits_per_base"], best["se"], "the best chain" if kind == "markov-" else "")
    show("nats/token", found["loss"], found["loss_se"])
    print(f"{'accuracy':<26}{found['accuracy']:.4f}")
    print(f"{'scored':<26}{found['n_tokens']:,} tokens, {found['n_bases']:,} bases")


@app.command
def info(
    model: str,
    *,
    architecture: str = "dnabert2",
    vocab_size: int = 4096,
    length: int = 128,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Show a model's shape, its parameters and operations: of a checkpoint, or of a size.

    Example: ``kleiber model info 15M --vocab-size 4096``

    Parameters
    ----------
    model
        A checkpoint as for `kleiber evaluate`, or a size: 0.4M, 15M.
    architecture
        Network, when a size is named.
    vocab_size
        Tokens, when a size is named.
    length
        Tokens in a row, for counting operations.
    json
        Print JSON.
    """
    from dataclasses import asdict
    from json import dumps

    from kleiber.model.config import shape_for

    if Path(model).exists():
        from kleiber.model.weights import load_weights

        shape, _ = load_weights(Path(model))
    else:
        shape = shape_for(model, vocab_size, architecture=architecture)
    scored = max(1, round(0.15 * (length - 2)))
    facts: dict[str, Any] = {
        **asdict(shape),
        "n_params": shape.n_params,
        "n_params_non_embedding": shape.n_params_non_embedding,
        "flops_per_token": {name: n / length for name, n in shape.flops(1, length, scored).items()},
    }
    if json:
        print(dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number:,.0f}" for name, number in value.items())
        print(f"{key:<24} {f'{value:,}' if isinstance(value, int) else value}")


@app.command(name="import")
def import_(source: Path, *, out: Path) -> None:
    """Read a published DNABERT-2 (config.json and weights) into a checkpoint of ours.

    Example: ``kleiber model import DNABERT-2-117M --out dnabert2``

    Parameters
    ----------
    source
        The published folder; weights are model.safetensors or pytorch_model.bin, which is read without its code.
    out
        The checkpoint's folder.
    """
    shape = _hub().import_model(source, out)
    print(f"{out}: {shape.n_params:,} parameters, {shape.layers} layers of {shape.hidden}")


@app.command
def export(checkpoint: Path, *, out: Path, tokenizer: Path | None = None) -> None:
    """Write a checkpoint as a folder that transformers loads, also where kleiber is not installed.

    Example: ``kleiber model export run --out my-dnabert2``

    Parameters
    ----------
    checkpoint
        A run's folder, or a checkpoint.
    out
        The folder to write.
    tokenizer
        The tokenizer.json, when there is none beside the checkpoint.
    """
    beside = tokenizer or (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "tokenizer.json"
    _hub().export_model(checkpoint, out, beside)
    print(out)


def _hub() -> Any:
    from kleiber.errors import MissingDependency

    try:
        from kleiber.model import hub
    except ImportError as error:
        raise MissingDependency(error.name or "transformers", "hub") from error
    return hub
