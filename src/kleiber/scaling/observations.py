"""One table of observations: a row a final, annealed checkpoint. Read, check, select.

A stranger's CSV of (N, D, loss) works with one command: the usual column names are known, and what is missing, not a
number or not positive is an error that names the row and the column. Rejected: guessing silently which column is N
when two could be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.storage import digest

__all__ = ["Observations", "read_table"]

ALIASES = {
    "N": (
        "N",
        "n_params_non_embedding",
        "n_params",
        "params",
        "params_active_precise",
        "Model Size",
        "parameters",
        "model_size",
    ),
    "D": ("D", "n_tokens", "tokens", "training_tokens", "data"),
    "loss": ("loss", "final_loss", "eval_loss", "val_loss", "L"),
    "C": ("C", "flops", "Training FLOP", "compute"),
}


@dataclass(frozen=True)
class Observations:
    """(N, D, loss) points and what they share.

    Attributes
    ----------
    N, D, loss, C
        float64 (n,): parameters, data, loss, and operations (6·N·D where the table has none).
    cluster
        int64 (n,): points of one training run (one size and seed) belong together.
    columns
        Which column each quantity came from.
    warnings
        What the reader should know of the table.
    """

    N: NDArray[np.float64]
    D: NDArray[np.float64]
    loss: NDArray[np.float64]
    C: NDArray[np.float64]
    cluster: NDArray[np.int64]
    columns: dict[str, str]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.N)

    @classmethod
    def of(cls, table: pl.DataFrame, columns: dict[str, str] | None = None, name: str = "the table") -> Observations:
        """Select N, D and loss from a table; annealed rows only where it says which they are.

        Raises
        ------
        DataError
            When a column is missing, or a value is no positive number; names the row (from 1) and the column.
        ConfigError
            When a column that was asked for is not there.
        """
        warnings: list[str] = []
        if "annealed" in table.columns:
            table = table.filter(pl.col("annealed"))
        else:
            warnings.append("no column says which points are annealed; all are taken as final")
        chosen = {key: _column(table, key, (columns or {}).get(key), name) for key in ALIASES}
        if chosen["D"] is None and chosen["C"] is not None and chosen["N"] is not None:
            table = table.with_columns((pl.col(chosen["C"]) / (6 * pl.col(chosen["N"]))).alias("C / 6N"))
            chosen["D"] = "C / 6N"
            warnings.append("D is computed as C / 6N")
        for key in ("N", "D", "loss"):
            if chosen[key] is None:
                raise DataError(
                    f"{name} has no column for {key}; it has {', '.join(table.columns)}.\n"
                    f"  Name it: --columns {key}=NAME."
                )
        values = {key: _positive(table, column, name) for key, column in chosen.items() if column}
        if "C" not in values:
            values["C"] = 6 * values["N"] * values["D"]
        seed = table["seed"].to_numpy() if "seed" in table.columns else np.zeros(len(table))
        trunk = np.unique(np.stack([values["N"], seed]), axis=1, return_inverse=True)[1]
        return cls(
            values["N"],
            values["D"],
            values["loss"],
            values["C"],
            trunk.astype(np.int64),
            {key: column for key, column in chosen.items() if column},
            tuple(warnings),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the numbers."""
        return digest([x.tolist() for x in (self.N, self.D, self.loss, self.C, self.cluster)])

    def take(self, keep: NDArray[np.bool_]) -> Observations:
        """Return some of the points."""
        N, D, loss, C = (x[keep] for x in (self.N, self.D, self.loss, self.C))
        cluster = np.unique(self.cluster[keep], return_inverse=True)[1]
        return replace(self, N=N, D=D, loss=loss, C=C, cluster=cluster)

    def ranges(self) -> dict[str, list[float]]:
        """Return the smallest and largest value of each quantity."""
        return {
            key: [float(getattr(self, key).min()), float(getattr(self, key).max())] for key in ("N", "D", "C", "loss")
        }


def read_table(path: Path) -> pl.DataFrame:
    """Read a CSV, JSON-lines or Parquet file.

    Raises
    ------
    DataError
        When the file is missing or is no table.
    """
    readers: dict[str, Any] = {
        ".csv": pl.read_csv,
        ".tsv": pl.read_csv,
        ".jsonl": pl.read_ndjson,
        ".parquet": pl.read_parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path} is no table that can be read: its name must end in {', '.join(readers)}.")
    try:
        return pl.read_csv(path, separator="\t") if path.suffix == ".tsv" else readers[path.suffix](path)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is no table: {error}") from None


def _column(table: pl.DataFrame, key: str, asked: str | None, name: str) -> str | None:
    if asked is not None:
        if asked not in table.columns:
            raise ConfigError(f"{name} has no column {asked!r}; it has {', '.join(table.columns)}.")
        return asked
    return next((alias for alias in ALIASES[key] if alias in table.columns), None)


def _positive(table: pl.DataFrame, column: str, name: str) -> NDArray[np.float64]:
    values = table[column].cast(pl.Float64, strict=False).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise DataError(
            f"{name}, row {bad[0] + 1}, column {column!r}: {table[column][int(bad[0])]!r} is no positive number."
        )
    return values
