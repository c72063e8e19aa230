"""What every test shares: where the real data are, and one thread for everything that has threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")

# The first call of a kernel compiles it: no deadline. The same examples on every run: main is red for a reason only.
settings.register_profile("kleiber", deadline=None, derandomize=True)
settings.load_profile("kleiber")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real human data beside the repository; without it the test is skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data (../shared/data) are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def embedded(tmp_path_factory):
    """The embedded reference and panel, built once."""
    from importlib.resources import files

    from kleiber.genome.panel import Panel
    from kleiber.genome.reference import Reference

    source, folder = Path(str(files("kleiber") / "data" / "embedded")), tmp_path_factory.mktemp("embedded")
    reference = Reference.build(source / "chr20_1-4Mb.GRCh37.fa.gz", folder / "reference")
    return reference, Panel.build(reference, [source / "EUR300.chr20_1-4Mb.vcf.gz"], folder / "panel")


@pytest.fixture(scope="session")
def windows(embedded):
    """2,000 real windows of 700 bases, of many haplotypes, uint8 (2000, 700)."""
    import numpy as np

    from kleiber.corpus.sampling import CorpusConfig, open_corpus

    return open_corpus(*embedded, CorpusConfig("pangenome", 700), 1).batch(np.arange(2000))
