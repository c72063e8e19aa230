"""What a study's folder holds, whole, in parts, and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from kleiber.errors import DataError
from kleiber.report.reader import read_study


def test_a_finished_study_lacks_nothing(study_folder: Path):
    study = read_study(study_folder)
    assert study.missing == ()
    assert study.arms == ("ref-bpe", "pan-bpe", "variant-bpe", "ref-6mer")
    assert study.sizes == ("0.05M", "0.1M", "0.2M", "0.4M", "0.8M")
    assert len(study.observations) == 60
    assert len(study.curves) == 20
    assert study.law("ref-bpe").is_identified("E") is False
    assert study.law("ref-bpe").interval("a") == pytest.approx((0.4078, 0.5778), abs=1e-4)
    assert study.law("ref-bpe", "isoflop").status == "REFUSED"
    assert study.sampling("pan-bpe") == "pangenome"


def test_missing_files_are_named_and_no_error(study_folder: Path):
    for name in ("observations.csv", "baselines.json", "checklist.json", "machine.json", "manifest.json"):
        (study_folder / name).unlink()
    shutil.rmtree(study_folder / "fits")
    shutil.rmtree(study_folder / "runs")
    study = read_study(study_folder)
    assert study.observations.is_empty()
    assert study.sizes == ("0.05M", "0.1M", "0.2M", "0.4M", "0.8M")
    missing = "; ".join(study.missing)
    for word in (
        "observations.csv",
        "baselines.json",
        "checklist.json",
        "machine.json",
        "metrics.jsonl",
        "fits of ref-bpe",
    ):
        assert word in missing


def test_points_that_are_not_annealed_are_left_out(study_folder: Path):
    table = pl.read_csv(study_folder / "observations.csv")
    table = table.with_columns(annealed=pl.col("n_tokens") > 600_000)
    table.write_csv(study_folder / "observations.csv")
    assert len(read_study(study_folder).observations) == 40


def test_an_arm_may_have_dots_in_its_name(study_folder: Path):
    fits = study_folder / "fits"
    shutil.copy(fits / "ref-bpe.parametric.json", fits / "v1.5-bpe.parametric.json")
    (fits / "comparison.json").write_text("[]")
    study = read_study(study_folder)
    assert study.law("v1.5-bpe") is not None
    assert study.extra == {"comparison": []}


def test_a_run_without_manifest_is_still_running(study_folder: Path):
    (study_folder / "runs" / "ref-bpe.0.8M" / "manifest.json").unlink()
    assert len(read_study(study_folder).curves) == 19


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("study.toml", "[study", "study.toml is damaged"),
        ("observations.csv", "arm,size\na,b\n", "lacks the columns n_params"),
        ("baselines.json", "{", "baselines.json is damaged"),
        ("fits/ref-bpe.parametric.json", "nothing", "parametric.json is damaged"),
        ("runs/ref-bpe.0.8M/metrics.jsonl", '{"step": 1, "loss": 2}\n{"st', "damaged in line 2"),
    ],
)
def test_damaged_files_are_errors(study_folder: Path, name: str, text: str, says: str):
    (study_folder / name).write_text(text)
    with pytest.raises(DataError, match=says):
        read_study(study_folder)


def test_a_folder_without_a_study_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no study"):
        read_study(tmp_path)


def test_infinite_losses_of_a_diverged_run_are_not_drawn(study_folder: Path):
    path = study_folder / "runs" / "ref-bpe.0.8M" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps({"phase": "trunk", "step": 9999, "loss": float("nan")})]))
    curve = next(c for c in read_study(study_folder).curves if c.run == "ref-bpe.0.8M")
    assert len(curve.steps) == len(lines)
