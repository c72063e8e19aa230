"""The learning rate by size: known parabolas and lines, and a real sweep of tiny models."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import polars as pl
import pytest

from inprocess import kleiber
from kleiber.errors import ConfigError
from kleiber.model.config import shape_for
from kleiber.study.config import parse_study
from kleiber.study.plan import plan
from kleiber.study.tuning import best_rate
from study.conftest import TOY

LADDER = """sizes = ["0.01M", "0.02M"]
seeds = 2
replicated = ["0.02M"]
repeated = ["0.01M"]"""
TUNE = """[tune]
sizes = ["0.01M", "0.02M"]
tokens = 4e3
factors = [0.3, 1, 3, 900]
[train]"""
TUNED = (
    TOY.replace('sizes = ["0.01M", "0.02M"]', LADDER)
    .replace('tokenizer = "3mer" }', 'tokenizer = "3mer", unique = [0.5, 1.0] }')
    .replace("[train]", TUNE)
)


def test_a_parabola_in_the_logarithm():
    rates = [1e-3 * 2**k for k in range(-2, 3)]
    losses = [3 + (log(rate) - log(1.3e-3)) ** 2 for rate in rates]
    rate, is_inside = best_rate(rates[::-1], losses[::-1])
    assert rate == pytest.approx(1.3e-3)
    assert is_inside
    assert best_rate(rates, range(5)) == (pytest.approx(rates[0]), False)
    assert best_rate([1, 2, 4], [1.0, 1.0, 1.0])[0] == 1


def test_a_tuned_study_with_replicates_and_repeats(tmp_path):
    """Every run of the ladder is trained at the rule's rates times the geometric mean of what was best."""
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(
        TUNED.replace("seed = 5", "seed = 6").replace("factors = [0.3, 1, 3, 900]", "factors = [0.3, 1, 3]")
    )
    result = kleiber("run", study, "--out", out)
    assert result.returncode == 0, result.stderr
    tuned = json.loads((out / "lr.json").read_bytes())
    train = parse_study(study.read_text(), "study.toml", tmp_path).train
    assert [(trial["size"], trial["factor"]) for trial in tuned["trials"]] == [
        (size, factor) for size in ("0.01M", "0.02M") for factor in (0.3, 1, 3)
    ]
    best = {point["size"]: point["factor"] for point in tuned["points"]}
    assert list(best) == ["0.01M", "0.02M"]
    assert tuned["factor"] == pytest.approx(sqrt(best["0.01M"] * best["0.02M"]))
    for point in tuned["points"]:
        told = f"[tune] {point['size']}: {point['factor']:g} times the rates is best, at the edge of what was tried"
        assert (told in result.stderr) != point["inside"]
    table = pl.read_csv(out / "observations.csv")
    runs = table.select("arm", "size", "seed", "unique").unique().sort("arm", "size", "seed", "unique").rows()
    assert runs == [
        ("pan-bpe", "0.01M", 6, 1.0), ("pan-bpe", "0.02M", 6, 1.0), ("pan-bpe", "0.02M", 7, 1.0),
        ("ref-3mer", "0.01M", 6, 0.5), ("ref-3mer", "0.01M", 6, 1.0),
        ("ref-3mer", "0.02M", 6, 1.0), ("ref-3mer", "0.02M", 7, 1.0),
    ]  # fmt: skip
    for row in table.iter_rows(named=True):
        shape = shape_for(row["size"], row["vocab_size"], architecture=row["architecture"])
        assert row["peak_lr"] == pytest.approx(tuned["factor"] * train.peak_lr(shape))
        asked = json.loads((out / "runs" / row["run"] / "manifest.json").read_bytes())["config"]["train"]
        assert asked["muon_lr"] == pytest.approx(tuned["factor"] * train.matrices_lr)
    states = json.loads(kleiber("status", study, "--out", out, "--json").stdout)
    assert [run["state"] for run in states] == ["done"] * 7
    assert "tuned at 0.01M, 0.02M" in (out / "report.html").read_text()


def test_trials_are_planned():
    study = parse_study(TUNED, "study.toml", Path("."))
    whole = plan(study)
    assert len(whole.trials) == 8
    assert whole.flops == sum(run.flops for run in whole.runs) + sum(run.flops for run in whole.trials)
    assert {run.run.n_steps for run in whole.trials} == {16}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("factors = [0.3, 1, 3, 900]", "factors = [1, 2]"), "factors .* must be at least 3"),
        (('replicated = ["0.02M"]', 'replicated = ["9M"]'), "none of its sizes"),
        (("unique = [0.5, 1.0]", "unique = [0.0]"), "fractions above 0"),
        (('panel = ["embedded"]', 'panel = ["embedded"]\nfallback = "other"'), 'can be "embedded"'),
    ],
)
def test_what_cannot_be(change, says):
    with pytest.raises(ConfigError, match=says):
        parse_study(TUNED.replace(*change), "study.toml", Path("."))


def test_a_fallback_is_told(tmp_path):
    study, out = tmp_path / "study.toml", tmp_path / "out"
    text = TOY.replace('reference = "embedded"', 'reference = "absent.fa"\nfallback = "embedded"')
    study.write_text(text.replace('sizes = ["0.01M", "0.02M"]', 'sizes = ["0.01M"]'))
    result = kleiber("sweep", study, "--out", out, "--task", "3/3")  # of two runs: nothing to train
    assert result.returncode == 0, result.stderr
    assert "reads the embedded data instead" in result.stderr
    assert "chr20_1-4Mb" in (out / "genome" / "manifest.json").read_text()


def test_the_shares_of_an_arm():
    study = parse_study(TUNED, "study.toml", Path("."))
    assert study.shares("ref-3mer", "0.01M") == (0.5, 1.0)
    assert study.shares("ref-3mer", "0.02M") == (1.0,)
    assert replace(study, ladder=replace(study.ladder, repeated=())).shares("ref-3mer", "0.02M") == (0.5, 1.0)
