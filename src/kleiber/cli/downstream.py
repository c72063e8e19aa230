"""Verbs of what models are good for: score variants, probe embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

__all__ = ["probe", "score"]

Flag = Parameter(negative="")
Several = Parameter(consume_multiple=True, negative="")


def score(
    checkpoint: Path,
    *,
    reference: Path,
    vcf: Path,
    out: Path | None = None,
    label: str | None = None,
    positive: Annotated[tuple[str, ...], Several] = (),
    negative: Annotated[tuple[str, ...], Several] = (),
    harmful: Literal["high", "low"] = "high",
    counts: Path | None = None,
    holdout: Annotated[tuple[str, ...], Several] = (),
    key: str = "KLEIBER",
    distance: Annotated[bool, Flag] = False,
    cluster: int = 100,
    length: int = 128,
    tokenizer: Path | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    threads: int = 0,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Score variants by how likely a model finds ALT beside REF, and compare that with a label.

    The allele is hidden, both strands are averaged, and every REF is checked against the FASTA. A lower score, and a
    larger distance of embeddings, mean harm.

    Example: ``kleiber score run --reference genome.fa.gz --vcf variants.vcf.gz --out scored.vcf.gz``

    Parameters
    ----------
    checkpoint
        A run's folder, a checkpoint, or a published DNABERT-2, as for `kleiber evaluate`.
    reference
        The FASTA that the variants were called on.
    vcf
        Variants: VCF or BCF, plain or compressed.
    out
        Where to write them with their scores: .vcf, .vcf.gz, .bcf, .tsv or .csv; without it, and without a label, a
        table is printed.
    label
        An INFO key to compare scores with: AUROC and AUPRC for classes, Spearman for numbers.
    positive
        Its values that mean harm; without them the first that the header names.
    negative
        Its values that mean none; without them the last that the header names.
    harmful
        Which end of a numeric label means harm.
    counts
        A FASTA whose words are counted for the opponents: what the model was trained on.
    holdout
        Contigs or blocks of it that are not counted, because training did not read them.
    key
        What the new INFO keys begin with.
    distance
        Compare the embeddings of the alleles, too: about four times the work for an SNV.
    cluster
        Bases: variants in one stretch of so many are drawn together for the intervals.
    length
        Tokens in a row.
    tokenizer
        The tokenizer.json, when there is none beside the checkpoint.
    precision
        bf16 is faster where the machine computes in it, and moves scores by some thousandths of a nat.
    threads
        Threads of the processor; 0 for all. No number depends on it.
    json
        Print JSON.
    """
    from functools import partial
    from tempfile import TemporaryDirectory

    from kleiber.cli.model import load_with_tokenizer
    from kleiber.downstream.alleles import Layout
    from kleiber.downstream.labels import Labels
    from kleiber.downstream.likelihood import allele_scores
    from kleiber.downstream.score import score_variants
    from kleiber.downstream.variants import VariantFile
    from kleiber.errors import ConfigError
    from kleiber.genome.reference import Reference

    if cluster < 1 or not 8 <= length <= 65_536:
        raise ConfigError(f"--cluster must be at least 1, and --length 8 to 65,536, not {cluster} and {length}.")
    if label is None and (positive or negative):
        raise ConfigError("--positive and --negative are values of a label: name it, --label KEY.")
    if counts is not None and counts.resolve() == reference.resolve() and not holdout:
        raise ConfigError(
            f"{counts} holds the very places that are scored: counts of it know each REF allele.\n"
            "  Name what the model was trained on, and leave out what it was not: --holdout."
        )
    _set_threads(threads)
    model, cut = load_with_tokenizer(checkpoint, tokenizer)
    with TemporaryDirectory() as scratch:
        genome = Reference.build(reference, Path(scratch) / "reference")
        if label:
            Labels(VariantFile(vcf, genome), label, positive, negative, cluster, harmful).rehearse()
        source = VariantFile(vcf, genome)
        labels = Labels(source, label, positive, negative, cluster, harmful) if label else None
        words = _counted(counts, holdout, Path(scratch)) if counts else None
        tally = score_variants(
            source, Layout(genome, cut, length - 2), partial(allele_scores, model, precision=precision), out,
            out is not None or label is None, key, words, labels, distance, precision,
        )  # fmt: skip
        choice = labels.choose() if labels and not labels.is_numeric else None
        found = labels.agreements(choice) if labels else []
    if json:
        _print_json(tally, label, choice, found, harmful)
    elif out is not None or label is not None:
        _show_score(tally, label, choice, found, harmful, counts is not None)


