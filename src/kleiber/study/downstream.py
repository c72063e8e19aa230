"""What every annealed model of a study is good for: ``downstream.json`` beside each checkpoint, columns for the table.

Models are scored one after the other when all are trained, with the threads that the study settled, so that a killed
study goes on to the same bytes. What counts of words and k-mers reach is found once, in ``downstream/``.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kleiber.downstream.config import Task
from kleiber.downstream.statistics import Estimate, cluster_numbers, estimate, spearman
from kleiber.genome.reference import Reference
from kleiber.storage import fingerprint, read_manifest, write_atomic, write_manifest
from kleiber.study import stages, training
from kleiber.study.config import Study
from kleiber.study.machine import machine
from kleiber.study.progress import Narrator
from kleiber.train.config import Run

if TYPE_CHECKING:
    from kleiber.downstream.labels import Agreement, Labels

__all__ = ["RESULTS", "joined", "score_downstream", "summary"]

RESULTS = "downstream.json"


def score_downstream(study: Study, out: Path, say: Narrator, devices: int = 0) -> None:
    """Score every annealed model that is not scored yet, and the opponents once.

    Parameters
    ----------
    devices
        As the engine has them.
    """
    if not study.downstream:
        return
    import torch

    from kleiber.model.weights import load_model

    torch.set_num_threads(int(machine(study, stages.planned(study, out), out, devices)["threads"]))
    _begin(study, out)
    for unit in study.units():
        run = training.run_of(study, out, unit)
        tokenizer = stages.tokenizer_of(study, out, study.arms[unit.arm].tokenizer)
        for row in _rows(out, run):
            checkpoint = training.run_folder(out, run) / "checkpoints" / f"step-{row['steps']}"
            if (checkpoint / RESULTS).exists():
                continue
            model = load_model(checkpoint)
            found: dict[str, float | None] = {}
            for name, task in study.downstream.items():
                for key, value in _scored(task, out / "downstream" / name, model, tokenizer, study).items():
                    found |= _columns(name, key, value)
            write_atomic(checkpoint / RESULTS, json.dumps(found, indent=1) + "\n")
        say.line(f"  {run.name:<40} scored downstream")


def _rows(out: Path, run: Run) -> list[dict[str, Any]]:
    return json.loads((training.run_folder(out, run) / "rows.json").read_bytes())["rows"]


def _begin(study: Study, out: Path) -> None:
    """Build what tasks read, note their inputs, and score the opponents."""
    for name, task in study.downstream.items():
        folder = out / "downstream" / name
        if read_manifest(folder) is not None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if task.reference:
            Reference.build(task.reference, folder / "reference")
        found = _variant_opponents(study, out, task, folder) if task.variants else _table_opponents(task)
        opponents = {key: [value.value, *(value.interval or (None, None))] for key, value in found.items()}
        inputs = {path: fingerprint(path) for path in task.files}
        write_manifest(folder, {"inputs": inputs, "opponents": opponents})
    stages.refuse_changed_inputs(out)


def _labelled(task: Task, folder: Path) -> Labels:
    """Return the labels of a task's variants, none read yet; `folder` is the task's."""
    from kleiber.downstream.labels import Labels
    from kleiber.downstream.variants import VariantFile

    at = folder / "reference" if task.reference else folder.parents[1] / "genome" / "reference"
    source = VariantFile(Path(task.variants), Reference.open(at))
    return Labels(source, task.label, task.positive, task.negative, task.cluster)


def _agreements(labels: Labels) -> list[Agreement]:
    return labels.agreements(None if labels.is_numeric else labels.choose())


def _scored(task: Task, folder: Path, model: Any, tokenizer: Any, study: Study) -> dict[str, Estimate]:
    """Return what a model reaches at one task, by the name of the statistic."""
    from kleiber.downstream.alleles import Layout
    from kleiber.downstream.likelihood import allele_scores, embedded_tables
    from kleiber.downstream.probe import probe
    from kleiber.downstream.score import score_variants

    if task.variants:
        labels = _labelled(task, folder)
        layout = Layout(labels.source.reference, tokenizer, study.train.row_tokens)
        scorer = partial(allele_scores, model)
        score_variants(labels.source, layout, scorer, None, False, "MODEL", None, labels, distance=False)
        return next(one.statistics for one in _agreements(labels) if one.score == "MODEL_LLR")
    tables = _tables(task)
    reached = probe(embedded_tables(model, tokenizer, tables), tables)
    return {"mcc": reached.mcc}


def _variant_opponents(study: Study, out: Path, task: Task, folder: Path) -> dict[str, Estimate]:
    """Return what counts of training DNA, and scores that the file bears, reach; the first statistic of each."""
    from kleiber.downstream.opponents import count_ratios, count_territory

    counts = count_territory(stages.corpus_of(study, out, next(iter(study.arms))))
    labels = _labelled(task, folder)
    for site in labels.source:
        ratios = count_ratios(counts, labels.source.reference, site.variants)
        harm: dict[str, Any] = {name: -ratio for name, ratio in ratios.items()}
        labels.add(site, harm)
    return {one.score: next(iter(one.statistics.values())) for one in _agreements(labels)}


def _table_opponents(task: Task) -> dict[str, Estimate]:
    from kleiber.downstream.probe import kmer_features, probe

    tables = _tables(task)
    return {"k-mer counts": probe(kmer_features(tables), tables).mcc}


def _tables(task: Task) -> Any:
    from kleiber.downstream.probe import every_tenth
    from kleiber.downstream.tables import read_table

    train, test = read_table(Path(task.train)), read_table(Path(task.test))
    fitted, dev = (train, read_table(Path(task.dev))) if task.dev else every_tenth(train)
    return fitted, dev, test


def _columns(name: str, key: str, value: Estimate) -> dict[str, float | None]:
    """Return the columns of one statistic; an error falls where the model gets better, as a loss does."""
    low, high = value.interval or (None, None)
    columns = {f"{name}_{key}": value.value, f"{name}_{key}_low": low, f"{name}_{key}_high": high}
    return columns | ({} if key == "auprc" else {f"{name}_error": 1 - value.value})


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
        manifest = read_manifest(out / "downstream" / name)
        assert manifest is not None
        known = table.filter(pl.col(f"{name}_error").is_finite() & pl.col("bits_per_base").is_finite())
        columns = (known[f"{name}_error"].to_numpy(), known["bits_per_base"].to_numpy())
        value = estimate(spearman(*columns), cluster_numbers(known["run"].to_list()), study.study.seed)
        key = next(key for key in ("auroc", "mcc", "spearman") if f"{name}_{key}" in table.columns)
        found[name] = {
            "statistic": key,
            "opponents": manifest["opponents"],
            "rank_correlation": value.value if np.isfinite(value.value) else None,
            "interval": None if value.interval is None else list(value.interval),
            "n_models": value.n,
            "n_runs": value.n_clusters,
        }
    return found
