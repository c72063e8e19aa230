"""The pages that tell what studies found hold what the script writes, and nothing that nobody writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
spec = importlib.util.spec_from_file_location("document_study", ROOT / "scripts" / "document_study.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def blocks_of(page: Path) -> dict[str, str]:
    return {one[2]: one[0][len(one[1]) : -len(one[3])].strip() for one in script.BLOCK.finditer(page.read_text())}


@pytest.mark.parametrize("page", script.PAGES, ids=lambda page: page.stem)
def test_every_block_is_known_and_written(page):
    found = blocks_of(page)
    assert len(found) == page.read_text().count("<!-- write:")
    assert set(found) <= set(script.blocks(None, None))
    assert all(found.values())


def test_what_reversal_costs_is_what_the_observations_say():
    studies = [
        SimpleNamespace(observations=pl.read_csv(RESULTS / f"{name}.csv")) for name in ("original-small", "laptop")
    ]
    assert script.order(*studies) == blocks_of(script.PAGES[0])["order"]
