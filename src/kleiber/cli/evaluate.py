"""The verb evaluate: models on held-out DNA, and in pairs."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from kleiber.cli.model import load_with_tokenizer
from kleiber.cli.options import Flag, Several
from kleiber.train.config import TrainConfig

__all__ = ["evaluate"]


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
    from kleiber.storage import with_nulls

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
        print(dumps(with_nulls({"models": models_by_name, "differences": pairs} if pairs else scored[0][0])))
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
