"""What people expect around the code does what `make check` does, and no more is pinned than once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from docs.pages import ROOT

yaml = pytest.importorskip("yaml")
MAKEFILE = (ROOT / "Makefile").read_text()
CHECK = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)


def test_make_check_formats_lints_types_imports_and_tests():
    assert CHECK
    for step in ("ruff format --check", "ruff check", "mypy", "lint-imports", "$(MAKE) test"):
        assert step in CHECK[1]


def test_the_workflow_calls_make_check():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make check"]
    version = next(step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", ""))
    assert f'requires-python = ">={version}"' in (ROOT / "pyproject.toml").read_text()


def test_hooks_are_steps_of_make_check():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert CHECK
    for hook in hooks:
        assert hook["entry"].removeprefix(".venv/bin/") in CHECK[1].replace(" --check", "")
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_container_copies_what_a_build_needs(tmp_path):
    """What the recipe copies is enough to build the package."""
    pytest.importorskip("hatchling")
    recipe = (ROOT / "Containerfile").read_text()
    for sources, target in re.findall(r"^COPY (.+) /source/(\S*)$", recipe, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            to = tmp_path / (target or source)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, to)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
