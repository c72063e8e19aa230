"""A set-up gives the same packages every time: all that is needed is pinned, and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit_dependencies", ROOT / "scripts" / "audit_dependencies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_that_is_needed_is_pinned_and_nothing_else(audit):
    """Other versions than the pinned ones may be installed: a package asks for ranges."""
    found = audit.problems(audit.pins(), audit.closure())
    assert [line for line in found if not line.endswith("is installed")] == []


def test_the_audit_finds_what_it_is_for(audit):
    pinned, needed = audit.pins(), audit.closure()
    assert len(needed) > 60
    without = {name: version for name, version in pinned.items() if name != "numpy"}
    changed = {**without, "numpy": "1.0", "scipy": "", "leftpad": "1.0"}
    assert any(line.startswith("numpy is needed by") for line in audit.problems(without, needed))
    wrong = "\n".join(audit.problems(changed, needed))
    for words in (
        "numpy is pinned to 1.0, and",
        "scipy is not pinned to one version",
        "leftpad is pinned and not needed",
    ):
        assert words in wrong


def test_every_package_names_a_licence(audit):
    packages = {name: audit.installed(name) for name in audit.pins()}
    assert [name for name, package in packages.items() if package is not None and not audit.licence(package)] == []
