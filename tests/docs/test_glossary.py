"""One word for one thing: the glossary's words are those of the code, and the code has no others for the same."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from docs.pages import ROOT
from kleiber.corpus.strategies import STRATEGIES
from kleiber.study.config import Study

SOURCE = ROOT / "src" / "kleiber"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^(\w.*)\n  ", GLOSSARY, re.MULTILINE)
IN_CODE = {
    "held-out": "heldout",
    "variant sampling": "variant",
    "D": "n_tokens",
    "N": "n_params",
    "C": "flops",
    "IsoFLOP": "isoflop",
    "WSD": "cooldown",
}
"""What the code calls a term, where it is not the same word."""
TABLES = {"study": "run", "genome": "reference", "model": "architecture", "train": "budget", "fit": "form"}
"""Tables of a study file that are plain words, and a term that says what they are about."""
OTHERS = {
    "arm": {"condition", "treatment"},
    "budget": {"horizon"},
    "cluster": {"bin_id", "jackknife_block"},
    "contig": {"chrom", "seqid"},
    "corpus": {"dataset"},
    "held-out": {"valset", "testset", "val"},
    "panel": {"cohort", "callset"},
    "run": {"experiment"},
    "sample": {"individual", "person", "donor"},
    "slot": {"hap", "haplotype_index", "strand_index"},
    "territory": {"training_regions"},
    "tile": {"bucket"},
    "window": {"snippet", "fragment"},
}
"""Words that the field also has for a term, and that no name of ours is made of."""
FOREIGN = {"chrom"}  # attributes of other libraries' objects


def names(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every name that a file defines or uses, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for attribute in ("id", "name", "arg", "attr"):
            name = getattr(node, attribute, None)
            if isinstance(name, str) and not (isinstance(node, ast.Attribute) and name in FOREIGN):
                yield name, getattr(node, "lineno", 0)


def snake(name: str) -> str:
    """Return a name as lower-case words between underscores, at both ends too."""
    return "_" + "_".join(re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)).lower() + "_"


@pytest.fixture(scope="module")
def vocabulary() -> dict[str, str]:
    """Every name of the sources in words, and where it is first."""
    found: dict[str, str] = defaultdict(str)
    for path in sorted(SOURCE.rglob("*.py")):
        for name, line in names(path):
            found.setdefault(snake(name), f"{path.relative_to(SOURCE)}:{line} ({name})")
    return found


@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_a_word_of_the_code(term, vocabulary):
    word = IN_CODE.get(term, snake(term.replace(" ", "_").replace("-", "_")).strip("_"))
    assert any(re.search(rf"_{word}e?s?_", name) for name in vocabulary), f"nothing in the code is called {word}"


@pytest.mark.parametrize("term", OTHERS)
def test_a_thing_has_one_name(term, vocabulary):
    assert term in TERMS
    for other in OTHERS[term]:
        places = [where for name, where in vocabulary.items() if f"_{other}_" in name]
        assert not places, f"{other} is called {term} here: {places}"


def test_terms_are_in_order_and_each_once():
    assert len(TERMS) >= 50
    assert sorted(TERMS, key=lambda term: (term.lower(), term)) == TERMS
    assert len({term.lower() for term in TERMS}) == len(TERMS)


def test_tables_of_a_study_are_explained():
    plural = {"arms": "arm", "tune": "trial", "downstream": "probe"}
    for field in fields(Study):
        name = plural.get(field.name, field.name)
        assert name in TERMS or TABLES.get(name) in TERMS or name == "probe", name
    assert "strategy" in TERMS
    entry = re.search(r"^strategy\n  (.*)", GLOSSARY, re.MULTILINE)
    assert entry
    assert all(name in entry[1] for name in STRATEGIES), "a strategy that the glossary does not name"


def test_nothing_stands_outside():
    assert GLOSSARY.rstrip().endswith("```"), "an entry stands behind the glossary"