def _set_threads(threads: int) -> None:
    import os

    import torch

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def _counted(fasta: Path, holdout: tuple[str, ...], scratch: Path) -> Any:
    """Return the counts of words of a FASTA, but for what is held out."""
    from kleiber.corpus.sampling import CorpusConfig, open_corpus
    from kleiber.downstream.opponents import count_territory
    from kleiber.genome.reference import Reference

    known = Reference.build(fasta, scratch / "counted")
    return count_territory(open_corpus(known, None, CorpusConfig("reference", 1, 1, holdout), 0))


def _print_json(tally: Any, label: str | None, choice: Any, found: list[Any], harmful: str) -> None:
    from dataclasses import asdict
    from json import dumps

    facts = asdict(tally)
    if label is not None:
        facts["label"] = {"key": label, **(asdict(choice) if choice else {"harmful": harmful})}
        facts["agreements"] = {
            one.score: {name: _estimate(value) for name, value in one.statistics.items()} for one in found
        }
    print(dumps(facts))


def _estimate(value: Any) -> dict[str, Any]:
    from math import isfinite

    return {
        "value": value.value if isfinite(value.value) else None,
        "interval": None if value.interval is None else list(value.interval),
        "n": value.n,
        "n_clusters": value.n_clusters,
    }


def _show_score(tally: Any, label: str | None, choice: Any, found: list[Any], harmful: str, counted: bool) -> None:
    print(f"{tally.n_scored:,} variants scored, {tally.n_cut:,} of them near a contig's end or an N")
    for reason, n in tally.not_scored.items():
        print(f"{n:,} not scored: {reason}")
    if label is None:
        return
    if choice is not None:
        groups = {"positive (harmful)": choice.positive, "negative": choice.negative, "left out": choice.left_out}
        for name, values in groups.items():
            known = ", ".join(f"{value or 'no value'} {n:,}" for value, n in values.items()) or "none"
            print(f"{label}, {name}: {known}")
    else:
        print(f"{label} is a number, of which {harmful} ones are taken for harmful (--harmful)")
    for one in found:
        shown = [f"{name.upper():<9}{show_estimate(value)}" for name, value in one.statistics.items()]
        first = next(iter(one.statistics.values()))
        print(f"{one.score:<20}{'   '.join(shown)}   {first.n:,} variants in {first.n_clusters:,} clusters")
    if not counted:
        print("no counts beside them: name what the model was trained on, --counts FASTA")


def show_estimate(value: Any) -> str:
    """Return an estimate with its interval as text, or say that it has none."""
    if value.interval is None:
        return f"{value.value:.3f} (too few clusters for an interval)"
    return f"{value.value:.3f} ({value.interval[0]:.3f} to {value.interval[1]:.3f})"


