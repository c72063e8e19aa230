"""The wheel runs a study from an empty folder: its data, its figures and its exported network are in it."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from docs.pages import ROOT
from docs.test_snippets import TINY, change

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (made,) = folder.glob("kleiber-*.whl")
    return made


def test_it_holds_the_data_and_the_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "embedded/chr20_1-4Mb.GRCh37.fa.gz",
        "embedded/EUR300.chr20_1-4Mb.vcf.gz",
        "original_study/curves.csv.gz",
    ):
        assert f"kleiber/data/{name}" in names
    assert "kleiber/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "docs/")) for name in names)


def test_new_and_run_in_an_empty_folder(wheel, tmp_path):
    """An environment that has this wheel, and from the one of the tests all but kleiber."""
    home, work = tmp_path / "environment", tmp_path / "empty"
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work.mkdir()

    def kleiber(*arguments: str) -> str:
        command = [str(home / "bin" / "python"), "-I", "-m", "kleiber", *arguments]
        result = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=3600)
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = "import kleiber; print(kleiber.__file__)"
    used = subprocess.run([str(home / "bin" / "python"), "-I", "-c", where], capture_output=True, text=True, check=True)
    assert Path(used.stdout.strip()).is_relative_to(site)
    assert "kleiber run study.toml" in kleiber("new", "--embedded")
    study = work / "study.toml"
    study.write_text(change(study.read_text(), TINY))
    report = re.search(r"report: (\S+)", kleiber("run"))
    assert report is not None
    assert (work / report[1]).is_file()
    (run,) = (work / "out" / "study" / "runs").glob("reference.*.0.01M.*")
    exported = "import sys; from kleiber.cli import main; main()"
    command = [str(home / "bin" / "python"), "-I", "-c", exported, "model", "export", str(run), "--out", "hub"]
    tokenizer = next((work / "out" / "study" / "tokenizer").glob("*/tokenizer.json"))
    subprocess.run([*command, "--tokenizer", str(tokenizer)], cwd=work, check=True, capture_output=True)
    (code,) = (work / "hub").glob("*.py")
    assert "class DNABERT2ForMaskedLM" in code.read_text()
    assert "kleiber" not in [line.split()[1] for line in code.read_text().splitlines() if line.startswith("import ")]
