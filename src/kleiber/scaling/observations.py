"""One table of observations: a row a final, annealed checkpoint. Read, check, select.

A stranger's CSV of (N, D, loss) works with one command: the usual column names are known, and what is missing, not a
number, not positive, there twice or of another kind than the rest is an error that names the row and the column.
Rejected: guessing silently which column is N when two could be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.storage import digest

__all__ = ["Observations", "positive", "read_table", "select"]

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
    "unique": ("unique_tokens", "unique_data", "U"),
    "se": ("loss_se", "se"),
}
NEEDED = ("N", "D", "loss")
ONE_KIND = ("tokenizer", "tokeniser", "eval_set", "evaluation_set")  # losses that differ in these do not compare
OWN = "flops_6nd"  # a table with this column counts operations exactly and knows that it does
DERIVED = "C / 6N"  # the name of D where a table lists budgets of compute, each with runs of its own
MOST_COLUMNS = 10_000
TOLERANCE = 0.01  # of C against 6·N·D
EFFECTIVE = "n_effective"  # the column of C / 6D in kleiber's own tables, and what such an N is called in others


@dataclass(frozen=True)
class Observations:
    """(N, D, loss) points and what they share.

    Attributes
    ----------
    N, D, loss, C
        float64 (n,): parameters, data, loss, and operations (6·N·D where the table has none).
    cluster
        int64 (n,): points of one training run (one size and seed) belong together; where D comes from C, every point
        is a run.
    columns
        Which column each quantity came from.
    warnings
        What the reader should know of the table.
    annealed
        Whether the points are final ones; False when the table says that none is.
    unique, se
        float64 (n,) or None: data of which D are repeats, in the unit of D, and the standard error of each loss.
    counted
        float64 (n,) or None: parameters as the table counts them, where operations are known exactly and N is C / 6D,
        so that C = 6·N·D holds.
    """

    N: NDArray[np.float64]
    D: NDArray[np.float64]
    loss: NDArray[np.float64]
    C: NDArray[np.float64]
    cluster: NDArray[np.int64]
    columns: dict[str, str]
    warnings: tuple[str, ...] = ()
    annealed: bool = True
    unique: NDArray[np.float64] | None = None
    se: NDArray[np.float64] | None = None
    counted: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.N)

    @classmethod
    def of(
        cls,
        table: pl.DataFrame,
        columns: Mapping[str, str] | None = None,
        name: str = "the table",
        exact_flops: bool = False,
    ) -> Observations:
        """Select N, D and loss from a table; annealed rows only where it says which they are.

        Parameters
        ----------
        columns
            Which column is N, D, loss, C, unique (data before repeats) or se, where its name is not a usual one.
        exact_flops
            Take the column of C as it is. Otherwise it has to be 6·N·D, except in kleiber's own tables, which carry
            both counts.

        Raises
        ------
        DataError
            When a column is missing; a value is no positive number; a row is there twice; tokenizers or evaluation
            sets are mixed; or C is not 6·N·D. Names the row (from 1) and the column.
        ConfigError
            When a column that was asked for is not there.
        """
        asked = dict(columns or {})
        if unknown := sorted(asked.keys() - ALIASES.keys()):
            raise ConfigError(f"{unknown[0]} is none of the quantities {', '.join(ALIASES)}.")
        warnings: list[str] = []
        row = np.arange(1, len(table) + 1)
        _refuse_repeats(table, name)
        annealed = True
        if "annealed" in table.columns:
            keep = _truth(table["annealed"], name)
            annealed = bool(keep.any())
            if not annealed:
                warnings.append("no row is annealed: losses of unfinished runs lie above those of finished ones")
            elif not keep.all():
                warnings.append(f"{int((~keep).sum())} rows are not annealed and left out")
            keep = keep if annealed else np.ones(len(table), bool)
            table, row = table.filter(pl.Series(keep)), row[keep]
        else:
            warnings.append("no column says which points are annealed; all are taken as final")
        _refuse_mixtures(table, row, name)
        chosen = {key: _column(table, key, asked.get(key), name) for key in ALIASES}
        if chosen["D"] is None and chosen["C"] is not None and chosen["N"] is not None:
            values = {key: positive(table, column, row, name) for key in ("N", "C") if (column := chosen[key])}
            with np.errstate(over="ignore"):
                table = table.with_columns(pl.Series(DERIVED, values["C"] / (6 * values["N"])))
            chosen["D"] = DERIVED
            warnings.append("D is computed as C / 6N")
        for key in NEEDED:
            if chosen[key] is None:
                raise DataError(
                    f"{name} has no column for {key}; it has {', '.join(table.columns)}.\n"
                    f"  Name it: --columns {key}=NAME."
                )
        if not len(table):
            raise DataError(f"{name} has no rows.")
        values = {key: positive(table, column, row, name) for key, column in chosen.items() if column}
        with np.errstate(over="ignore"):
            product = 6 * values["N"] * values["D"]
        if len(beyond := np.flatnonzero(~(np.isfinite(product) & (product > 0)))):
            raise DataError(
                f"{name}, row {row[beyond[0]]}: N = {values['N'][beyond[0]]:g} and D = {values['D'][beyond[0]]:g} "
                f"cannot be: 6·N·D is {product[beyond[0]]:g}."
            )
        if "C" not in values:
            values["C"] = product
        elif (effective := effective_size(values["N"], values["D"], values["C"])) is not None and (
            exact_flops or OWN in table.columns or _is_overhead(values["N"], effective)
        ):
            values["counted"], values["N"] = values["N"], effective
            ratio = np.quantile(effective / values["counted"], [0, 1])
            warnings.append(
                f"N is C / 6D, {ratio[0]:.3g} to {ratio[1]:.3g} times {chosen['N']!r}: column {chosen['C']!r} counts "
                "operations exactly"
            )
            chosen |= {"N": EFFECTIVE, "counted": chosen["N"]}
        elif not exact_flops and OWN not in table.columns:
            _refuse_other_flops(values["C"], product, row, f"{name}, column {chosen['C']!r}")
        seed = table["seed"].to_list() if "seed" in table.columns else [0] * len(table)
        seeds = np.unique(np.array(list(map(str, seed))), return_inverse=True)[1]  # numbers, or names
        trunk = np.unique(np.stack([values.get("counted", values["N"]), seeds]), axis=1, return_inverse=True)[1]
        if chosen["D"] == DERIVED:
            trunk = np.arange(len(table))
        return cls(
            **values,
            cluster=trunk.astype(np.int64),
            columns={key: column for key, column in chosen.items() if column},
            warnings=tuple(warnings),
            annealed=annealed,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the numbers."""
        return digest([x.tolist() for x in (self.N, self.D, self.loss, self.C, self.cluster)])

    def take(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Observations:
        """Return some of the points: `keep` is a mask, (n,), or indices, (m,)."""
        parts = {key: getattr(self, key)[keep] for key in (*ALIASES, "counted") if getattr(self, key) is not None}
        return replace(self, **parts, cluster=np.unique(self.cluster[keep], return_inverse=True)[1])

    def recounted(self) -> Observations:
        """Return the points with N as the table counts it."""
        return self if self.counted is None else replace(self, N=self.counted, counted=None)

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
        ".csv": lambda file: pl.read_csv(file, infer_schema_length=None),
        ".tsv": lambda file: pl.read_csv(file, separator="\t", infer_schema_length=None),
        ".jsonl": _read_json_lines,
        ".parquet": pl.read_parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path} is no table that can be read: its name must end in {', '.join(readers)}.")
    try:
        with open(path, "rb") as file:  # polars takes half a minute for a million columns
            first = file.readline(1 << 24) if path.suffix in (".csv", ".tsv") else b""
        if max(first.count(b","), first.count(b"\t")) < MOST_COLUMNS:
            table = readers[path.suffix](path)
            if table.width <= MOST_COLUMNS:
                return table
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DataError(f"{path} is no table: {error}") from None
    raise DataError(f"{path} has more than {MOST_COLUMNS:,} columns: it is no table of observations.")


