"""What the README tells a newcomer to type works, and the pages that it hands over to are whole."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from docs.pages import pages
from inprocess import kleiber
from kleiber.study.config import load_study, parse_study
from study.conftest import TOY, finished, toy_study

__all__ = ["finished", "toy_study"]  # fixtures

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
VERBS = (ROOT / "docs" / "reference" / "cli.md").read_text()
STUDY = (ROOT / "docs" / "reference" / "study.md").read_text()
EMBEDDED = Path(str(files("kleiber") / "data" / "embedded"))


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_every_command_is_known():
    """A new command in the README needs a test here."""
    assert commands() == [
        "make study",
        "make test",
        "kleiber new mine.toml --reference genome.fa.gz --panel panel.vcf.gz",
        "kleiber run mine.toml",
    ]


@pytest.mark.parametrize("target", ["study", "test"])
def test_make_does_what_the_readme_says(target):
    plan = subprocess.run(["make", "-n", "-B", target], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert "-m venv .venv" in plan
    assert "--constraint constraints.txt" in plan
    assert {"study": "kleiber run studies/first.toml", "test": "-m pytest"}[target] in plan


def test_make_study_runs_a_study(tmp_path, finished):
    """The target itself, on a toy that was run before; tests/docs/test_snippets.py runs a study from its beginning."""
    shutil.copytree(finished, tmp_path / "out" / "first")
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "first.toml").write_text(TOY)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("the tests do not run from the environment that make creates")
    command = ["make", "-o", ".venv/.installed", "study"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "out/first/report.html" in result.stdout
    assert (tmp_path / "out" / "first" / "report.html").exists()


def test_ones_own_genomes(tmp_path):
    """What is written; tests/docs/test_snippets.py runs it."""
    shutil.copy(EMBEDDED / "chr20_1-4Mb.GRCh37.fa.gz", tmp_path / "genome.fa.gz")
    shutil.copy(EMBEDDED / "EUR300.chr20_1-4Mb.vcf.gz", tmp_path / "panel.vcf.gz")
    *_, new, _ = commands()
    written = kleiber(*new.split()[1:], cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    study = load_study(tmp_path / "mine.toml")
    assert study.genome.holdout == ("20:3,333,335-4,000,000",)
    assert list(study.arms) == ["ref-bpe", "pan-bpe", "variant-bpe", "ref-6mer"]
    again = kleiber(*new.split()[1:], cwd=tmp_path)
    assert again.returncode == 2
    assert "mine.toml exists" in again.stderr


def test_a_study_of_the_embedded_data_by_default(tmp_path):
    assert kleiber("new", "--embedded", cwd=tmp_path).returncode == 0
    study, first = load_study(tmp_path / "study.toml"), load_study(ROOT / "studies" / "first.toml")
    assert (study.genome, study.arms, study.ladder, study.train) == (
        first.genome,
        first.arms,
        first.ladder,
        first.train,
    )
    refused = kleiber("new", "other.toml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--embedded" in refused.stderr


def test_it_is_short():
    assert len(README.splitlines()) <= 70


def test_the_study_file_of_the_page_is_the_first_study():
    (text,) = re.findall(r"```toml\n(.*?)```", STUDY, re.DOTALL)
    shown, first = parse_study(text, "study.md", ROOT), load_study(ROOT / "studies" / "first.toml")
    assert (shown.genome, shown.arms, shown.ladder) == (first.genome, first.arms, first.ladder)


def test_every_verb_is_in_the_table():
    from kleiber.cli import app

    shown = re.findall(r"^\| `kleiber (\w+)", VERBS, re.MULTILINE)
    assert set(shown) == {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("page", pages())
def test_what_a_page_links_to_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        assert (ROOT / page).parent.joinpath(target).exists(), target
