"""One self-contained HTML page from one study's folder, or from several side by side.

The page loads nothing: the drawing library is inlined once, every figure is there twice, as a still picture (for
readers and previews without scripts) and as the specification it is drawn from. A content security policy allows the
page's own two scripts by their hashes and no request at all, so that a name with markup in it could do nothing even
if escaping failed. Rejected: a notebook export (megabytes, and state) and a served dashboard (needs a server).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from kleiber import __version__
from kleiber.errors import ConfigError
from kleiber.report import doubts, findings, laws
from kleiber.report.downstream import downstream_sentences
from kleiber.report.figures import all_figures
from kleiber.report.prose import CITATIONS, GLOSSARY
from kleiber.report.reader import StudyOutput, read_study
from kleiber.report.style import Figure, config
from kleiber.report.tables import Cell, Table, laws_side_by_side, tables
from kleiber.storage import digest, write_atomic

__all__ = ["write_report"]


@dataclass(frozen=True)
class _Plot:
    """A figure as the template needs it."""

    anchor: str
    title: str
    caption: str
    alt: str
    still: Markup


def write_report(out: Path | Sequence[Path], target: Path | None = None) -> Path:
    """Write a study's report as one HTML file that needs nothing else.

    Parameters
    ----------
    out
        The output folder of a study, or of several to be put side by side.
    target
        The file to write; ``report.html`` in the first folder by default.

    Raises
    ------
    DataError
        When a folder holds no study, or a file in it is damaged.
    ConfigError
        When no folder is named.
    """
    folders = [Path(out)] if isinstance(out, str | Path) else [Path(one) for one in out]
    if not folders:
        raise ConfigError("A report needs at least one study's output folder.")
    studies = [read_study(folder) for folder in folders]
    path = Path(target) if target is not None else folders[0] / "report.html"
    write_atomic(path, _render(studies))
    return path


def _render(studies: Sequence[StudyOutput]) -> str:
    specs = _Specs()
    many = len(studies) > 1
    blocks = [_block(study, f"s{i}-" if many else "", specs) for i, study in enumerate(studies, 1)]
    title = "Studies side by side: " + " · ".join(s.name for s in studies) if many else studies[0].title
    library, script = _library(), _asset("page.js")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_asset("page.html.j2")).render(
        title=title,
        blocks=blocks,
        beside=_beside(studies, specs) if many else None,
        citations=CITATIONS,
        glossary=GLOSSARY,
        version=__version__,
        css=_asset("page.css"),
        library=library,
        script=script,
        policy=_policy(library, script),
        specs=_inline_json({"specs": specs.specs, "tables": specs.tables}),
        themes=_inline_json({"light": config(), "dark": config(dark=True)}),
    )


def _block(study: StudyOutput, prefix: str, specs: _Specs) -> dict[str, Any]:
    """Return what the template shows of one study; its figures' specifications go to `specs`."""
    groups: dict[str, list[_Plot]] = {}
    for one in all_figures(study):
        groups.setdefault(one.group, []).append(_plot(one, prefix, specs))
    return {
        "study": study,
        "prefix": prefix,
        "question": study.study.get("study", {}).get("question", ""),
        "subject": findings.subject(study),
        "answer": findings.in_brief(study),
        "verdict": doubts.verdict(study),
        "basis": doubts.basis(study),
        "limits": doubts.limits(study),
        "first": groups.pop("First", [None])[0],
        "sure": doubts.sureness(study),
        "downstream": downstream_sentences(study),
        "was_run": findings.what_was_run(study),
        "tables": _Lenient(tables(study)),
        "figures": _Lenient({name: _alike(plots) for name, plots in groups.items()}),
    }


def _alike(plots: list[_Plot]) -> list[list[_Plot]]:
    """Return runs of figures that share a caption, which is said once: those of a kind, arm after arm."""
    return [list(group) for _, group in groupby(plots, key=lambda one: one.caption)]


class _Lenient(dict[str, Any]):
    """A dictionary whose absent entries are None: sections that half a study does not have yet."""

    def __missing__(self, key: str) -> None:
        return None


def _beside(studies: Sequence[StudyOutput], specs: _Specs) -> dict[str, Any]:
    shared = laws.exponents(list(studies))
    return {
        "table": laws_side_by_side(studies),
        "figures": [[_plot(replace(shared, name="exponents-side-by-side"), "", specs)]] if shared else [],
        "changes": _changes(studies),
    }


def _changes(studies: Sequence[StudyOutput]) -> Table | None:
    """Return the keys of the study files that differ between studies."""
    flat = [dict(_leaves(study.study)) for study in studies]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [
        (Cell(key), *(Cell(one.get(key, "–")) for one in flat))
        for key in keys
        if len({one.get(key) for one in flat}) > 1
    ]
    if not rows:
        return None
    return Table("changes", "Differences of the study files", ("key", *(s.name for s in studies)), tuple(rows))


def _leaves(value: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, entry in value.items():
        if isinstance(entry, dict):
            found += _leaves(entry, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", json.dumps(entry, ensure_ascii=False, default=str)))
    return found


def _plot(one: Figure, prefix: str, specs: _Specs) -> _Plot:
    anchor = f"{prefix}{one.name}"
    spec = one.spec()
    specs.add(anchor, spec)
    return _Plot(anchor, one.title, one.caption, one.alt, _still(spec))


class _Specs:
    """The specifications of a page, with each table kept once and by columns: the figures of an arm share theirs."""

    def __init__(self) -> None:
        self.specs: dict[str, Any] = {}
        self.tables: list[dict[str, Any]] = []
        self._known: dict[str, int] = {}

    def add(self, name: str, spec: dict[str, Any]) -> None:
        """Keep a specification; its rows become the number of a table."""
        rows = spec["data"]["values"]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {"columns": columns, "rows": [[row.get(key) for key in columns] for row in rows]}
        number = self._known.setdefault(digest(table), len(self.tables))
        if number == len(self.tables):
            self.tables.append(table)
        self.specs[name] = {**spec, "data": number}


def _still(spec: dict[str, Any]) -> Markup:
    """Return a figure as an SVG data address; as an image its ids cannot clash with another figure's.

    Everything but harmless letters is percent-encoded, so that it needs no escaping in an attribute.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg({**spec, "config": config()})
    svg = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), svg)
    svg = re.sub(r' (aria-[a-z]+|role|class|pointer-events|xmlns:xlink)="[^"]*"', "", svg)
    svg = re.sub(r'<path[^>]* d=""[^>]*/>|<path d="M0,0h0v0h0Z"[^>]*/>', "", svg)
    return Markup("data:image/svg+xml," + quote(svg.replace('"', "'"), safe=" '=:/,.;()+-_"))


@cache
def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, of the versions that the still pictures are drawn with."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


@cache
def _asset(name: str) -> str:
    return (files("kleiber.report") / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Return a content security policy: these scripts, inline styles and pictures, and no request to anywhere."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _inline_json(value: Any) -> str:
    """Return JSON that cannot end its script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
