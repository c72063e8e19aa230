"""A study from one command: complete, repeatable, killable, and clear about what it cannot use."""

from __future__ import annotations

import gzip
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from inprocess import kleiber
from kleiber.errors import ConfigError
from kleiber.study import stages
from kleiber.study.config import parse_study
from study.conftest import TOY
from study.conftest import kleiber as typed

EMBEDDED = Path(str(files("kleiber") / "data" / "embedded"))
PANEL = EMBEDDED / "EUR300.chr20_1-4Mb.vcf.gz"


def test_a_study_leaves_everything_that_it_promises(finished):
    for name in ("study.toml", "machine.json", "observations.csv", "observations.parquet", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert list((finished / "fits").glob("*.json"))
    assert list((finished / "figs").glob("*.svg"))
    assert len([path for path in (finished / "runs").iterdir() if path.is_dir()]) == 4
    table = pl.read_csv(finished / "observations.csv")
    assert table.filter(pl.col("annealed")).height == 8  # 2 arms x 2 sizes x 2 budgets
    assert table["loss"].is_finite().all()
    assert (table["bits_per_base"] > 1).all()
    assert not [p for p in finished.rglob("*") if p.name.endswith(".partial")]


def test_a_second_run_does_nothing(finished, toy_study):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    result = kleiber("run", toy_study, "--out", finished)
    assert result.returncode == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_changed_study_is_refused_with_a_diff(finished, tmp_path):
    changed = tmp_path / "study.toml"
    changed.write_text(TOY.replace("batch = 8", "batch = 16"))
    result = typed("run", changed, "--out", finished)
    assert result.returncode == 2
    assert "-batch = 8" in result.stderr
    assert "+batch = 16" in result.stderr
    assert "Traceback" not in result.stderr


def refused(tmp_path: Path, text: str) -> str:
    """Run a study that cannot be used; return the message, and see that nothing is left behind."""
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(text)
    result = kleiber("run", study, "--out", out)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    return result.stderr


def test_an_unknown_key(tmp_path):
    assert "Did you mean 'batch'" in refused(tmp_path, TOY.replace("batch = 8", "bach = 8"))


def test_a_missing_file(tmp_path):
    assert "absent.fa" in refused(tmp_path, TOY.replace('reference = "embedded"', 'reference = "absent.fa"'))


def test_contigs_that_do_not_meet(tmp_path):
    text = gzip.decompress(PANEL.read_bytes()).decode()
    (tmp_path / "other.vcf").write_text(text.replace("ID=20,", "ID=7,").replace("\n20\t", "\n7\t"))
    message = refused(tmp_path, TOY.replace('panel = ["embedded"]', 'panel = ["other.vcf"]'))
    assert "20" in message
    assert "7" in message


def test_a_truncated_panel(tmp_path):
    data = PANEL.read_bytes()
    (tmp_path / "cut.vcf.gz").write_bytes(data[: len(data) // 2])
    assert "cut.vcf.gz" in refused(tmp_path, TOY.replace('panel = ["embedded"]', 'panel = ["cut.vcf.gz"]'))


def test_an_input_that_changed_is_refused(tmp_path, toy_study):
    panel = tmp_path / "panel.vcf.gz"
    shutil.copy(PANEL, panel)
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(TOY.replace('panel = ["embedded"]', f'panel = ["{panel}"]'))
    assert kleiber("sweep", study, "--out", out, "--task", "5/5").returncode == 0  # of four runs: nothing to train
    panel.write_bytes(panel.read_bytes()[:-28])  # without the BGZF end marker: other bytes, another size
    result = kleiber("run", study, "--out", out)
    assert result.returncode == 2
    assert "has changed" in result.stderr


@pytest.mark.parametrize("arguments", [["run", "absent.toml"], ["run"]])
def test_no_study_file(arguments, tmp_path):
    result = kleiber(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "There is no study file" in result.stderr


def test_baselines_read_full_rows_where_the_original_recipe_cuts_them(tmp_path):
    """Its training windows have 700 bases; token frequencies are those of rows that hold all their tokens."""
    recipe = 'original = true\noptimizer = "adamw"\nmask_only = false\nmicro_batch = 4\nschedule = "linear"\n'
    recipe += '[model]\narchitecture = "dnabert2"\n[fit]'
    text = TOY.replace("length = 32", "length = 256").replace("[fit]", recipe)
    study, out = parse_study(text, "toy", tmp_path), tmp_path / "out"
    tokenizer = stages.tokenizer_of(study, out, "bpe64")
    reach = study.train.row_tokens * tokenizer.max_token_length
    assert reach > 700
    rows = stages.corpus_of(study, out, "pan-bpe", full_rows=True).rows(np.arange(20), reach)
    assert tokenizer.encode_rows(rows, study.train.row_tokens)[0].shape == (20, study.train.row_tokens)
    with pytest.raises(ConfigError, match="reach 700"):
        stages.corpus_of(study, out, "pan-bpe").rows(np.arange(20), reach)
