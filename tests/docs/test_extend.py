"""The parts that `docs/howto/extend.md` adds work: what it says is done in a copy of the sources, and its tests run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT, blocks

PAGE = "docs/howto/extend.md"
STEPS = [block for block in blocks(PAGE) if block.marker[0] in ("as", "into")]
TESTS = [block.marker[1] for block in STEPS if block.marker[1].startswith("tests/")]


def patched(text: str, diff: str) -> str:
    """Return a text with the hunks of a diff applied; each has to fit in one place, wherever that is."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        assert text.count(old) == 1, f"stands {text.count(old)} times in the file:\n{old}"
        text = text.replace(old, "".join(line[1:] for line in lines if line[0] != "-"))
    return text


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the sources to which every part of the page is added."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "src", folder / "src")  # compiled code comes along
    shutil.copytree(ROOT / "tests" / "oracles", folder / "tests" / "oracles", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for block in STEPS:
        path = folder / block.marker[1]
        if block.marker[0] == "as":
            assert not (ROOT / block.marker[1]).exists(), f"{PAGE} writes {block.marker[1]}, which is there"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        else:
            path.write_text(patched(path.read_text(encoding="utf-8"), block.text), encoding="utf-8")
    return folder


def in_copy(folder: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{folder / 'src'}:{folder / 'tests'}"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_every_part_has_a_test():
    assert len(TESTS) == len([block for block in STEPS if block.kind == "diff"]) >= 5


def test_the_tests_of_the_page_pass(extended):
    result = in_copy(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(TESTS)} passed" in result.stdout


def test_what_is_added_keeps_the_rules_of_the_house(extended):
    """Format, lint and types, as `make check` has them."""
    files = sorted({block.marker[1] for block in STEPS})
    tools = [("ruff", "format", "--check"), ("ruff", "check")]
    for tool in tools:
        result = in_copy(extended, "-m", *tool, *files)
        assert result.returncode == 0, result.stdout + result.stderr
