"""What every annealed model of a study is good for: ``downstream.json`` beside each checkpoint, columns for the table.

What a task reads is looked at before anything long begins, and once more with the genome, before any model is trained:
a label that is not there must not be found out after a night. Models are scored one after the other when all are
trained, in fp32 and in batches that no number of threads changes, so that a killed study goes on to the same bytes.
What counts of words and k-mers reach is found once, in ``downstream/``.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from kleiber.downstream.config import Task
from kleiber.downstream.labels import Choice, Harmful, Labels
from kleiber.downstream.statistics import Estimate, cluster_numbers, estimate, spearman
from kleiber.downstream.tables import Tables, read_tables
from kleiber.downstream.variants import VariantFile
from kleiber.genome.reference import Reference
from kleiber.storage import fingerprint, read_manifest, with_nulls, write_atomic, write_manifest
from kleiber.study import stages, training
from kleiber.study.config import Study
from kleiber.study.progress import Narrator
from kleiber.train.config import Run

__all__ = ["RESULTS", "joined", "prepare_tasks", "score_downstream", "summary"]

RESULTS, OPPONENTS = "downstream.json", "opponents.json"


def prepare_tasks(study: Study, out: Path) -> None:
    """Read all that tasks name, note it, and build the references of those that have their own.

    Raises
    ------
    ConfigError, DataError, UnknownName
        When something is damaged, or cannot be scored: labels, alleles, contigs, classes.
    StateError
        When a file has changed since the study began.
    """
    for name, task in study.downstream.items():
        folder = out / "downstream" / name
        if read_manifest(folder) is not None:
            continue
        inputs = {path: fingerprint(path) for path in task.files}
        if task.variants:
            if task.reference:
                Reference.build(task.reference, folder / "reference")
            _labels(task, folder).rehearse()
        else:
            _tables(task)
        write_manifest(folder, {"inputs": inputs})
    stages.refuse_changed_inputs(out)


def score_downstream(study: Study, out: Path, say: Narrator) -> None:
    """Score every annealed model that is not scored yet, and the opponents once."""
    if not study.downstream:
        return
    import torch

    from kleiber.model.weights import load_model

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _score_opponents(study, out)
    for unit in study.units():
        run = training.run_of(study, out, unit)
        tokenizer = stages.tokenizer_of(study, out, study.arms[unit.arm].tokenizer)
        for row in _rows(out, run):
            checkpoint = training.run_folder(out, run) / "checkpoints" / f"step-{row['steps']}"
            if (checkpoint / RESULTS).exists():
                continue
            model = load_model(checkpoint).to(device)
            found: dict[str, float | None] = {}
            for name, task in study.downstream.items():
                for key, value in _scored(task, out / "downstream" / name, model, tokenizer, study, say).items():
                    found |= _columns(name, key, value)
            write_atomic(checkpoint / RESULTS, json.dumps(found, indent=1) + "\n")
        say.line(f"  {run.name:<40} scored downstream")


def _rows(out: Path, run: Run) -> list[dict[str, Any]]:
    return json.loads((training.run_folder(out, run) / "rows.json").read_bytes())["rows"]


def _score_opponents(study: Study, out: Path) -> None:
    for name, task in study.downstream.items():
        folder = out / "downstream" / name
        if (folder / OPPONENTS).exists():
            continue
        found = _variant_opponents(study, out, task, folder) if task.variants else _table_opponents(task)
        opponents = {key: [with_nulls(value.value), *(value.interval or (None, None))] for key, value in found.items()}
        write_atomic(folder / OPPONENTS, json.dumps(opponents, indent=1) + "\n")


def _labels(task: Task, folder: Path) -> Labels:
    """Return the labels of a task's variants, none read yet; `folder` is the task's."""
    at = folder / "reference" if task.reference else folder.parents[1] / "genome" / "reference"
    source = VariantFile(Path(task.variants), Reference.open(at))
    harmful: Harmful = "low" if task.harmful == "low" else "high"
    return Labels(source, task.label, task.positive, task.negative, task.cluster, harmful)


def _choice(labels: Labels) -> Choice | None:
    return None if labels.is_numeric else labels.choose()


def _scored(task: Task, folder: Path, model: Any, tokenizer: Any, study: Study, say: Narrator) -> dict[str, Estimate]:
    """Return what a model reaches at one task, by the name of the statistic."""
    from kleiber.downstream.alleles import Layout
    from kleiber.downstream.likelihood import allele_scores, embedded_tables
    from kleiber.downstream.probe import probe
    from kleiber.downstream.score import score_variants

    if task.variants:
        labels = _labels(task, folder)
        layout = Layout(labels.source.reference, tokenizer, study.train.row_tokens)
        scorer = partial(allele_scores, model)
        score_variants(labels.source, layout, scorer, None, False, "MODEL", None, labels, distance=False)
        return next(one.statistics for one in labels.agreements(_choice(labels)) if one.score == "MODEL_LLR")
    tables = _tables(task)
    reached = probe(embedded_tables(model, tokenizer, tables), tables)
    if reached.short:
        say.line(f"  {folder.name}: {reached.short}")
    return {"mcc": reached.mcc}


def _variant_opponents(study: Study, out: Path, task: Task, folder: Path) -> dict[str, Estimate]:
    """Return what counts of training DNA, and scores that the file bears, reach; the first statistic of each."""
    from kleiber.downstream.opponents import count_ratios, count_territory
    from kleiber.downstream.score import by_site, in_chunks

    counts = count_territory(stages.corpus_of(study, out, next(iter(study.arms))))
    labels = _labels(task, folder)
    for sites, variants in in_chunks(labels.source):
        ratios = count_ratios(counts, labels.source.reference, variants)
        for site, harm in by_site(sites, {name: -ratio for name, ratio in ratios.items()}):
            labels.add(site, harm)
    return {one.score: next(iter(one.statistics.values())) for one in labels.agreements(_choice(labels))}


def _table_opponents(task: Task) -> dict[str, Estimate]:
    from kleiber.downstream.probe import kmer_features, probe

    tables = _tables(task)
    return {"k-mer counts": probe(kmer_features(tables), tables).mcc}


def _tables(task: Task) -> Tables:
    return read_tables(Path(task.train), Path(task.dev) if task.dev else None, Path(task.test))


def _columns(name: str, key: str, value: Estimate) -> dict[str, float | None]:
    """Return the columns of one statistic; an error falls where the model gets better, as a loss does."""
    low, high = value.interval or (None, None)
    columns = {f"{name}_{key}": with_nulls(value.value), f"{name}_{key}_low": low, f"{name}_{key}_high": high}
    return columns | ({} if key == "auprc" else {f"{name}_error": with_nulls(1 - value.value)})


def joined(study: Study, out: Path, rows: pl.DataFrame, runs: list[Run]) -> pl.DataFrame:
    """Return the observations with the columns of every task, in the order of the rows."""
    if not study.downstream:
        return rows
    found = [
        json.loads((training.run_folder(out, run) / "checkpoints" / f"step-{row['steps']}" / RESULTS).read_bytes())
        for run in runs
        for row in _rows(out, run)
    ]
    return pl.concat([rows, pl.DataFrame(found, infer_schema_length=None)], how="horizontal")


def summary(study: Study, out: Path, table: pl.DataFrame) -> dict[str, Any]:
    """Return each task's opponents, and the rank correlation of its error and bits per base.

    Its interval draws whole runs, for the budgets of one share a trunk.
    """
    found = {}
    for name in study.downstream:
        known = table.filter(pl.col(f"{name}_error").is_finite() & pl.col("bits_per_base").is_finite())
        columns = (known[f"{name}_error"].to_numpy(), known["bits_per_base"].to_numpy())
        value = estimate(spearman(*columns), cluster_numbers(known["run"].to_list()), study.study.seed)
        key = next(key for key in ("auroc", "mcc", "spearman") if f"{name}_{key}" in table.columns)
        found[name] = {
            "statistic": key,
            "opponents": json.loads((out / "downstream" / name / OPPONENTS).read_bytes()),
            "rank_correlation": with_nulls(value.value),
            "interval": None if value.interval is None else list(value.interval),
            "n_models": value.n,
            "n_runs": value.n_clusters,
        }
    return found
