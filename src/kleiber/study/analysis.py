"""From finished runs to tables, baselines, laws, figures and the report. Everything here can be made again from runs.

The table holds only what is reproducible to the byte; wall times stay with the runs that took them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kleiber.scaling.elasticities import elasticities
from kleiber.scaling.exclusions import leave_out
from kleiber.scaling.fit import fit
from kleiber.scaling.frontier import LossCurve, envelope, gradient_rule, isoflop
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.witnesses import agree, examine
from kleiber.storage import with_nulls, write_atomic
from kleiber.study import downstream, stages, training
from kleiber.study.config import Study
from kleiber.study.plan import checklist
from kleiber.train.config import Run

__all__ = ["analyse", "name_stuck", "observations", "write_up"]


def analyse(study: Study, out: Path) -> None:
    """Write the tables of observations and clusters, ``baselines.json``, ``checklist.json`` and ``fits/``."""
    runs = [training.run_of(study, out, unit) for unit in study.units()]
    baselines = _baselines(study, out, runs)
    frequencies = {arm: found["unigram"]["bits_per_base"] for arm, found in baselines.items()}
    table = downstream.joined(study, out, name_stuck(observations(out, runs), frequencies), runs)
    if study.downstream:
        _write_json(out / "fits" / "downstream.json", downstream.summary(study, out, table))
    write_atomic(out / "observations.csv", table.write_csv())
    write_atomic(out / "clusters.csv", _clusters(out, runs).write_csv())
    _write_parquet(table, out / "observations.parquet")
    _write_json(out / "baselines.json", baselines)
    _write_json(out / "checklist.json", checklist(study, stages.planned(study, out)))
    for arm in study.arms:
        own = table.filter(pl.col("arm") == arm)
        for result in _laws(study, out, own, [r for r in runs if r.labels["arm"] == arm], frequencies[arm]):
            is_other_form = result.method == "parametric" and result.form != "chinchilla"
            name = result.form if is_other_form else result.method
            _write_json(out / "fits" / f"{arm}.{name}.json", result.to_dict())


def observations(out: Path, runs: list[Run]) -> pl.DataFrame:
    """Return one row an annealed model, in the order of the study."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        rows += json.loads((training.run_folder(out, run) / "rows.json").read_bytes())["rows"]
    return pl.DataFrame(with_nulls(rows), infer_schema_length=None).with_columns(
        epochs=pl.col("n_bases") / pl.col("n_unique_bases")
    )


def _clusters(out: Path, runs: list[Run]) -> pl.DataFrame:
    """Return the nats of every annealed model by cluster of held-out DNA, each with its run and steps."""
    from kleiber.train.scoring import CLUSTERS

    parts = []
    for run in runs:
        for row in json.loads((training.run_folder(out, run) / "rows.json").read_bytes())["rows"]:
            path = training.run_folder(out, run) / "checkpoints" / f"step-{row['steps']}" / CLUSTERS
            known = (pl.lit(run.name).alias("run"), pl.lit(row["steps"]).alias("steps"))
            if path.exists():  # a run of an earlier version has none
                parts.append(pl.read_csv(path, schema_overrides={"contig": pl.String}).select(*known, pl.all()))
    return pl.concat(parts) if parts else pl.DataFrame()


def name_stuck(table: pl.DataFrame, frequencies: dict[str, float]) -> pl.DataFrame:
    """Give the status ``stuck`` to runs that never got better than the frequencies of tokens.

    A run is when its model on the most data is less than a standard error better. Such a run says how training failed
    and nothing about how loss falls with N and D.

    Parameters
    ----------
    frequencies
        Bits per base of the token unigram, by arm.
    """
    floor = pl.col("arm").replace_strict(frequencies, return_dtype=pl.Float64)
    on_most_data = pl.col("n_tokens") == pl.col("n_tokens").max().over("run")
    is_no_better = pl.col("bits_per_base") > floor - pl.col("bits_per_base_se").fill_nan(0.0).fill_null(0.0)
    is_stuck = (on_most_data & is_no_better).any().over("run")
    return table.with_columns(status=pl.when(is_stuck).then(pl.lit("stuck")).otherwise(pl.col("status")))


def write_up(out: Path) -> None:
    """Draw the figures and write ``report.html`` from what is in the folder."""
    from kleiber.report.figures import write_figures
    from kleiber.report.page import write_report

    write_figures(out)
    write_report(out)


