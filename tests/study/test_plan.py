"""The dry run: exact counts, no data, and a verdict on the design."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inprocess import kleiber
from kleiber.errors import ConfigError
from kleiber.model.config import shape_for
from kleiber.study import clock
from kleiber.study.clock import _with_rows
from kleiber.study.config import load_study, parse_study
from kleiber.study.foresight import design_of, foresights
from kleiber.study.plan import checklist, plan, vocab_size
from kleiber.study.rates import measured_rate
from kleiber.study.stages import planned
from kleiber.tokens.train import train_tokenizer
from kleiber.train.config import Run, TrainConfig
from study.conftest import TOY

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = (
    "14,963,712", "27,560,448", "60,409,600", "117,074,176", "230,403,328",
    "14,968,842", "27,565,578", "60,417,290", "117,081,866", "230,411,018",
)  # fmt: skip


@pytest.fixture
def toy():
    return parse_study(TOY, "study.toml", Path("."))


def test_the_original_study_is_planned_without_its_data():
    result = kleiber("plan", ROOT / "studies" / "original.toml", "--no-measure", "--gpu", "a100", "--gpus", "8")
    assert result.returncode == 0, result.stderr
    found = set(re.findall(r"\d[\d,]{7,}", result.stdout))
    assert set(PUBLISHED) <= found
    assert "20 runs" in result.stdout
    assert "8 x a100" in result.stdout


def test_the_original_studys_steps():
    study = load_study(ROOT / "studies" / "original.toml")
    (largest,) = [run for run in plan(study).runs if run.unit.size == "230M" and run.unit.arm == "ref-bpe"]
    assert largest.run.branches()[-1].end == 97_656
    # exact operations over 6·N·D of its 230M model: 1.006 with the head on masked rows and padding left out
    tokens = 97_656 * 1024 * 128
    step = largest.flops / largest.run.n_steps
    assert 0.9 < step * 97_656 / (6 * largest.model.n_params * tokens) < 1.02


def test_flops_are_those_of_training(toy, finished):
    import polars as pl

    table = pl.read_csv(finished / "observations.csv").filter(pl.col("n_tokens") == pl.col("n_tokens").max())
    planned = {(run.unit.arm, run.unit.size): run for run in plan(toy).runs}
    for row in table.iter_rows(named=True):
        run = planned[row["arm"], row["size"]]
        last = run.run.branches()[-1]
        assert run.flops / run.run.n_steps * last.end == row["flops"]
        assert run.model.n_params == row["n_params"]


@pytest.mark.parametrize("spec", ["bpe64", "3mer", "6mer", "nucleotide"])
def test_vocabularies_are_known_before_they_are_trained(spec, windows):
    assert vocab_size(spec) == train_tokenizer(spec, windows[:200]).vocab_size


def test_epochs_and_disk(toy):
    known = plan(toy, n_unique_bases=1000, bases_per_token={"bpe64": 2.5})
    run = known.runs[0]
    assert known.epochs(run) == pytest.approx(31 * 8 * 30 * 2.5 / 1000)
    assert plan(toy).epochs(run) is None
    assert known.n_bytes > 4 * sum(r.model.n_params for r in known.runs)


def verdict(study, name):
    (entry,) = [check for check in checklist(study, plan(study, 10**9)) if name in check["check"]]
    return entry["status"]


@pytest.mark.parametrize(
    ("name", "change", "before", "after"),
    [
        ("sizes under", {"sizes": ("0.01M", "0.02M", "0.05M", "0.1M", "0.2M")}, "fail", "pass"),
        ("annealed budgets", {"tokens": (4e3, 8e3, 1.6e4, 3.2e4)}, "fail", "pass"),
        ("factor", {"tokens": (4e3, 1.6e4)}, "warn", "pass"),
        ("seeds", {"seeds": 2}, "warn", "pass"),
        ("repeats", {"unique": (0.25, 0.5, 1.0)}, "warn", "pass"),
    ],
)
def test_each_check_passes_and_fails(name, change, before, after, toy):
    assert verdict(toy, name) == before
    assert verdict(replace(toy, ladder=replace(toy.ladder, **change)), name) == after


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_the_studies_that_come_along(path):
    """Each is a study; the grid that is made for IsoFLOP is judged fit for it, where its chromosome is there."""
    study = load_study(path)
    checks = checklist(study, plan(study, 58_000_000))
    if path.stem in ("isoflop", "laptop"):
        assert not [check for check in checks if check["status"] == "fail"]
    if path.stem == "isoflop":
        assert [check["check"] for check in checks if check["status"] == "warn"] == [
            "whole contigs held out",
            "repeats varied on purpose",
        ]


def test_gpus(toy):
    whole = plan(toy)
    assert whole.hours_on("a100", 0.5, 2) == pytest.approx(whole.flops / 312e12 / 3600)
    single = plan(replace(toy, train=replace(toy.train, precision="fp32")))
    assert single.hours_on("a100", 0.5) == pytest.approx(whole.flops / 0.5 / 19.5e12 / 3600)
    with pytest.raises(ConfigError, match="no GPU 'a1'"):
        whole.hours_on("a1", 0.5)
    with pytest.raises(ConfigError, match="cannot be"):
        whole.hours_on("a100", 1.5)


@given(st.integers(1, 2000), st.integers(0, 2000), st.integers(1, 2000))
def test_a_smaller_batch_is_of_whole_micro_batches(batch, micro, rows):
    """At most the rows that the clock asks for, as settings that can be, for the original's recipe too."""
    micro, rows = min(micro, batch), min(rows, batch)
    found = _with_rows(TrainConfig(batch=batch, micro_batch=micro), rows)
    assert rows / 2 < found.batch <= rows
    assert bool(found.micro_batch) == bool(micro)
    if micro:
        assert found.micro_batch <= micro
        assert found.batch % found.micro_batch == 0
    if micro > rows:
        assert found.batch == rows


