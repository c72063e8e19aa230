"""What the report says and draws of downstream scores, from tables made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from kleiber.report.downstream import downstream_figures, downstream_sentences
from kleiber.report.reader import read_study

FACTS = {
    "statistic": "auroc",
    "opponents": {"MARKOV": [0.55, 0.5, 0.6], "CADD": [0.77, 0.7, 0.8], "PHYLOP": [None, None, None]},
    "rank_correlation": 0.9,
    "interval": [0.6, 0.99],
    "n_models": 60,
    "n_runs": 20,
}


def scored(folder: Path, best: int, **facts: object) -> Path:
    """Give every model a score that falls with its place by loss, and one of them, by that place, the best."""
    table = pl.read_csv(folder / "observations.csv")
    place = pl.col("bits_per_base").rank("ordinal") - 1
    score = pl.when(place == best).then(0.9).otherwise(0.7 - place / 1000)
    table = table.with_columns(
        brca1_auroc=score, brca1_auroc_low=score - 0.05, brca1_auroc_high=score + 0.05, brca1_error=1 - score
    )
    table.write_csv(folder / "observations.csv")
    (folder / "fits" / "downstream.json").write_text(json.dumps({"brca1": {**FACTS, **facts}}))
    return folder


def test_loss_and_score_agree(study_folder):
    sentences = downstream_sentences(read_study(scored(study_folder, best=0)))
    assert sentences[0].startswith("brca1: the best AUROC is 0.900 (0.850 to 0.950), of ")
    assert sentences[1] == "brca1: the model of the lowest loss is the best here, too."
    assert sentences[2].endswith("over 60 models of 20 runs: +0.90 (+0.60 to +0.99).")
    assert sentences[3] == "brca1, without a network (AUROC): counts (chain) 0.550, CADD 0.770."


def test_loss_and_score_disagree(study_folder):
    folder = scored(study_folder, best=5, rank_correlation=0.1, interval=[-0.2, 0.4])
    sentences = downstream_sentences(read_study(folder))
    assert "loss and AUROC disagree about the best model" in sentences[1]
    assert sentences[1].endswith("with 0.700 (0.650 to 0.750); their intervals do not meet.")
    assert "Whether lower loss means a lower error is not shown by this." in sentences[2]


@pytest.mark.parametrize("missing", [0, 3])
def test_every_model_with_a_score_is_drawn_beside_the_opponents(study_folder, missing):
    scored(study_folder, best=2)
    table = pl.read_csv(study_folder / "observations.csv")
    hidden = pl.int_range(pl.len()) < missing
    names = [name for name in table.columns if name.startswith("brca1_")]
    table = table.with_columns(pl.when(hidden).then(None).otherwise(pl.col(name)).alias(name) for name in names)
    table.write_csv(study_folder / "observations.csv")
    drawn = downstream_figures(read_study(study_folder))
    assert [one.name.split("-")[2] for one in drawn] == ["bits_per_base", "n_params_non_embedding", "n_tokens", "flops"]
    for one in drawn:
        kinds = one.table["kind"].value_counts(sort=True)
        assert dict(kinds.iter_rows()) == {"model": table.height - missing, "opponent": 3}
        lines = {row["opponent"]: row["value"] for row in one.table.iter_rows(named=True) if row["kind"] == "opponent"}
        assert lines == {"counts (chain)": 0.55, "CADD": 0.77, "chance": 0.5}
        assert one.spec()["layer"]


def test_a_study_without_tasks_says_nothing(study_folder):
    study = read_study(study_folder)
    assert downstream_figures(study) == downstream_sentences(study) == []
