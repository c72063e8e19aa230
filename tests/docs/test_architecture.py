"""The page of the architecture is true: its drawing is that of the imports, its files and names are there."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from docs.pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALK = re.findall(r"^\| (.+?) \| .+? \| `(\S+)\.py` \| (.+?) \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def drawing():
    """The script that draws the rooms."""
    pytest.importorskip("grimp", reason="needs the extra dev")
    spec = spec_from_file_location("draw_rooms", ROOT / "scripts" / "draw_rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawing_is_up_to_date(drawing):
    assert drawing.SVG.read_text() == drawing.draw(), "run: python scripts/draw_rooms.py"


def test_what_follows_from_others_is_not_drawn(drawing):
    needs = {"top": {"middle", "low"}, "middle": {"low"}, "beside": {"low"}}
    assert drawing.direct(needs) == {("top", "middle"), ("middle", "low"), ("beside", "low")}
    assert drawing.storeys(needs) == [["low"], ["beside", "middle"], ["top"]]


@pytest.mark.parametrize(("step", "file", "out"), WALK, ids=[step for step, _, _ in WALK])
def test_each_step_names_a_file_and_what_it_defines(step, file, out):
    module = import_module(f"kleiber.{file.replace('/', '.')}")
    name = re.match(r"`(\w+)`", out)
    assert name, f"the step {step!r} names no type"
    assert hasattr(module, name[1]), f"{file}.py has no {name[1]}"
    others = re.findall(r"`(\w+)` of `(\S+)\.py`", out)
    for other, where in others:
        assert hasattr(import_module(f"kleiber.{where.replace('/', '.')}"), other), f"{where}.py has no {other}"


def test_the_walk_is_whole():
    assert len(WALK) > 15
    assert "docs/architecture.md" in (ROOT / "CONTRIBUTING.md").read_text()
