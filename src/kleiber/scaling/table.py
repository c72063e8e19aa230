"""A file into a table, by what is in it and not by its name: text, JSON, spreadsheets, Parquet, compressed or not.

Polars reads what has a format (Parquet, Arrow, and spreadsheets through calamine); text is cut in `delimited`, because
what people save has titles, comments and separators of all kinds. JSON is a list of objects, one a line, or any of the
ways in which data frames are written. Rejected: to go by the suffix, which people choose after the fact.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from kleiber.errors import DataError
from kleiber.scaling.columns import shown
from kleiber.scaling.delimited import MOST_COLUMNS, decoded, frame_of, rows_of, squared
from kleiber.scaling.headers import header, rank

__all__ = ["read_table"]

MOST_BYTES = 1 << 28  # of a table, packed or not: beyond that it is no table of runs
DEEPEST = 20  # nested objects
LARGEST_INTEGER = 2**63
SAVE_AS = "Save it as CSV, JSON, Parquet or .xlsx"
KINDS = (
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
)


def read_table(path: Path) -> pl.DataFrame:
    """Read a table from text, JSON, a spreadsheet, Parquet or Arrow.

    It may be packed with gzip, bzip2, xz or zip.

    Columns of plain numbers are numbers; others are text, and `Observations.of` reads what they say.

    Raises
    ------
    DataError
        When the file is missing or is no table, with what to do.
    """
    name = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        table = _table_of(_unpacked(data, name), name)
        table = table.rename({column: column.strip() for column in table.columns if column != column.strip()})
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is no table: it is a folder.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no table: {error}") from None
    if table.width > MOST_COLUMNS:
        raise DataError(f"{path} has more than {MOST_COLUMNS:,} columns: it is no table of observations.")
    return table


def _unpacked(data: bytes, name: str) -> bytes:
    """Undo gzip, bzip2, xz, and a zip of one file, up to `MOST_BYTES`."""
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
    opener = next((opener for magic, opener in openers.items() if data.startswith(magic)), None)
    try:
        if opener is not None:
            with opener(io.BytesIO(data)) as file:
                data = file.read(MOST_BYTES + 1)
        elif data.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(io.BytesIO(data)) as packed:
                files = [
                    one for one in packed.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX")
                ]
                inside = {one.filename for one in files}
                if len(files) == 1:
                    with packed.open(files[0]) as file:
                        data = file.read(MOST_BYTES + 1)
                elif not inside & {"[Content_Types].xml", "mimetype", "content.xml"}:
                    raise DataError(
                        f"{name} is an archive of {len(files)} files ({shown(sorted(inside))}).\n"
                        "  Unpack it, and name the table."
                    )
    except DataError:
        raise
    except Exception as error:  # damaged archives raise a dozen kinds
        raise DataError(f"{name} cannot be unpacked: {error}") from None
    if len(data) > MOST_BYTES:
        raise DataError(f"{name} holds more than {MOST_BYTES >> 20} MiB: it is no table of runs.")
    return data


def _table_of(data: bytes, name: str) -> pl.DataFrame:
    if data.startswith(b"PAR1"):
        return pl.read_parquet(io.BytesIO(data))
    if data.startswith(b"ARROW1"):
        return pl.read_ipc(io.BytesIO(data))
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return _sheet(data, name)
    for magic, kind in KINDS:
        if data.startswith(magic):
            raise DataError(f"{name} is {kind}, which is not read. {SAVE_AS}.")
    text = decoded(data, name)
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return _records(list(_objects(text, name)), name)
    return frame_of(rows_of(text, name), name)


def _sheet(data: bytes, name: str) -> pl.DataFrame:
    """Read the one sheet of a spreadsheet that has cells."""
    import fastexcel

    try:
        book = fastexcel.read_excel(data)
        sheets = {}
        for sheet in book.sheet_names:
            cells = book.load_sheet(sheet, header_row=None, dtypes="string").to_polars()
            rows = [[cell or "" for cell in row] for row in cells.rows()]
            if any(any(row) for row in rows):
                sheets[sheet] = [row for row in rows if any(row)]
    except BaseException as error:  # a panic of calamine's is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"{name} is no spreadsheet that can be read: {error}.\n  {SAVE_AS}.") from None
    if len(sheets) != 1:
        raise DataError(
            f"{name} is a spreadsheet with {len(sheets)} sheets that hold something ({shown(sheets)}).\n"
            "  Save the one with the runs as CSV, or alone."
        )
    return frame_of(squared(next(iter(sheets.values())), name), name)


def _objects(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON: one value, in any of the shapes that tables have, or one object a line."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{name} is no table: {error}.") from None
    except ValueError:
        yield from _lines(text, name)
        return
    yield from _rows_in(value, name)


def _lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, line {number} is no JSON object: {error}.") from None
        if isinstance(row, dict):
            yield row
        elif line.strip():
            raise DataError(f"{name}, line {number} is no JSON object: {line[:60]!r}.")


def _rows_in(value: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(value, list):
        if value and all(isinstance(row, dict) for row in value):
            return value
        if len(value) > 1 and all(isinstance(row, list) for row in value) and all(isinstance(x, str) for x in value[0]):
            return _from_lists(value[0], value[1:], name)
        raise DataError(f"{name} is no table: its JSON is no list of objects, a row each.")
    if isinstance(value, dict):
        if isinstance(value.get("schema"), dict) and isinstance(value.get("data"), list):
            return _rows_in(value["data"], name)  # of pandas, orient="table"
        if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
            return _from_lists(value["columns"], value["data"], name)
        lists = [part for part in value.values() if isinstance(part, list)]
        if lists and len(lists) == len(value) and len(set(map(len, lists))) == 1 and not _lists_of_objects(value):
            return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
        if len(value) > 1 and all(isinstance(part, dict) for part in value.values()):
            return _from_nested(value)
        found = _lists_of_objects(value)
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise DataError(
                f"{name} holds {len(found)} lists of objects ({shown(found)}), and a table is one. Save that one alone."
            )
        if value and not any(isinstance(part, dict | list) for part in value.values()):
            return [value]
    raise DataError(f"{name} is no table: its JSON holds no list of objects, a row each.")


def _from_lists(columns: list[Any], data: list[Any], name: str) -> list[dict[str, Any]]:
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise DataError(
            f"{name} is no table: its rows have not as many values as there are columns ({shown(map(str, columns))})."
        )
    return [dict(zip(map(str, columns), row, strict=True)) for row in data]


def _from_nested(value: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Read column → row → value, or row → column → value: names of columns are names that say something."""
    inner = list(dict.fromkeys(key for part in value.values() for key in part))
    outer_known, inner_known = (sum(_is_known(key) for key in keys) for keys in (value, inner))
    if outer_known >= inner_known:
        return [{column: part.get(row) for column, part in value.items()} for row in inner]
    return [{"": row, **part} for row, part in value.items()]