def _baselines(study: Study, out: Path, runs: list[Run]) -> dict[str, Any]:
    """Return the baselines of every arm by name, and under ``"curve"`` how counts fare on what its runs have read."""
    from kleiber.train.baselines import count_curve, token_baselines
    from kleiber.train.evaluate import Evaluation
    from kleiber.train.intervals import lay_intervals

    found: dict[str, Any] = {}
    for name, arm in study.arms.items():
        tokenizer = stages.tokenizer_of(study, out, arm.tokenizer)
        heldout = stages.heldout_corpus(study, out, arm.tokenizer)
        evaluation = Evaluation.of(heldout, tokenizer, study.train, study.study.seed)
        intervals = lay_intervals(heldout, tokenizer, study.train)
        rows = stages.corpus_of(study, out, name, full_rows=True)
        found[name] = token_baselines(rows, tokenizer, study.train, evaluation, intervals)
        branches = next(run for run in runs if run.labels["arm"] == name).branches()
        n_rows = [branch.end * study.train.batch for branch in branches]
        curve = count_curve(stages.corpus_of(study, out, name), heldout, tokenizer, study.train, n_rows)
        found[name] |= {**curve[-1]["scores"], "curve": curve}
    return found


def _laws(study: Study, out: Path, table: pl.DataFrame, runs: list[Run], frequencies: float) -> list[FitResult]:
    """Fit the points that read most unique data by every method; all of them by the law that counts repeats.

    Runs that are stuck are left out and named, unless all are, and so are points as good as token frequencies, whose
    score in bits per base is `frequencies`.
    """
    learned = table.filter(pl.col("status") != "stuck")
    warnings = _left_out(table.filter(pl.col("status") == "stuck"), len(learned))
    table = table if learned.is_empty() else learned
    most = table["unique"].max()
    fresh = table.filter(pl.col("unique") == most)
    points = Observations.of(fresh)
    if not learned.is_empty():
        points = leave_out(points, frequencies * float(np.log(2)) * fresh["bases_per_token"].item(0))
    drawn = [run for run in runs if run.name in set(fresh["run"])]
    trunks = [_curve(out, run, "trunk") for run in drawn]
    # the original study's rule goes along whole runs, whose rate falls all the way: they have no trunk
    whole = trunks if study.train.has_trunk else [_curve(out, run, run.branches()[-1].phase) for run in drawn]
    valleys = isoflop(points)
    found = examine(fit(points, bootstrap=study.fit.bootstrap, seed=study.study.seed), points, valleys)
    laws = [found, agree(valleys, found), elasticities(points), envelope(trunks), gradient_rule(whole)]
    if table["unique"].n_unique() > 1:
        in_tokens = table.with_columns(unique_tokens=pl.col("n_unique_bases") / pl.col("bases_per_token"))
        laws.append(fit(Observations.of(in_tokens), form="data-constrained"))
    return [replace(law, warnings=(*law.warnings, *warnings)) for law in laws]


def _left_out(stuck: pl.DataFrame, n_learned: int) -> tuple[str, ...]:
    """Say which runs no law was fitted to."""
    if stuck.is_empty():
        return ()
    if not n_learned:
        return (
            "no run is a standard error better than the frequencies of tokens: the law is of models that have hardly "
            "learned anything else",
        )
    names = [f"{size} (seed {seed})" for size, seed in stuck.select("size", "seed").unique(maintain_order=True).rows()]
    return (f"left out, because they never got better than the frequencies of tokens: {', '.join(names)}",)


def _curve(out: Path, run: Run, phase: str) -> LossCurve:
    """Return the training loss along one phase of a run: of its trunk, at a constant rate, as a cooldown bends it."""
    lines = (json.loads(line) for line in (training.run_folder(out, run) / "metrics.jsonl").read_bytes().splitlines())
    keep = [line for line in lines if line["phase"] == phase]
    columns = {key: np.array([line[key] for line in keep], float) for key in ("step", "n_tokens", "flops", "loss")}
    return LossCurve(
        float(run.model.n_params_non_embedding), columns["step"], columns["n_tokens"], columns["flops"], columns["loss"]
    )


def _write_parquet(table: pl.DataFrame, path: Path) -> None:
    from io import BytesIO

    buffer = BytesIO()
    table.write_parquet(buffer)
    write_atomic(path, buffer.getvalue())


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(with_nulls(value), indent=1, sort_keys=True, allow_nan=False) + "\n")
