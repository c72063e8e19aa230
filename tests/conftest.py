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