def _is_known(key: str) -> bool:
    one = header(key)
    return bool(one.words) and any(rank(what, one) is not None for what in ("N", "D", "loss", "C"))


def _lists_of_objects(value: dict[str, Any], above: str = "", depth: int = 0) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for key, part in value.items():
        if isinstance(part, list) and part and all(isinstance(row, dict) for row in part):
            found[above + key] = part
        elif isinstance(part, dict) and depth < DEEPEST:
            found |= _lists_of_objects(part, f"{above}{key}.", depth + 1)
    return found


def _records(rows: list[dict[str, Any]], name: str) -> pl.DataFrame:
    """Make a table of objects: nested ones as a.b; a column of numbers and text becomes text."""
    flat = [_flat(row, name) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    if len(columns) > MOST_COLUMNS:
        raise DataError(f"{name} has more than {MOST_COLUMNS:,} columns: it is no table of observations.")
    try:
        return pl.DataFrame({key: pl.Series(key, [row.get(key) for row in flat], strict=False) for key in columns})
    except (TypeError, OverflowError) as error:
        raise DataError(f"{name} is no table: {error}") from None


def _flat(row: dict[str, Any], name: str, above: str = "", depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            if depth == DEEPEST:
                raise DataError(f"{name} is no table: its objects are nested more than {DEEPEST} deep.")
            found |= _flat(value, name, f"{above}{key}.", depth + 1)
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST_INTEGER:
            found[above + key] = float(value) if abs(value) < 10**300 else str(value)
        else:
            found[above + key] = json.dumps(value) if isinstance(value, list) else value
    return found
