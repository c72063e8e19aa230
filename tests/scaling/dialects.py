"""One table in the ways in which people write tables: numbers, headers, separators, encodings, containers.

`DIALECTS` draws one of them; nothing here uses what reads tables. A workbook is written as the XML that it is.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

import polars as pl
from hypothesis import strategies as st

Runs = list[tuple[int, int, float]]

N_NAMES = ("N", "params", "Params", "n_params", "num_params", "nParams", "Model size", "#params", "config.n_params")
D_NAMES = ("D", "tokens", "Tokens seen", "n_tokens", "trainingTokens", "train/tokens", "num_input_tokens_seen")
LOSS_NAMES = ("loss", "val_loss", "eval/loss", "Validation Loss", "evalLoss", "CrossEntropyLoss", "Final loss [nats]")
UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
IN_HEADER = {
    10**6: (" (M)", " [millions]", " (10^6)", " / 1e6", ", M", "_millions"),
    10**9: (" (B)", " (billions)", " [10⁹]", "_b", " in billions"),
}


def grouped(number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


def short(number: int, gap: str = "", lower: bool = False) -> str:
    """Write 70M for 70,000,000, exactly or not at all."""
    unit, size = next((u, s) for u, s in reversed(UNITS.items()) if number >= s and number % max(1, s // 100) == 0)
    text = f"{number / size:.2f}".rstrip("0").rstrip(".") if unit else str(number)
    return text + gap + (unit.lower() if lower else unit)


COUNTS: dict[str, Callable[[int], str]] = {
    "plain": str,
    "scientific": lambda n: f"{n:.12e}",
    "underscores": lambda n: grouped(n, "_"),
    "commas": lambda n: grouped(n, ","),
    "points": lambda n: grouped(n, "."),
    "apostrophes": lambda n: grouped(n, "'"),
    "curly": lambda n: grouped(n, "’"),
    "spaces": lambda n: grouped(n, " "),
    "narrow": lambda n: grouped(n, "\u202f"),
    "hard": lambda n: grouped(n, "\xa0"),
    "short": short,
    "short, apart": lambda n: short(n, " "),
    "short, lower": lambda n: short(n, lower=True),
}


@dataclass(frozen=True)
class Dialect:
    """How a table is written; the fields are names of the ways."""

    n_name: str
    d_name: str
    loss_name: str
    counts: str
    in_header: bool
    decimal: str
    separator: str
    encoding: str
    ends: str
    above: str
    below: str
    index: bool
    quoted: bool
    container: str

    def text(self, runs: Runs) -> bytes:
        """Return the table as delimited text."""
        header, rows = [self.n_name, self.d_name, self.loss_name], []
        for n, d, loss in runs:
            cells = [COUNTS[self.counts](n), COUNTS[self.counts](d)]
            if self.in_header:
                cells = [repr(n / 10**6), repr(d / 10**9)]
            cells = [cell.replace(".", self.decimal) if self.counts != "points" else cell for cell in cells]
            rows.append([*cells, f"{loss:.4f}".replace(".", self.decimal)])
        if self.in_header:
            header[0] += IN_HEADER[10**6][len(self.d_name) % len(IN_HEADER[10**6])]
            header[1] += IN_HEADER[10**9][len(self.n_name) % len(IN_HEADER[10**9])]
        table = [header, *rows]
        if self.index:
            table = [["", *header], *([str(i), *row] for i, row in enumerate(rows))]
        file = io.StringIO()
        quoting = csv.QUOTE_ALL if self.quoted else csv.QUOTE_MINIMAL
        csv.writer(file, delimiter=self.separator, quoting=quoting, lineterminator=self.ends).writerows(table)
        empty = self.separator * (len(table[0]) - 1) + self.ends
        after = {"": "", "empty": empty * 2, "blank": self.ends * 2}[self.below]
        before = self.above.replace("\n", self.ends)
        return (before + file.getvalue() + after).encode(self.encoding)

    def packed(self, runs: Runs) -> bytes:
        """Return the file."""
        rows = [dict(zip((self.n_name, self.d_name, self.loss_name), run, strict=True)) for run in runs]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        match self.container:
            case "gzip":
                return gzip.compress(self.text(runs))
            case "bzip2":
                return bz2.compress(self.text(runs))
            case "xz":
                return lzma.compress(self.text(runs))
            case "zip":
                file = io.BytesIO()
                with zipfile.ZipFile(file, "w") as packed:
                    packed.writestr("runs/table.csv", self.text(runs))
                return file.getvalue()
            case "records":
                return json.dumps(rows).encode()
            case "lines":
                return "".join(json.dumps(row) + "\n" for row in rows).encode()
            case "inside":
                return json.dumps({"sweep": "march", "results": rows}).encode()
            case "columns":
                return json.dumps(columns).encode()
            case "frame":
                return json.dumps({k: {str(i): v for i, v in enumerate(c)} for k, c in columns.items()}).encode()
            case "split":
                return json.dumps({"columns": list(columns), "index": [], "data": [list(run) for run in runs]}).encode()
            case "parquet" | "arrow":
                file = io.BytesIO()
                frame = pl.DataFrame(columns)
                frame.write_parquet(file) if self.container == "parquet" else frame.write_ipc(file)
                return file.getvalue()
            case "workbook":
                return workbook({"runs": [list(columns), *map(list, runs)]})
        return self.text(runs)


TEXTS = ("text", "text", "text", "text", "gzip", "bzip2", "xz", "zip")
OTHERS = ("records", "lines", "inside", "columns", "frame", "split", "parquet", "arrow", "workbook")


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    """Draw a way of writing in which nothing is ambiguous."""
    one = st.sampled_from
    decimal = draw(one([".", ","]))
    counts = draw(one([kind for kind in COUNTS if (kind, decimal) not in {("commas", ","), ("points", ".")}]))
    separator = draw(one([",", ";", "\t", "|"]))
    text = {
        "encoding": draw(one(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])),
        "ends": draw(one(["\n", "\r\n"])),
        "above": draw(one(["", "# a sweep\n# of March; final\n", "\n"])),
        "below": draw(one(["", "empty", "blank"])),
    }
    return Dialect(
        draw(one(N_NAMES)),
        draw(one(D_NAMES)),
        draw(one(LOSS_NAMES)),
        counts,
        counts == "plain" and draw(st.booleans()),
        decimal,
        separator,
        **text,
        index=draw(st.booleans()),
        quoted=draw(st.booleans()),
        container=draw(one(TEXTS + OTHERS)),
    )


@st.composite
def runs(draw: st.DrawFn) -> Runs:
    """Draw distinct runs, from 10,000 parameters and tokens up, with losses of four decimals."""
    count = st.integers(10, 9_999).flatmap(lambda x: st.integers(3, 8).map(lambda e: x * 10**e))
    loss = st.integers(1_0001, 9_9999).filter(lambda x: x % 10).map(lambda x: x / 10_000)
    return draw(st.lists(st.tuples(count, count, loss), min_size=2, max_size=6, unique_by=lambda run: run[:2]))


def workbook(sheets: dict[str, list[list[str | int | float | None]]]) -> bytes:
    """Return sheets as a spreadsheet (Office Open XML, inline strings)."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"

    def cell(value: str | int | float | None) -> str:
        if value is None:
            return "<c/>"
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        return f"<c><v>{value!r}</v></c>"

    numbers = range(1, len(sheets) + 1)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        + "".join(f'<Override PartName="/xl/s{i}.xml" ContentType="{kind}.worksheet+xml"/>' for i in numbers)
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        + "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in enumerate(sheets, 1))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="s{i}.xml"/>' for i in numbers)
        + "</Relationships>",
    }
    for i, rows in enumerate(sheets.values(), 1):
        inside = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
        parts[f"xl/s{i}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{inside}</sheetData></worksheet>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, text in parts.items():
            packed.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')
    return file.getvalue()
