"""Replicates differ in everything that luck decides (windows, masks, weights) and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from kleiber.model.dnabert2 import DNABERT2
from kleiber.study import stages
from kleiber.study.config import Unit, load_study
from kleiber.study.training import run_of
from kleiber.train.batches import Batches


@pytest.mark.parametrize("unique", [1.0, 0.5])
@pytest.mark.parametrize("arm", ["pan-bpe", "ref-3mer"])
def test_two_seeds_differ_in_data_masks_and_weights(arm, unique, toy_study, finished):
    study = load_study(toy_study)
    spec = study.arms[arm].tokenizer
    tokenizer = stages.tokenizer_of(study, finished, spec)
    runs = [run_of(study, finished, Unit(arm, "0.01M", seed, unique)) for seed in (5, 6)]
    assert len({run.name for run in runs}) == len({run.labels["config_hash"] for run in runs}) == 2
    corpora = [stages.corpus_of(study, finished, arm, unique, seed=run.seed) for run in runs]
    assert corpora[0].territory == corpora[1].territory
    assert len({corpus.fingerprint for corpus in corpora}) == 2
    places = [set(zip(*map(corpus.places(np.arange(50)).get, ("contig", "start")), strict=True)) for corpus in corpora]
    assert not places[0] & places[1]
    batches = [Batches(corpus, tokenizer, run.train, run.seed)[0] for corpus, run in zip(corpora, runs, strict=True)]
    assert (batches[0].positions != batches[1].positions).any()
    models = [DNABERT2(run.model) for run in runs]
    for model, run in zip(models, runs, strict=True):
        model.initialise(run.seed)
    weights = [model.bert.embeddings.word_embeddings.weight for model in models]
    assert not (weights[0] == weights[1]).any()
    assert {key for key in runs[0].labels if runs[0].labels[key] != runs[1].labels[key]} == {"config_hash"}


def test_the_first_replicate_is_the_study_without_replicates(toy_study, finished):
    """Its folder has the name that it always had, so that adding seeds trains the new ones only."""
    study = load_study(toy_study)
    more = replace(study, ladder=replace(study.ladder, seeds=2))
    names = {run_of(more, finished, unit).name for unit in more.units()}
    trained = {path.name for path in (finished / "runs").iterdir() if path.is_dir()}
    assert trained < names
    assert len(names) == 2 * len(trained)


def test_a_study_keeps_its_nats_by_cluster(finished):
    """They sum up to the losses of the observations, model by model."""
    table = pl.read_csv(finished / "observations.csv")
    clusters = pl.read_csv(finished / "clusters.csv")
    sums = clusters.group_by("run", "steps").agg(pl.col("nats", "n_bases", "n_tokens").sum(), pl.len().alias("n"))
    joined = table.join(sums, on=["run", "steps"])
    assert len(joined) == len(table) == len(sums)
    np.testing.assert_allclose(joined["nats"] / joined["n_tokens_right"], joined["loss"])
    np.testing.assert_allclose(joined["nats"] / np.log(2) / joined["n_bases_right"], joined["bits_per_base"])
    assert joined["n"].unique().to_list() == [2]
    for name in ("reversed", "shuffled", "complement"):
        assert table[f"cost_{name}_se"].is_finite().all()
    assert "lose less than 3 paired standard errors" in (finished / "report.html").read_text()
