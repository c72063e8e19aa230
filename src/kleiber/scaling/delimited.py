"""Rows of cells out of text: CSV with any separator, pasted tables of Markdown, LaTeX and terminals, titles, comments.

The separator is the one that cuts every line into as many cells as the header has; a line that has more is an error,
since a decimal comma between commas looks just so. Rejected: ``csv.Sniffer``, which takes letters for separators, and
the reader of polars, which fills ragged lines in silence and stops at titles; cells are cut by Python's ``csv``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

import polars as pl

from kleiber.errors import DataError
from kleiber.scaling.numbers import MISSING, Cells, parsed

__all__ = ["MOST_COLUMNS", "decoded", "frame_of", "rows_of", "squared"]

MOST_COLUMNS = 10_000
SEPARATORS = ("\t", ";", "|", ",")
SAMPLE = 200  # rows by which a separator is chosen
RULE = re.compile(r"^[\s|:+=\-─━┼┬┴├┤┌┐└┘╞╡╪═]+$")
LATEX_RULE = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|cline\{[^}]*\}|cmidrule(?:\([^)]*\))?\{[^}]*\}|addlinespace)(?:\[[^\]]*\])?"
    r"|\\(?:begin|end)\{[^}]*\}(?:\[[^\]]*\])?(?:\{[^}]*\})*|\\(?:caption|label)\{[^}]*\}|\\centering"
)


def decoded(data: bytes, name: str) -> str:
    """Return the text of a file: UTF-8, UTF-16 or UTF-32 by its mark, or what Windows writes.

    Raises
    ------
    DataError
        When it is no text.
    """
    marks = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((known for mark, known in marks.items() if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and (zeros := {i % 2 for i, byte in enumerate(data[:200]) if not byte}) in ({0}, {1}):
        encoding = "utf-16-be" if zeros == {0} else "utf-16-le"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise DataError(
                f"{name} is no table: it is no {encoding.upper()} text ({error.reason}). Save it as UTF-8."
            ) from None
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise DataError(f"{name} is no table: it holds zero bytes, and no text. Save it as CSV or Parquet.")
    return text


def rows_of(text: str, name: str) -> list[list[str]]:
    """Cut a text into a header and rows of as many cells.

    Raises
    ------
    DataError
        When there is no header, or a row has more cells than it.
    """
    text = text.removeprefix("\ufeff")
    separator = None
    if told := re.match(r"\s*\"?sep=(.)\"?[^\n\r]*[\r\n]+", text):
        separator, text = told[1], text[told.end() :]
    text, comment = _without_comments(text)
    pasted = _latex(text) or _drawn(text)
    if pasted is not None:
        return squared(pasted, name)
    separators = [separator] if separator else [one for one in SEPARATORS if _fits(text, one)]
    rows = list(_cut(text, separators[0], name)) if separators else _cut_at_spaces(text, name)
    if comment and rows and all(_is_number(cell) for cell in rows[0]):
        header = next(
            (cut for one in (*SEPARATORS, None) if len(cut := _stripped(comment.split(one))) == len(rows[0])), None
        )
        rows = [header, *rows] if header else rows
    return squared(
        rows, name, quoted=bool(re.search(r"^\s*\"", text.partition("\n")[2], re.M)), is_comma=separators[:1] == [","]
    )


def _without_comments(text: str) -> tuple[str, str]:
    """Remove lines of comment above the header; return the last of them too, which may be the header."""
    comment = ""
    while found := re.match(r"[ \t]*(?:(?:#|%|//)([^\r\n]*))?(?:\r\n|\r|\n)", text):
        comment, text = (found[1] or "").strip() or comment, text[found.end() :]
    return text, comment


def _stripped(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    return parsed(cell) is not None or cell.strip().lower() in MISSING


def _latex(text: str) -> list[list[str]] | None:
    if "&" not in text or r"\\" not in text:
        return None
    body = LATEX_RULE.sub("", re.sub(r"(?m)(?<!\\)%.*$", "", text))
    lines = [line.strip() for line in re.split(r"\\\\(?:\[[^\]]*\])?", body)]
    return [_stripped(re.split(r"(?<!\\)&", line)) for line in lines if "&" in line]


def _drawn(text: str) -> list[list[str]] | None:
    """Read a table drawn with bars: Markdown, Org, psql, the terminal's frames; None if there is no rule in it."""
    lines = [line for line in text.replace("│", "|").replace("┃", "|").replace("┆", "|").splitlines() if line.strip()]
    ruled = any(RULE.match(line) and ("-" in line or "─" in line or "=" in line or "═" in line) for line in lines)
    bars = [line.strip() for line in lines if "|" in line and not RULE.match(line)]
    if not ruled or len(bars) < 2:
        return None
    return [_stripped(line.removeprefix("|").removesuffix("|").split("|")) for line in bars]


