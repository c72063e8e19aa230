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
    """All cells but how far a model is below token frequencies, which are no observations: one number a study."""
    baselines = {"ref-bpe": {"unigram": {"bits_per_base": 0.0}}}
    studies = [
        SimpleNamespace(observations=pl.read_csv(RESULTS / f"{name}.csv"), baselines=baselines)
        for name in ("original-small", "laptop")
    ]
    made, written = (
        [row.split(" | ") for row in text.splitlines()[2:]]
        for text in (script.order(*studies), blocks_of(script.PAGES[0])["order"])
    )
    at = 4
    assert [row[:at] + row[at + 1 :] for row in made] == [row[:at] + row[at + 1 :] for row in written]
    for network in ("dnabert2", "shortconv"):
        pairs = [(a, b) for a, b in zip(made, written, strict=True) if a[0] == f"| {network}"]
        frequencies = [float(b[at]) - float(a[at].replace("−", "-")) for a, b in pairs]
        assert max(frequencies) - min(frequencies) < 0.0021  # both are rounded
