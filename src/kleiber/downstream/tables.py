"""Tables of labelled sequences, as the GUE benchmark has them: a row a sequence, with its class. No torch.

Plain, gzipped or xz-compressed, separated by commas or tabs, with the columns ``sequence`` and ``label``.
"""

from __future__ import annotations

import gzip
import lzma
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import DataError

__all__ = ["Labelled", "Tables", "read_table", "read_tables"]

LETTERS = frozenset("ACGTNRYSWKMBDHV")


@dataclass(frozen=True)
class Labelled:
    """Sequences, upper case, and their classes, int64 (n,)."""

    sequences: list[str]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sequences)

    def only(self, which: NDArray[np.bool_]) -> Labelled:
        """Return the rows where `which`, (n,), is true."""
        return Labelled([self.sequences[i] for i in np.flatnonzero(which)], self.labels[which])


Tables = tuple[Labelled, Labelled, Labelled]
"""What a classifier is fitted on, what chooses among several, and what the chosen one is scored on, once."""


def read_tables(train: Path, dev: Path | None, test: Path) -> Tables:
    """Read the train, dev and test tables.

    Without a dev table every tenth row of the train table is taken for it.

    Raises
    ------
    DataError
        As `read_table`; also when the train table has one class alone, or another table a class that it lacks.
    """
    known, tested = read_table(train), read_table(test)
    is_dev = np.arange(len(known)) % 10 == 9
    tables = (known, read_table(dev), tested) if dev else (known.only(~is_dev), known.only(is_dev), tested)
    classes = set(tables[0].labels.tolist())
    if len(classes) < 2:
        raise DataError(f"{train} has one class alone: there is nothing to learn.")
    for path, table in ((dev or train, tables[1]), (test, tested)):
        if not len(table):
            raise DataError(
                f"{path} has {len(known)} rows, too few to take every tenth for choosing: name a dev table."
            )
        if strange := set(table.labels.tolist()) - classes:
            raise DataError(f"{path} has the class {min(strange)}, which {train} lacks.")
    return tables


def read_table(path: Path) -> Labelled:
    """Read a table of sequences and labels.

    Raises
    ------
    DataError
        When it is missing, damaged or empty, lacks a column, or holds what is no DNA or no class.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:6] == b"\xfd7zXZ\0":
            data = lzma.decompress(data)
        elif data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        separator = "\t" if b"\t" in data.split(b"\n", 1)[0] else ","
        table = pl.read_csv(BytesIO(data), separator=separator, infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"There is no table {path}.") from None
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is no table of sequences, or is damaged: {error}.") from None
    if absent := [name for name in ("sequence", "label") if name not in table.columns]:
        raise DataError(f"{path} lacks the column {absent[0]!r}; it has {', '.join(table.columns)}.")
    if table.is_empty():
        raise DataError(f"{path} holds no rows.")
    sequences = [(text or "").strip().upper().replace("U", "T") for text in table["sequence"]]
    for number, text in enumerate(sequences, 2):
        if not text or set(text) - LETTERS:
            raise DataError(f"{path}, line {number}: {text[:40]!r} is no sequence of DNA.")
    labels = table["label"].cast(pl.Int64, strict=False)
    if labels.null_count() or int(labels.min()) < 0:  # type: ignore[arg-type]
        number = int((labels.is_null() | (labels < 0)).arg_true()[0]) + 2
        raise DataError(f"{path}, line {number}: {table['label'][number - 2]!r} is no class; classes are 0, 1, …")
    return Labelled(sequences, labels.to_numpy())
