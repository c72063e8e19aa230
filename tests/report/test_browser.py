"""The page in a real browser, without network: every figure drawn, no error, no request, nothing wider than a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kleiber.report.page import write_report
from report.browser import Browser, find
from report.synthetic import ARMS, refuse, write_study


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def forget(browser: Browser) -> None:
    browser.messages.clear()
    browser.requests.clear()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_all_figures_are_drawn_at_every_width_and_theme(browser: Browser, finished: Path, width: int, dark: bool):
    page = finished / "report.html"
    browser.open(page, width, dark)
    assert browser.messages == []
    assert [one for one in browser.requests if not one.startswith("data:")] == [page.as_uri()]
    assert browser.evaluate("document.querySelectorAll('.plot svg.marks').length") == 22
    assert browser.evaluate("document.querySelectorAll('.plot img').length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    narrowest = browser.evaluate("Math.min(...[...document.querySelectorAll('svg.marks')].map(s => s.clientWidth))")
    assert narrowest > 0.75 * min(width, 480)
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark
    assert browser.evaluate("document.querySelector('.plot').dataset.theme") == ("dark" if dark else "light")


BOTTOM = "Math.max(...[...document.querySelectorAll('.first > *')].map(e => e.getBoundingClientRect().bottom))"
WIDER = "[...document.querySelectorAll('.table')].filter(t => t.scrollWidth > t.clientWidth).map(t => t.ariaLabel)"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with as many words as there are: four arms, and five witnesses against each."""
    out = write_study(tmp_path_factory.mktemp("crowded") / "four")
    for path in (out / "fits").glob("*.parametric.json"):
        refuse(path, 5)
    return write_report(out)


def test_the_first_screen_needs_no_scrolling_and_the_rest_is_folded(browser: Browser, crowded: Path):
    browser.open(crowded, unfolded=False)
    assert browser.evaluate(BOTTOM) <= 800
    words = browser.evaluate("document.body.innerText")
    for said in (
        "Do more parameters",
        "Answer",
        "How sure",
        "NOT IDENTIFIED",
        "What it cannot say",
        "Bits per base against",
    ):
        assert said.upper() in words.upper()
    assert browser.evaluate("[...document.querySelectorAll('.plot svg.marks')].length") == 1
    assert browser.evaluate("[...document.querySelectorAll('.part[open]')].length") == 0


def test_tables_fit_a_screen_and_scroll_in_their_box_on_a_phone(browser: Browser, crowded: Path):
    browser.open(crowded)
    assert browser.evaluate(WIDER) == []
    browser.open(crowded, 390)
    assert browser.evaluate(WIDER) != []
    assert browser.evaluate("document.documentElement.scrollWidth") == 390


def test_figures_follow_a_change_of_theme(browser: Browser, finished: Path):
    browser.open(finished / "report.html")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    count = "document.querySelectorAll('[data-theme=dark]').length"
    deadline = time.monotonic() + 30
    while browser.evaluate(count) < 22 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.evaluate(count) == 22
    assert browser.evaluate("document.querySelectorAll('.plot svg.marks').length") == 22
    assert browser.messages == []


def test_a_click_sorts_a_table_by_number_and_back(browser: Browser, finished: Path):
    browser.open(finished / "report.html")
    click = """(() => {
      const table = [...document.querySelectorAll('table')].find(t => t.caption.textContent === 'Every annealed model');
      const column = [...table.tHead.rows[0].cells].findIndex(c => c.textContent === 'C (FLOPs)');
      table.tHead.rows[0].cells[column].querySelector('button').click();
      return [...table.tBodies[0].rows].map(r => Number(r.cells[column].dataset.value));
    })()"""
    up, down = browser.evaluate(click), browser.evaluate(click)
    assert len(up) == 30
    assert up == sorted(up)
    assert down == up[::-1]


def test_the_data_of_a_figure_can_be_taken_along(browser: Browser, finished: Path):
    browser.open(finished / "report.html")
    text = browser.evaluate("""(async () => {
      const blobs = []; URL.createObjectURL = (blob) => { blobs.push(blob); return '#'; };
      HTMLAnchorElement.prototype.click = () => {};
      document.querySelector('button.csv').click();
      return await blobs[0].text();
    })()""")
    assert text.splitlines()[0].startswith("kind,arm,size,n_tokens,flops,bits_per_base")
    assert len(text.splitlines()) > 15


def test_it_prints(browser: Browser, finished: Path):
    browser.open(finished / "report.html", dark=True)
    pages = browser.call("Page.printToPDF", printBackground=False)["data"]
    assert len(pages) > 100_000
    assert browser.messages == []


def test_markup_in_names_runs_nothing(browser: Browser, tmp_path: Path):
    evil = '<script>document.title="owned"<!--"><img src=x onerror=document.title="owned">'
    page = write_report(write_study(tmp_path / "evil", name=evil, arms={evil: ARMS["ref-bpe"]}))
    browser.open(page)
    assert browser.evaluate("document.title").startswith("A study of")
    assert browser.messages == []
    assert [one for one in browser.requests if not one.startswith("data:")] == [page.as_uri()]