def test_the_original_recipe_is_measured_in_fewer_rows_than_a_micro_batch(tmp_path, monkeypatch):
    """As `kleiber plan studies/original.toml` does, whose micro-batches of 64 rows are more than a step may take."""
    recipe = load_study(ROOT / "studies" / "original.toml").train
    run = Run("tiny", shape_for("0.01M", 73, recipe.dropout), recipe, (1e6,), 1)
    monkeypatch.setattr(clock, "OPERATIONS", 1e8)
    monkeypatch.setattr(clock, "STEPS", 3)
    monkeypatch.setattr(clock, "MOST", 3)
    choices = {"threads": torch.get_num_threads(), "attention": "matmul", "precision": "fp32", "gpus": 0}
    clock._measure(run, 1, "3mer", str(tmp_path / "rate.json"), choices, lambda share: None)
    assert json.loads((tmp_path / "rate.json").read_text()) > 0


def test_hours_here_are_measured(tmp_path):
    """Of the one kind of run that the study has."""
    text = TOY.replace('sizes = ["0.01M", "0.02M"]', 'sizes = ["0.01M"]\nseeds = 2')
    (tmp_path / "study.toml").write_text(re.sub(r"(?m)^pan-bpe.*\n", "", text))
    result = kleiber("plan", tmp_path / "study.toml", "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert 0 < facts["hours_here"] < 1
    assert len(facts["runs"]) == 2


def test_measured_rates_of_gpus():
    """At what was measured they are the measurement; in between they lie between; beyond, the share of peak stays."""
    shape = shape_for("117M", 4096)
    a_token = sum(shape.flops(1, 128, 19).values()) / 128
    assert measured_rate("h100", shape, 128 * 1024) == pytest.approx(0.563e6 * a_token)
    tiny = shape_for("0.2M", 4096)
    rates = [measured_rate("h100", tiny, 128 * rows) for rows in (1, 16, 32, 64, 128, 4096)]
    assert rates[0] == rates[1] < rates[2] < rates[3] < rates[4] == rates[5]
    assert rates[4] == pytest.approx(7.7e6 * sum(tiny.flops(1, 128, 19).values()) / 128)
    largest = [measured_rate("h100", shape_for(size, 4096), 1 << 17) for size in ("1B", "230M")]
    assert largest[0] == largest[1]


def test_hours_of_a_gpu_are_those_of_its_rates(toy):
    planned = plan(replace(toy, train=replace(toy.train, precision="auto")))
    assert planned.precision == "bf16"
    by_hand = sum(
        run.flops / measured_rate("h100", run.model, run.run.train.batch * run.run.train.length)
        for run in (*planned.runs, *planned.trials)
    )
    assert planned.hours_measured("h100") == pytest.approx(by_hand / 3600)
    assert planned.hours_measured("h100", 4) == pytest.approx(by_hand / 4 / 3600)
    assert planned.hours_measured("v100") is None
    assert plan(replace(toy, train=replace(toy.train, precision="fp32"))).hours_measured("h100") is None


def test_the_points_foreseen_are_those_of_the_study_that_ran(toy_study, finished):
    study = load_study(toy_study)
    rows = pl.read_csv(finished / "observations.csv").filter(pl.col("arm") == "pan-bpe")
    design = design_of(planned(study, finished), "pan-bpe")
    assert sorted(zip(design.N, design.D, strict=True)) == sorted(rows.select("n_effective", "n_tokens").iter_rows())
    assert design.cluster.tolist() == [0, 0, 1, 1]


def test_a_design_that_carries_no_law_is_refused_by_name(toy_study):
    result = kleiber("plan", toy_study, "--no-measure", "--half-width")
    assert result.returncode == 2
    assert "2 sizes and 2 budgets" in result.stderr


def test_a_pilot_without_the_arm_is_refused(toy_study, tmp_path):
    (tmp_path / "pilot.csv").write_text("arm,n_params,n_tokens,loss\nother,1e5,1e6,2.0\n")
    result = kleiber("plan", toy_study, "--no-measure", "--pilot", tmp_path / "pilot.csv")
    assert result.returncode == 2
    assert "no rows of the arm 'pan-bpe'; its arms are other" in result.stderr


def test_an_arm_of_few_models_is_there_to_be_compared_and_not_foreseen(toy, monkeypatch):
    monkeypatch.setattr("kleiber.study.foresight.foresee", lambda design, prior, **how: len(design.N))
    law = replace(toy.ladder, sizes=("0.01M", "0.02M", "0.05M"), tokens=(1e5, 2e5, 4e5), seeds=1)
    few = replace(toy.arms["pan-bpe"], sizes=("0.02M",))
    study = replace(toy, arms={"pan-bpe": toy.arms["pan-bpe"], "few": few}, ladder=law)
    assert foresights(study, plan(study), None) == {"pan-bpe": 9}


def test_a_design_is_judged_by_the_models_that_its_arms_have(toy):
    law = replace(toy.ladder, sizes=("0.01M", "0.02M", "0.05M", "0.1M", "0.2M"), tokens=(1e5, 2e5, 4e5, 8e5), seeds=2)
    few = replace(toy.arms["pan-bpe"], sizes=("0.02M",), tokens=(1e5, 2e5))

    def status(arms, ladder):
        study = replace(toy, arms=arms, ladder=ladder)
        return {check["check"]: check["status"] for check in checklist(study, plan(study))}

    both = status({"law": toy.arms["pan-bpe"], "few": few}, law)
    alone = status({"few": few, "fewer": few}, law)
    for check in ("at least 5 sizes under one rule of shape", "at least 4 annealed budgets a size"):
        assert (both[check], alone[check]) == ("pass", "fail")
    seeds = "at least 2 seeds of 3 configurations"
    assert (both[seeds], alone[seeds]) == ("pass", "warn")  # two arms, one size: five are in the ladder