def _cut(text: str, separator: str, name: str) -> Iterator[list[str]]:
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True):
            if row:
                yield _stripped(row)
    except csv.Error as error:
        raise DataError(f"{name} is no table: {error}.") from None


def _fits(text: str, separator: str) -> bool:
    """Whether a separator cuts all lines into as many cells as most have, and more than one."""
    sample = text[: 1 << 20]
    widths: list[int] = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=separator, skipinitialspace=True):
            if any(cell.strip() for cell in row):
                widths.append(len(row))
            if len(widths) == SAMPLE:
                break
    except csv.Error:
        return False
    if len(sample) < len(text) and len(widths) < SAMPLE:
        widths = widths[:-1] or widths
    while len(widths) > 1 and widths[0] == 1:
        widths = widths[1:]  # a title
    return bool(widths) and widths[0] > 1 and sum(width > 1 for width in widths) > 0.8 * len(widths)


def _cut_at_spaces(text: str, name: str) -> list[list[str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for cut in (r"\s+", r"\s{2,}"):
        rows = [re.split(cut, line) for line in lines]
        if len(rows) > 1 and len(rows[0]) > 1 and {len(row) - len(rows[0]) for row in rows[1:]} in ({0}, {1}):
            return [[cell.strip('"') for cell in row] for row in rows]
    raise DataError(
        f"{name} is no table: no separator (comma, semicolon, tab, bar, spaces) cuts all lines into equally many."
    )


def squared(rows: list[list[str]], name: str, quoted: bool = False, is_comma: bool = False) -> list[list[str]]:
    """Drop titles above the header, and give every row as many cells as the header has.

    Raises
    ------
    DataError
        When there is no row, no header, or a row with more cells.
    """
    filled = [sum(map(bool, row)) for row in rows]
    usual = Counter(len(row) for row in rows).most_common(1)[0][0] if rows else 0
    while len(rows) > 2 and usual > 1 and filled[0] <= 1:
        rows, filled = rows[1:], filled[1:]
    if not rows:
        raise DataError(f"{name} is no table: it is empty.")
    header = rows[0]
    while header and not header[-1] and not any(len(row) >= len(header) and row[len(header) - 1] for row in rows[1:]):
        header = header[:-1]
    if len(header) > MOST_COLUMNS:
        raise DataError(f"{name} has more than {MOST_COLUMNS:,} columns: it is no table of observations.")
    rows = [row[: len(header)] if not any(row[len(header) :]) else row for row in rows[1:]]
    if (
        rows
        and all(len(row) == len(header) + 1 for row in rows)
        and _are_names([row[0] for row in rows], quoted or not is_comma)
    ):
        header = ["", *header]  # row names, which R writes without a name
    for i, row in enumerate(rows, 1):
        if len(row) > len(header):
            raise DataError(
                f"{name}, row {i} has {len(row)} cells, and the header {len(header)}: {', '.join(row)[:80]!r}.\n"
                "  A decimal comma, or one between thousands, has to be quoted, or the columns separated by ; or tabs."
            )
    if header and all(_is_number(cell) for cell in header):
        raise DataError(
            f"{name} has no header: its first line is {', '.join(header)[:80]!r}.\n"
            "  Write names of columns above it, such as N, D, loss."
        )
    return [header, *(row + [""] * (len(header) - len(row)) for row in rows)]


def _are_names(cells: list[str], trusted: bool) -> bool:
    counted = [cell for cell in cells if cell.isdigit()]
    if len(counted) == len(cells):
        numbers = list(map(int, cells))
        return trusted and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(cells)))
    return trusted and not counted and len(set(cells)) == len(cells) and not any(parsed(cell) for cell in cells)


def frame_of(rows: list[list[str]], name: str) -> pl.DataFrame:
    """Make columns of rows, the first of which is the header; numbers where nothing about them is open."""
    header, body = rows[0], rows[1:]
    names: list[str] = []
    for cell in header:
        again = sum(1 for one in names if one == cell or re.fullmatch(re.escape(cell) + r"_duplicated_\d+", one))
        names.append(f"{cell}_duplicated_{again - 1}" if again else cell)
    columns = {}
    for i, one in enumerate(names):
        cells = [row[i] or None for row in body]
        if any(cells) or (one and not one.startswith("_duplicated_")):
            columns[one] = _typed(pl.Series(one, cells, dtype=pl.String))
    return pl.DataFrame(columns)


def _typed(column: pl.Series) -> pl.Series:
    """Return a column of plain numbers as such; what has marks that may be read in two ways stays text."""
    text = column.drop_nulls()
    if not len(text) or not text.str.contains(r"^(?:[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|[Nn]a[Nn])$").all():
        return column
    if text.str.contains(r"^[+-]?(?:0|[1-9]\d{0,17})$").all():
        return column.cast(pl.Int64)
    if text.str.contains(r"^[+-]?0\d").any():
        return column
    cells = Cells(column, "loss", column.name)
    if cells.open and not cells.proofs:
        return column
    return column.cast(pl.Float64)
