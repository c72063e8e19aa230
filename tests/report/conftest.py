"""A finished study, fresh for one test or shared by many."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleiber.report.figures import write_figures
from kleiber.report.page import write_report
from report.synthetic import TWO_ARMS, write_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two arms with its report and figures; shared, so tests must not write there."""
    out = write_study(tmp_path_factory.mktemp("finished") / "first", arms=TWO_ARMS)
    write_report(out)
    write_figures(out)
    return out


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """A finished study of four arms."""
    return write_study(tmp_path / "first")
