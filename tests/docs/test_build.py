"""The documentation builds without a warning, and says of every option what it is for."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from docs.pages import ROOT


@pytest.fixture
def extensions(monkeypatch):
    """Our extensions of Sphinx can be imported."""
    pytest.importorskip("sphinx", reason="needs the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")


def test_every_option_says_what_it_is_for(extensions):
    """Options that share an entry of a docstring have none in the terminal."""
    from verbs import options, verbs

    from kleiber.cli import app

    found = {" ".join(words): list(options(verb)) for words, verb in verbs(app) if verb.default_command}
    assert len(found) > 20
    assert all(text.strip() for verb in found.values() for _, _, text in verb)


def test_every_module_is_on_a_page_of_the_reference(extensions):
    from rooms import modules

    pages = (ROOT / "docs" / "reference" / "api").glob("*.md")
    lines = [line for page in pages for line in page.read_text().splitlines() if line.startswith(".. room:: ")]
    shown = {module for line in lines for name in line.removeprefix(".. room:: ").split() for module in modules(name)}
    source = ROOT / "src" / "kleiber"
    named = {path for path in source.rglob("*.py") if "\n__all__ = " in path.read_text()}
    wanted = {path.relative_to(source.parent).with_suffix("").as_posix().replace("/", ".") for path in named}
    wanted = {module.removesuffix(".__init__") for module in wanted if not module.startswith("kleiber.cli")}
    assert wanted <= shown, wanted - shown


def test_modules_come_after_what_they_import(extensions):
    from rooms import modules

    order = modules("kleiber.genome")
    assert order.index("kleiber.genome.assembly") < order.index("kleiber.genome.reference")
    assert order.index("kleiber.genome.reference") < order.index("kleiber.genome.panel")


def test_the_citation_is_of_this_version():
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (str(cited["version"]), cited["license"]) == (project["version"], project["license"])


@pytest.mark.slow
def test_the_documentation_builds_without_warnings(extensions, tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    result = subprocess.run([*command, str(ROOT / "docs"), str(tmp_path / "html")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    cli = (tmp_path / "html" / "reference" / "cli.html").read_text()
    assert 'id="cmdoption-kleiber-panel-build-min-af"' in cli
    assert 'id="kleiber.genome.panel.Panel.sequence"' in (tmp_path / "html/reference/api/genome.html").read_text()
