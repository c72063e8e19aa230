"""One table of observations: a row a final, annealed checkpoint. Choose its columns, check, select.

A stranger's table of (N, D, loss) works with one command: usual names and ways of writing are known (`columns`,
`numbers`), rows that are no finished runs are left out and counted (`runs`), and what is missing, not a number, not
positive or of another kind than the rest is an error that names the row and the column.
Rejected: guessing silently which column is N when two could be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.columns import QUANTITIES, shown
from kleiber.scaling.headers import OWN, Header, header
from kleiber.scaling.numbers import Cells, settle
from kleiber.scaling.operations import effective_size, is_overhead, refuse_other_flops
from kleiber.scaling.quantities import (
    SMALL,
    choose_columns,
    from_flops,
    product_name,
    product_of,
    quantities,
    read_cells,
)
from kleiber.scaling.runs import Rows, as_text, truth
from kleiber.scaling.table import read_table
from kleiber.storage import digest

__all__ = ["Observations", "positive", "read_table", "select"]

FROM_FLOPS = "C / 6N"  # the name of D where a table lists budgets of compute, each with runs of its own
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
    row
        int64 (n,) or None: the row of the table that each point stands in, from 1.
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
    row: NDArray[np.int64] | None = None
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
        """Select N, D and loss from a table; finished and annealed rows only where it says which they are.

        Empty rows, runs without a finite loss, copies, and all but the best of a sweep of learning rates, batches and
        the like are left out, and a warning counts them. Perplexities become their logarithm.

        Parameters
        ----------
        columns
            Which column is N, D, loss, C, unique (data before repeats) or se, where its name is not a usual one. A
            unit may follow in brackets: ``params (M)``.
        exact_flops
            Take the column of C as it is. Otherwise it has to be 6·N·D, except in kleiber's own tables, which carry
            both counts.

        Raises
        ------
        DataError
            When a column is missing, or two could be meant; a value is no positive number, or may be read in two ways;
            tokenizers, evaluation sets or corpora are mixed; or C is not 6·N·D. Names the row (from 1) and the column.
        ConfigError
            When a column that was asked for is not there.
        """
        asked = dict(columns or {})
        if unknown := sorted(asked.keys() - QUANTITIES.keys()):
            raise ConfigError(f"{unknown[0]} is none of the quantities {', '.join(QUANTITIES)}.")
        rows = Rows.of(table, name)
        annealed = _keep_annealed(rows)
        rows.keep_finished()
        if not len(rows.table):
            raise DataError(f"{name} has no rows.")
        chosen = choose_columns(rows, asked)
        factors = chosen.pop("factors", [])
        cells = read_cells(rows, chosen, factors)
        gone = ~cells["loss"].is_missing
        if not gone.any():
            raise DataError(f"{name}, column {chosen['loss'].name!r}: no row has a loss.")
        rows.keep(gone, f"{{n}} of {{of}} left out: no finite loss in column {chosen['loss'].name!r} ({{rows}})")
        rows.refuse_mixtures()
        rows.warnings += _mixed_precision(rows.table, rows.row)
        values = quantities(rows, chosen, factors, cells, gone)
        names = {key: one.name for key, one in chosen.items() if key in values} | (
            {"D": product_name(factors)} if factors else {}
        )
        if "D" not in values:
            names["D"], values["D"] = FROM_FLOPS, from_flops(values["C"], values["N"], "D", FROM_FLOPS, rows)
        if "N" not in values:
            names["N"], values["N"] = "C / 6D", from_flops(values["C"], values["D"], "N", "C / 6D", rows)
        used = [*names.values(), *(one.name for one in factors[:1])]
        group = [values[key] for key in ("N", "unique") if key in values]
        keep = rows.best_of_sweeps(group, values["D"], values["loss"], used)
        values = {key: value[keep] for key, value in values.items()}
        product = product_of(values, rows)
        _say_small(values, chosen, rows)
        _say_twins(values, rows)
        if "C" not in values:
            values["C"] = product
        elif (effective := effective_size(values["N"], values["D"], values["C"])) is not None and (
            exact_flops or OWN in table.columns or is_overhead(values["N"], effective)
        ):
            values["counted"], values["N"] = values["N"], effective
            ratio = np.quantile(effective / values["counted"], [0, 1])
            rows.warnings.append(
                f"N is C / 6D, {ratio[0]:.3g} to {ratio[1]:.3g} times {names['N']!r}: column {names['C']!r} counts "
                "operations exactly"
            )
            names |= {"N": EFFECTIVE, "counted": names["N"]}
        elif not exact_flops and OWN not in table.columns:
            refuse_other_flops(values["C"], product, rows.row, f"{name}, column {names['C']!r}")
        return cls(
            **values,
            cluster=_trunks(rows.table, values.get("counted", values["N"]), names["D"]),
            columns={key: names[key] for key in (*QUANTITIES, "counted") if key in names},
            warnings=tuple(rows.warnings),
            annealed=annealed,
            row=rows.row,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the numbers."""
        return digest([x.tolist() for x in (self.N, self.D, self.loss, self.C, self.cluster)])

    def take(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Observations:
        """Return some of the points: `keep` is a mask, (n,), or indices, (m,)."""
        parts = {k: getattr(self, k)[keep] for k in (*QUANTITIES, "counted", "row") if getattr(self, k) is not None}
        return replace(self, **parts, cluster=np.unique(self.cluster[keep], return_inverse=True)[1])

    def recounted(self) -> Observations:
        """Return the points with N as the table counts it."""
        return self if self.counted is None else replace(self, N=self.counted, counted=None)

    def ranges(self) -> dict[str, list[float]]:
        """Return the smallest and largest value of each quantity."""
        return {
            key: [float(getattr(self, key).min()), float(getattr(self, key).max())] for key in ("N", "D", "C", "loss")
        }


def select(table: pl.DataFrame, where: Mapping[str, str], name: str = "the table") -> pl.DataFrame:
    """Return the rows whose columns have the given values, compared as text.

    Raises
    ------
    ConfigError
        When a column is not there, or no row has the value; lists the values that there are.
    """
    for column, value in where.items():
        if column not in table.columns:
            raise ConfigError(f"{name} has no column {column!r}; it has {shown(table.columns)}.")
        text = as_text(table[column], name)
        if not (text == value).any():
            known = ", ".join(map(str, text.unique().sort().to_list()[:10]))
            raise ConfigError(f"{name}, column {column!r}: no row has {value!r}; there are {known}.")
        table = table.filter(text == value)
    return table


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
    cells = Cells(table[column], "count", f"{name}, column {column!r}")
    settle([cells])
    bad = np.flatnonzero(~(np.isfinite(cells.values) & (cells.values > 0)))
    if len(bad):
        raise DataError(
            f"{name}, row {row[bad[0]]}, column {column!r}: {table[column][int(bad[0])]!r} is no positive number."
        )
    return cells.values


def _keep_annealed(rows: Rows) -> bool:
    """Keep the annealed rows where a column says which they are; return whether any is."""
    if "annealed" not in rows.table.columns:
        rows.warnings.append("no column says which points are annealed; all are taken as final")
        return True
    keep = truth(rows.table["annealed"], rows.row, rows.name)
    if not keep.any():
        rows.warnings.append("no row is annealed: losses of unfinished runs lie above those of finished ones")
        return False
    n = int((~keep).sum())
    rows.keep(keep, f"{n} rows are not annealed and left out")
    return True


def _say_small(values: Mapping[str, NDArray[np.float64]], chosen: Mapping[str, Header], rows: Rows) -> None:
    for key in ("N", "D"):
        largest = values[key].max()
        if largest < SMALL and key in chosen and not chosen[key].has_unit:
            name = chosen[key].name
            rows.warnings.append(
                f"the largest {key} is {largest:g}: if column {name!r} counts millions or billions, say so: "
                f"--columns '{key}={name} (M)' or '{key}={name} (B)'"
            )


def _say_twins(values: Mapping[str, NDArray[np.float64]], rows: Rows) -> None:
    """Say which rows have the very loss of another of the same N and D, where losses have over two decimals."""
    points = np.stack([values["N"], values["D"], values["loss"]], axis=1)
    _, first, where = np.unique(points, axis=0, return_index=True, return_inverse=True)
    hundredths = values["loss"] * 100
    fine = np.abs(hundredths - hundredths.round()) > 1e-6
    twins = rows.row[(first[where.ravel()] != np.arange(len(points))) & fine]
    if len(twins):
        rows.warnings.append(
            f"{len(twins)} of {len(points)} rows have the N, D and loss of another, and differ elsewhere (row "
            f"{twins[0]} is the first): if they are copies, remove them"
        )


def _trunks(table: pl.DataFrame, N: NDArray[np.float64], data: str) -> NDArray[np.int64]:
    """Number the training runs: one size and seed, or every point where D comes from C, (n,)."""
    if data == FROM_FLOPS:
        return np.arange(len(table), dtype=np.int64)
    named = next((column for column in table.columns if header(column).words[-1:] == ("seed",)), None)
    seed = table[named].to_list() if named else [0] * len(table)
    seeds = np.unique(np.array(list(map(str, seed))), return_inverse=True)[1]  # numbers, or names
    return np.unique(np.stack([N, seeds]), axis=1, return_inverse=True)[1].astype(np.int64)


def _mixed_precision(table: pl.DataFrame, row: NDArray[np.int64]) -> list[str]:
    """Name the rows that were trained in another precision than most."""
    if "precision" not in table.columns or table["precision"].n_unique() < 2:
        return []
    usual = table["precision"].value_counts(sort=True)["precision"][0]
    other = (table["precision"] != usual).fill_null(True).to_numpy()
    named = ", ".join(map(str, row[other][:10])) + (", …" if other.sum() > 10 else "")
    kinds = ", ".join(map(str, table["precision"].filter(pl.Series(other)).unique(maintain_order=True).to_list()))
    return [f"rows of different precision share this fit: {kinds} in row {named}, {usual} in the others"]