def _read_json_lines(path: Path) -> pl.DataFrame:
    """Read objects line by line; a column of numbers and text becomes text, so that the check can name its row."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no JSON object: {error}.") from None
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            raise DataError(f"{path}, line {number} is no JSON object: {line[:60]!r}.")
    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except (TypeError, OverflowError) as error:
        raise DataError(f"{path} is no table: {error}") from None


def select(table: pl.DataFrame, where: Mapping[str, str], name: str = "the table") -> pl.DataFrame:
    """Return the rows whose columns have the given values, compared as text.

    Raises
    ------
    ConfigError
        When a column is not there, or no row has the value; lists the values that there are.
    """
    for column, value in where.items():
        if column not in table.columns:
            raise ConfigError(f"{name} has no column {column!r}; it has {', '.join(table.columns)}.")
        text = _as_text(table[column], name)
        if not (text == value).any():
            known = ", ".join(map(str, text.unique().sort().to_list()[:10]))
            raise ConfigError(f"{name}, column {column!r}: no row has {value!r}; there are {known}.")
        table = table.filter(text == value)
    return table


def _column(table: pl.DataFrame, key: str, asked: str | None, name: str) -> str | None:
    if asked is not None:
        if asked not in table.columns:
            raise ConfigError(f"{name} has no column {asked!r}; it has {', '.join(table.columns)}.")
        return asked
    found = next((alias for alias in ALIASES[key] if alias in table.columns), None)
    if found is not None and f"{found}_duplicated_0" in table.columns:
        raise DataError(f"{name} has two columns {found!r}; rename one.")
    return found


def positive(table: pl.DataFrame, column: str, row: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Return a column of positive numbers.

    Parameters
    ----------
    row
        What errors call each row, (n,).

    Returns
    -------
    float64 array, shape (n,).

    Raises
    ------
    DataError
        When one is none; names the first.
    """
    is_number = table[column].dtype.is_numeric() or table[column].dtype in (pl.String, pl.Null)
    values = table[column].cast(pl.Float64, strict=False).to_numpy() if is_number else np.zeros(len(table))
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        raise DataError(
            f"{name}, row {row[bad[0]]}, column {column!r}: {table[column][int(bad[0])]!r} is no positive number."
        )
    return values


