"""The page in a real browser, without network: every figure drawn, no error, no request, nothing wider than a phone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kleiber.report.page import write_report
from report.synthetic import ARMS, write_study

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--dump-dom",
)


@pytest.fixture(scope="session")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


def open_page(browser: str, page: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the document after its scripts have run, and what the console said."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    environment = {**os.environ, "HOME": str(profile)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_all_figures_are_drawn_without_an_error(browser: str, finished: Path, tmp_path: Path):
    dom, console = open_page(browser, finished / "report.html", tmp_path, "--window-size=1280,900")
    assert console == []
    assert len(re.findall(r'data-drawn="yes"', dom)) == 18
    assert 'data-drawn="18"' in dom
    assert dom.count('class="marks"') >= 18


def test_markup_in_names_runs_nothing(browser: str, tmp_path: Path):
    evil = '<script>document.title="owned"</script>"><img src=x onerror=document.title="owned">'
    page = write_report(write_study(tmp_path / "evil", name=evil, arms={evil.replace("/", ""): ARMS["ref-bpe"]}))
    dom, console = open_page(browser, page, tmp_path / "profile")
    assert "<title>A study of" in dom
    assert console == []
