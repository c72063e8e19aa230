"""The original recipe at a small scale: what it keeps of the original study, and that it runs to its figures."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from kleiber.study.config import load_study
from study.conftest import kleiber

STUDIES = Path(__file__).resolve().parents[2] / "studies"
SCALED = {"batch", "micro_batch", "lr"}  # and the length of the run, [ladder] tokens
SCORING = {"eval_rows", "eval_masks"}


def test_it_differs_from_the_study_in_what_it_says_and_nothing_else():
    small, whole = (load_study(STUDIES / f"{name}.toml") for name in ("original-small", "original"))
    differ = {key for key, value in asdict(small.train).items() if value != asdict(whole.train)[key]}
    assert differ <= SCALED | SCORING
    assert {a: (arm.sampling, arm.tokenizer) for a, arm in small.arms.items()} == {
        a: (arm.sampling, arm.tokenizer) for a, arm in whole.arms.items()
    }
    assert (small.model, small.genome.min_af, len(small.ladder.sizes)) == (whole.model, 0.0, 5)


@pytest.mark.slow
def test_it_runs_at_toy_size_to_the_figures_of_the_study(tmp_path):
    text = (STUDIES / "original-small.toml").read_text()
    text = re.sub(r"sizes  = .*", 'sizes = ["0.01M", "0.02M", "0.05M", "0.1M", "0.2M"]', text)
    text = re.sub(r"tokens = .*", "tokens = [1e5]", text).replace("bpe4096", "bpe256")
    (tmp_path / "small.toml").write_text(text)
    result = kleiber("run", tmp_path / "small.toml", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    rows = pl.read_csv(tmp_path / "out" / "observations.csv")
    assert len(rows) == 20
    drawn = {path.stem for path in (tmp_path / "out" / "figs").glob("*.svg")}
    assert {f"{name}.{arm}" for name in ("loss-steps", "loss-flops") for arm in rows["arm"].unique()} <= drawn
    rules = [json.loads(path.read_text()) for path in (tmp_path / "out" / "fits").glob("*.gradient-rule.json")]
    told = [text for rule in rules for text in rule["warnings"]]
    assert not any("fewer than 30 points" in text for text in told)  # it goes along runs whose rate falls all the way
    assert "is not identified in any arm" in (tmp_path / "out" / "report.html").read_text()