def _as_text(column: pl.Series, name: str) -> pl.Series:
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(f"{name}, column {column.name!r}: it holds {column.dtype}, and text or numbers are read.")
    return column.cast(pl.String)


def _truth(column: pl.Series, name: str) -> NDArray[np.bool_]:
    """Return a column of true and false, which a CSV may spell in several ways."""
    text = _as_text(column, name).str.to_lowercase()
    bad = np.flatnonzero(~text.is_in(["true", "1", "false", "0"]).fill_null(False).to_numpy())
    if len(bad):
        raise DataError(f"{name}, row {bad[0] + 1}, column {column.name!r}: {column[int(bad[0])]!r} is no truth value.")
    return text.is_in(["true", "1"]).to_numpy()


def _refuse_repeats(table: pl.DataFrame, name: str) -> None:
    if not table.width:
        return
    twice = np.flatnonzero(~table.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy())
    if len(twice):
        row = table.row(int(twice[0]))
        same = ([a == b or (a != a and b != b) for a, b in zip(other, row, strict=True)] for other in table.iter_rows())
        first = next(i for i, equal in enumerate(same) if all(equal))  # what is no number equals itself here
        raise DataError(
            f"{name}, row {twice[0] + 1} repeats row {first + 1} in every column ({', '.join(table.columns)}).\n"
            f"  {len(twice)} of {len(table)} rows are repeats. Remove them: a copy would count as a new measurement."
        )


def _refuse_mixtures(table: pl.DataFrame, row: NDArray[np.int64], name: str) -> None:
    for column in ONE_KIND:
        kinds = _as_text(table[column], name).to_list() if column in table.columns else []
        if len(set(kinds)) > 1:
            other = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
            raise DataError(
                f"{name}, row {row[other]}, column {column!r}: {kinds[other]!r}, and {kinds[0]!r} in row {row[0]}.\n"
                f"  Losses of different kinds do not share a law. Fit one kind: --where {column}={kinds[0]}."
            )


def effective_size(
    N: NDArray[np.float64], D: NDArray[np.float64], C: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return C / 6D, (n,), the same for all points of a size; None where a size has no such number, or it is N."""
    found = C / (6 * D)
    for size in np.unique(N):
        at = size == N
        level = float(np.median(found[at]))
        if np.abs(found[at] / level - 1).max() > TOLERANCE:
            return None
        found[at] = level
    return None if np.abs(found / N - 1).max() <= TOLERANCE else found


def _is_overhead(N: NDArray[np.float64], effective: NDArray[np.float64]) -> bool:
    """Say whether a count of operations differs from 6·N·D as embeddings or attention make it differ.

    By a factor that falls or rises steadily with size; one and the same factor is a unit or a mistake.
    """
    _, first = np.unique(N, return_index=True)
    ratio = np.log(effective[first] / N[first])
    steps = np.diff(ratio)
    is_steady = bool((steps <= TOLERANCE).all() or (steps >= -TOLERANCE).all())
    return is_steady and float(np.ptp(ratio)) > 5 * TOLERANCE and float(np.abs(ratio).max()) < np.log(20)


def _refuse_other_flops(C: NDArray[np.float64], product: NDArray[np.float64], row: NDArray, where: str) -> None:
    off = np.flatnonzero(np.abs(C / product - 1) > TOLERANCE)
    if len(off):
        named = ", ".join(str(r) for r in row[off[:10]]) + (", …" if len(off) > 10 else "")
        raise DataError(
            f"{where}: {len(off)} of {len(C)} rows differ from 6·N·D by more than 1 % (rows {named}); "
            f"row {row[off[0]]} has {C[off[0]]:.6g}, and 6·N·D is {product[off[0]]:.6g}.\n"
            "  If the column counts operations exactly, say --flops exact; else mend N, D or C."
        )