def probe(
    checkpoint: Path,
    *,
    train: Path,
    test: Path,
    dev: Path | None = None,
    reference: Path | None = None,
    holdout: Annotated[tuple[str, ...], Several] = (),
    drop_seen: Annotated[bool, Flag] = False,
    tokenizer: Path | None = None,
    threads: int = 0,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Fit logistic regression on a model's frozen embeddings, beside the same on counts of k-mers.

    Tables have the columns sequence and label, as those of the GUE benchmark (csv, tsv; plain, .gz or .xz).

    Example: ``kleiber probe run --train train.csv --dev dev.csv --test test.csv``

    Parameters
    ----------
    checkpoint
        A run's folder, a checkpoint, or a published DNABERT-2, as for `kleiber evaluate`.
    train
        What the classifiers are fitted on.
    test
        What they are scored on, once.
    dev
        What chooses the layer, k and the penalty; without it every tenth row of the train table.
    reference
        The FASTA that the model was trained on, in which test sequences are looked for.
    holdout
        Contigs or blocks of it that training did not read.
    drop_seen
        Leave out the test sequences that are found there.
    tokenizer
        The tokenizer.json, when there is none beside the checkpoint.
    threads
        Threads of the network; 0 for all. The classifiers take one.
    json
        Print JSON.
    """
    from dataclasses import asdict
    from json import dumps

    import numpy as np

    from kleiber.cli.model import load_with_tokenizer
    from kleiber.downstream.likelihood import embedded_tables
    from kleiber.downstream.probe import compare, kmer_features, probe
    from kleiber.downstream.seen import SEEN, share_seen
    from kleiber.downstream.tables import read_tables
    from kleiber.errors import ConfigError, DataError

    if drop_seen and reference is None:
        raise ConfigError("--drop-seen needs the DNA that the model was trained on: --reference FASTA.")
    _set_threads(threads)
    model, cut = load_with_tokenizer(checkpoint, tokenizer)
    fitted, chosen, tested = read_tables(train, dev, test)
    read = {*fitted.sequences, *chosen.sequences}
    n_read = sum(text in read for text in tested.sequences)
    facts: dict[str, Any] = {"n_in_train": n_read, "n_test": len(tested)}
    if reference is not None:
        is_seen = share_seen(tested.sequences, _stretches(reference, holdout)) >= SEEN
        facts |= {"n_seen": int(is_seen.sum()), "dropped": drop_seen}
        if drop_seen:
            if is_seen.all():
                raise DataError("All test sequences were found in the DNA: none is left.")
            tested = tested.only(~is_seen)
    tables = (fitted, chosen, tested)
    ours = probe(embedded_tables(model, cut, tables), tables)
    counts = probe(kmer_features(tables), tables)
    gap = compare(ours, counts, tested)
    for name, one in (("model", ours), ("kmers", counts)):
        facts[name] = {"chosen": one.chosen, "dev_mcc": one.dev_mcc, "mcc": _estimate(one.mcc)}
        facts[name]["auroc"] = None if one.auroc is None else _estimate(one.auroc)
        facts[name]["not_converged"] = None if one.short is None else asdict(one.short)
    facts["difference"] = {"mcc": gap.mcc, "interval": list(gap.interval)}
    facts["chance"] = {"mcc": 0.0, "largest_class": float(np.bincount(tested.labels).max() / len(tested))}
    if json:
        print(dumps(facts))
        return
    for name, one in (("embeddings", ours), ("counts of k-mers", counts)):
        shown = "" if one.auroc is None else f"   AUROC {show_estimate(one.auroc)}"
        print(f"{name:<18}MCC {show_estimate(one.mcc)}{shown}   ({one.chosen}, chosen on the dev table)")
        if one.short:
            print(f"  {one.short}")
    print(f"difference        MCC {gap.mcc:+.3f} ({gap.interval[0]:+.3f} to {gap.interval[1]:+.3f}), paired")
    print(f"{len(tested):,} test rows; {n_read:,} of {facts['n_test']:,} stand in the train or the dev table, too")
    if reference is None:
        print("not looked for in training DNA: name it, --reference FASTA")
    else:
        fate = "left out" if drop_seen else "kept (--drop-seen leaves them out)"
        print(f"{facts['n_seen']:,} of {facts['n_test']:,} lie in the DNA of {reference.name}: {fate}")


def _stretches(fasta: Path, holdout: tuple[str, ...]) -> Any:
    """Yield the bases of a FASTA, region by region, but for what is held out."""
    from tempfile import TemporaryDirectory

    from kleiber.corpus.sampling import CorpusConfig, open_corpus
    from kleiber.genome.reference import Reference

    with TemporaryDirectory() as scratch:
        known = Reference.build(fasta, Path(scratch) / "seen")
        for region in open_corpus(known, None, CorpusConfig("reference", 1, 1, holdout), 0).territory:
            yield known.bases(region.contig)[region.start : region.end]
