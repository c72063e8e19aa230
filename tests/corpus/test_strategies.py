"""A strategy keeps windows by what they hold; one that keeps none ends, one that looks at bases needs one length."""

from __future__ import annotations

import numpy as np
import pytest

from kleiber.corpus import sampling
from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.corpus.strategies import STRATEGIES, Candidates, Strategy
from kleiber.errors import ConfigError, UnknownName
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from oracles import haplotype as oracle


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    fasta, vcf = oracle.write_panel(oracle.random_panel(3, n_contigs=2), folder)
    reference = Reference.build(fasta, folder / "reference")
    return reference, Panel.build(reference, [vcf], folder / "panel")


@pytest.fixture
def keeping(monkeypatch):
    """Add a strategy that keeps what a function says."""

    def add(keeps, reads_haplotypes=True):
        monkeypatch.setitem(STRATEGIES, "own", Strategy("windows", reads_haplotypes, "own", keeps))

    return add


def test_what_is_kept_is_drawn_in_the_order_of_the_numbers(opened, keeping):
    """With nothing refused the windows are the pangenome's; those refused are drawn again alone."""
    keeping(lambda drawn: np.ones(len(drawn.starts), bool))
    everything, own = (
        open_corpus(*opened, CorpusConfig(name, 6), 1).batch(np.arange(500)) for name in ("pangenome", "own")
    )
    assert (everything == own).all()
    keeping(lambda drawn: drawn.windows()[:, 0] == ord("A"))
    some = open_corpus(*opened, CorpusConfig("own", 6), 1).batch(np.arange(500))
    begins = everything[:, 0] == ord("A")
    assert (some[:, 0] == ord("A")).all()
    assert (some[begins] == everything[begins]).all()


def test_what_is_drawn_are_the_windows_that_are_read(opened, keeping):
    seen: list[Candidates] = []
    keeping(lambda drawn: [seen.append(drawn), np.ones(len(drawn.starts), bool)][1])
    own = open_corpus(*opened, CorpusConfig("own", 6), 1)
    windows = own.batch(np.arange(1))
    (drawn,) = seen
    assert (drawn.windows() == windows).all()
    assert own.explain(0)["start"] == drawn.starts[0] + 1


def test_without_haplotypes_it_needs_no_panel(opened, keeping):
    keeping(None, reads_haplotypes=False)
    assert open_corpus(opened[0], None, CorpusConfig("own", 6), 1).batch(np.arange(3)).shape == (3, 6)
    keeping(None)
    with pytest.raises(ConfigError, match="'own' samples haplotypes and needs a panel"):
        open_corpus(opened[0], None, CorpusConfig("own", 6), 1)


def test_one_that_keeps_nothing_ends(opened, keeping, monkeypatch):
    monkeypatch.setattr(sampling, "ENDLESS", 60)
    keeping(lambda drawn: np.zeros(len(drawn.starts), bool))
    with pytest.raises(ConfigError, match="60 windows were drawn, and the strategy 'own' keeps none"):
        open_corpus(*opened, CorpusConfig("own", 6), 1).batch(np.arange(2))


def test_bases_of_windows_that_vary_are_refused(opened, keeping):
    keeping(lambda drawn: drawn.windows()[:, 0] == ord("A"))
    with pytest.raises(ConfigError, match="mode 'anchored'"):
        open_corpus(*opened, CorpusConfig("own", 6, mode="span"), 1)[0]


def test_an_unknown_one_names_the_nearest():
    with pytest.raises(UnknownName, match="variant"):
        CorpusConfig("varaint", 6)
