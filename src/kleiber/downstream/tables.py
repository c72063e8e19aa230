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

__all__ = ["Labelled", "read_table"]

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
