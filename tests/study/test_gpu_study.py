"""The study for one GPU: what it costs by the rates in the package, and that it runs end to end at toy size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from inprocess import kleiber
from kleiber.study.config import load_study
from kleiber.study.plan import plan

STUDY = Path(__file__).resolve().parents[2] / "studies" / "gpu.toml"
ORDER = 0.6  # of the rates in the package, which are DNABERT-2's: the least that the other network should reach


def test_its_first_arm_takes_nine_minutes_at_most():
    whole = plan(load_study(STUDY))
    first = replace(whole, runs=tuple(run for run in whole.runs if run.unit.arm == "ref-bpe"))
    assert len(first.runs) == 14
    assert first.hours_measured("h100") * 60 / ORDER < 9 * 0.8  # and scoring


@pytest.mark.slow
def test_it_runs_at_toy_size(tmp_path):
    text = STUDY.read_text()
    text = re.sub(r'(?m)^reference = .*\npanel = .*\nholdout = .*', 'reference = "embedded"\npanel = ["embedded"]\n'
                  'holdout = ["20:3,900,001-4,000,000"]', text)  # fmt: skip
    text = re.sub(r"sizes  = .*", 'sizes = ["0.01M", "0.013M", "0.02M"]', text).replace("bpe1024", "bpe64")
    text = re.sub(r"tokens = .*", "tokens = [6e3, 12e3, 24e3]", text).replace("6mer", "3mer")
    text = re.sub(r"replicated = .*", 'replicated = ["0.013M"]', text).replace("batch = 128", "batch = 16")
    (tmp_path / "gpu.toml").write_text(text)
    result = kleiber("run", tmp_path / "gpu.toml", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    rows = pl.read_csv(tmp_path / "out" / "observations.csv")
    assert len(rows) == 3 * 4 * 3
    assert (tmp_path / "out" / "report.html").is_file()
