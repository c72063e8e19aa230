"""The page: whole in itself, escaped, honest about what is missing, the same from the same files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from kleiber.errors import ConfigError
from kleiber.report.page import write_report
from report.synthetic import ARMS, TWO_ARMS, write_study


class Page(HTMLParser):
    """Everything of a page that a test asks about."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str]] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.policy = ""
        self.text = ""
        self._script: dict[str, str] | None = None
        self.feed(text)

    def json(self, name: str):
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == name))

    def handle_starttag(self, tag, attrs):
        found = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        self.links += [found[k] for k in ("src", "href") if k in found]
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            self.images.append(found)
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        if tag == "script":
            self._script = found

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.text += data


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_whole_in_itself(finished: Path):
    page = read(finished / "report.html")
    assert page.links, "there are links to check"
    assert all(link.startswith(("#", "data:image/svg+xml,")) for link in page.links)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_policy_names_exactly_the_scripts_of_the_page(finished: Path):
    page = read(finished / "report.html")
    code = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code}
    assert len(code) == 2
    assert set(re.findall(r"'sha256-([^']+)'", page.policy)) == hashes
    assert page.policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in page.policy


def test_every_figure_is_there_twice_with_words(finished: Path):
    page = read(finished / "report.html")
    specs = page.json("specs")["specs"]
    assert len(page.images) == len(specs) == 22
    assert set(specs) <= set(page.ids)
    assert all(len(image["alt"]) > 30 for image in page.images)
    for arm in TWO_ARMS:
        assert {f"{kind}.{arm}" for kind in ("loss-steps", "loss-flops", "N-flops", "D-flops")} <= set(specs)


def test_the_page_says_what_a_reader_needs(finished: Path):
    text = read(finished / "report.html").text
    for phrase in (
        "A study of <b>nothing</b> & noise",  # parsed back: it was escaped
        "Do more parameters or more data lower the loss?",
        "a = 0.488 (95 % interval 0.408 to 0.578)",
        "· not identified",
        "pseudo-likelihood",
        "Besiroglu",
        "Nature 526",
        "three budgets only",
        "1 seed <b>only</b>",
        "bits per base",
        "SHA-256 00ff",
        "fingerprint",
    ):
        assert phrase in text, phrase
    assert "somebody" not in text


def test_names_with_markup_do_no_harm(tmp_path: Path):
    evil = "<script>alert(1)<!--"
    out = write_study(tmp_path / "evil", name="</title><script>alert(2)</script>", arms={evil: ARMS["ref-bpe"]})
    page = read(write_report(out))
    assert len(page.scripts) == 4
    assert "alert" not in "".join(text for a, text in page.scripts if a.get("type") != "application/json")
    assert evil in page.text
    found = page.json("specs")
    table = found["tables"][found["specs"]["bits-per-base"]["data"]]
    assert evil in [row[table["columns"].index("arm")] for row in table["rows"]]
    assert not re.search(r"[<>/]", "".join(found["specs"]))


def test_half_a_study_gives_half_a_report(study_folder: Path):
    shutil.rmtree(study_folder / "fits")
    (study_folder / "baselines.json").unlink()
    (study_folder / "checklist.json").unlink()
    table = pl.read_csv(study_folder / "observations.csv")
    table.filter(pl.col("arm") == "ref-bpe").write_csv(study_folder / "observations.csv")
    text = read(write_report(study_folder)).text
    assert "This study is not complete" in text
    assert "fits of pan-bpe by parametric" in text
    assert "is not known: no law was fitted" in text
    assert "More data and more parameters both lower the loss" in text


def test_a_study_that_has_only_begun(study_folder: Path):
    for name in (
        "observations.csv",
        "baselines.json",
        "checklist.json",
        "corpora.json",
        "machine.json",
        "manifest.json",
    ):
        (study_folder / name).unlink()
    shutil.rmtree(study_folder / "fits")
    shutil.rmtree(study_folder / "runs")
    text = read(write_report(study_folder)).text
    assert "No model of this study has been scored yet" in text


def test_studies_stand_side_by_side(tmp_path: Path):
    study_folder = write_study(tmp_path / "first", arms=TWO_ARMS)
    other = write_study(tmp_path / "second", name="second", arms={"ref-bpe": ARMS["ref-bpe"]}, seed=8)
    target = tmp_path / "both.html"
    assert write_report([study_folder, other], target) == target
    page = read(target)
    assert "Side by side" in page.text
    assert "exponents-side-by-side" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "arms.ref-6mer.sampling" in page.text  # how the study files differ


def test_no_study_is_an_error():
    with pytest.raises(ConfigError, match="at least one"):
        write_report([])


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    one = {"ref-bpe": ARMS["ref-bpe"]}
    pages = [write_report(write_study(tmp_path / name, arms=one)) for name in ("first", "again")]
    assert pages[0].read_bytes() == pages[1].read_bytes()
