"""The quantities of a table as numbers: which columns they are in, in which unit, and what one gives for another.

Beside `kleiber.scaling.observations`, which chooses rows; what is missing, not a number or not positive is an error
that names the row and the column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.scaling.columns import QUANTITIES, choose, column_named, is_chart, missing, steps_and_batch
from kleiber.scaling.headers import OWN, Header, header, is_loss
from kleiber.scaling.numbers import Cells, Kind, settle
from kleiber.scaling.runs import Rows

__all__ = ["SMALL", "choose_columns", "from_flops", "product_name", "product_of", "quantities", "read_cells"]

NEEDED = ("N", "D", "loss")
SMALL = 1e4  # a largest N or D below is likely in millions
MOST = {"N": 1e14, "D": 1e17}  # beyond that a unit was counted twice
FACTORS = ("steps", "batch", "length")


def choose_columns(rows: Rows, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return the column of each quantity that has one; where D is a product, its columns as ``factors``."""
    if is_chart(rows.table.columns):
        raise missing(rows.table, "N", rows.name, {})
    chosen: dict[str, Any] = {key: column_named(rows.table, column, rows.name) for key, column in asked.items()}
    wide = {} if "loss" in asked else rows.lengthen()
    for key in QUANTITIES:
        if key in wide:
            chosen[key] = Header(wide[key], (), 1.0, False, "")
        elif key == "se" and OWN in rows.table.columns and "loss" in asked:  # loss_se is that of loss alone
            if (own := f"{chosen['loss'].name}_se") in rows.table.columns:
                chosen[key] = header(own)
        elif key not in chosen:
            optional = key in ("unique", "se") or (key == "C" and {"N", "D"} <= chosen.keys())
            if one := choose(rows.table, key, rows.name, rows.warnings, optional):
                chosen[key] = one
        if key == "D" and "D" not in chosen and (factors := steps_and_batch(rows.table, rows.name)):
            chosen["factors"] = factors
    has_d = "D" in chosen or "factors" in chosen
    names = {key: one.name for key, one in chosen.items() if key in NEEDED}
    if "N" not in chosen and not ("C" in chosen and has_d):
        raise missing(rows.table, "N", rows.name, names)
    if not has_d and "C" not in chosen:
        raise missing(rows.table, "D", rows.name, names)
    if "loss" not in chosen:
        raise missing(rows.table, "loss", rows.name, names)
    return chosen


def read_cells(rows: Rows, chosen: Mapping[str, Any], factors: Sequence[Header]) -> dict[str, Cells]:
    """Read the cells of all chosen columns with one meaning of points and commas."""
    cells = {}
    for key, one in [*chosen.items(), *zip(FACTORS, factors, strict=False)]:
        kind: Kind = "count"
        if key in ("loss", "se"):
            kind = "loss" if is_loss(one) != "perplexity" else "ratio"
        has_unit = one.has_unit or rows.scale.get(one.name, 1.0) != 1
        cells[key] = Cells(rows.table[one.name], kind, f"{rows.name}, column {one.name!r}", has_unit)
    settle(list(cells.values()))
    if cells["loss"].spread:
        rows.warnings.append(f"what follows ± in column {chosen['loss'].name!r} is not used")
    return cells


def quantities(
    rows: Rows,
    chosen: Mapping[str, Header],
    factors: Sequence[Header],
    cells: Mapping[str, Cells],
    keep: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """Return the quantities that have columns, in their units, (n,) each; of rows where `keep`, (all,).

    Raises
    ------
    DataError
        When a cell is no positive number, or a unit makes it more than there is.
    """
    values = {}
    for key, one in chosen.items():
        if key == "se" and _no_errors(rows, one, cells, keep):
            continue
        values[key] = _scaled(rows, one, cells[key], keep)
        if one.has_unit and values[key].max() > MOST.get(key, np.inf):
            raise DataError(
                f"{rows.name}, column {one.name!r}: with its unit {one.unit!r} it holds {values[key].max():.3g}, which "
                "is more than there is.\n  Remove the unit from the header if the column has none."
            )
    if factors:
        parts = [_scaled(rows, one, cells[key], keep) for key, one in zip(FACTORS, factors, strict=False)]
        values["D"] = np.prod(parts, axis=0)
        rows.warnings.append(f"D is computed as {product_name(factors)}")
    counted = is_loss(chosen["loss"])
    if counted == "perplexity":
        values["loss"] = _logarithm(values["loss"], rows, chosen["loss"].name)
    elif counted == "bits":
        rows.warnings.append(
            f"the loss is in bits (column {chosen['loss'].name!r}), and so are E, A and B; exponents do not care"
        )
    return values


def _scaled(rows: Rows, one: Header, cells: Cells, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return positive numbers of a column, times the unit in its header or below where a cell has none, (n,)."""
    factor = one.scale * rows.scale.get(one.name, 1.0)
    own = np.zeros(len(keep), bool)
    own[list(cells.scaled)] = True
    if factor == 1 and own.any() and (odd := ~own & keep & (cells.values < SMALL)).any():
        cell = cells.column.filter(pl.Series(odd))[0]
        raise DataError(
            f"{rows.name}, row {rows.row[odd[keep]][0]}, column {one.name!r}: {cell!r} has no unit, and other cells "
            "have one.\n  Give it one, or write all numbers in full."
        )
    with np.errstate(over="ignore"):
        values = np.where(own, cells.values, cells.values * factor)[keep]
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        cell = cells.column.filter(pl.Series(keep))[int(bad[0])]
        what = "an empty cell" if cell is None else repr(cell)
        raise DataError(f"{rows.name}, row {rows.row[bad[0]]}, column {one.name!r}: {what} is no positive number.")
    return values


def _no_errors(rows: Rows, one: Header, cells: Mapping[str, Cells], keep: NDArray[np.bool_]) -> bool:
    """Say why standard errors cannot be used, where they cannot."""
    found = cells["se"]
    unknown = int((found.is_missing | (found.values == 0))[keep].sum())
    if unknown:
        rows.warnings.append(
            f"standard errors are not used: {unknown} of {int(keep.sum())} in column {one.name!r} are zero or missing"
        )
    elif cells["loss"].kind == "ratio":
        rows.warnings.append(f"standard errors in column {one.name!r} are not used: they are of perplexities")
        return True
    return bool(unknown)


def _logarithm(values: NDArray[np.float64], rows: Rows, column: str) -> NDArray[np.float64]:
    if len(low := np.flatnonzero(values <= 1)):
        raise DataError(
            f"{rows.name}, row {rows.row[low[0]]}, column {column!r}: {values[low[0]]:g} is no perplexity (above 1)."
        )
    rows.warnings.append(f"the loss is the natural logarithm of the perplexity in column {column!r}")
    return np.log(values)


def product_name(factors: Sequence[Header]) -> str:
    """Return what D is called where it is a product."""
    return " × ".join(one.name for one in factors)


def from_flops(
    C: NDArray[np.float64], other: NDArray[np.float64], key: str, formula: str, rows: Rows
) -> NDArray[np.float64]:
    """Return D from operations and N, or N from operations and D, (n,).

    Raises
    ------
    DataError
        When what comes out is so small that operations cannot be in FLOPs.
    """
    with np.errstate(over="ignore"):
        found = C / (6 * other)
    if (largest := found.max()) < SMALL:
        raise DataError(
            f"{rows.name}: {key} computed as {formula} is at most {largest:.3g}, so that C cannot be in FLOPs.\n"
            f"  Name a column for {key}, or say the unit of C: --columns 'C=NAME (PF-days)' or 'C=NAME (EFLOPs)'."
        )
    rows.warnings.append(f"{key} is computed as {formula}")
    return found


def product_of(values: Mapping[str, NDArray[np.float64]], rows: Rows) -> NDArray[np.float64]:
    """Return 6·N·D, (n,).

    Raises
    ------
    DataError
        When it is no finite number.
    """
    N, D = values["N"], values["D"]
    with np.errstate(over="ignore"):
        product = 6 * N * D
    if len(beyond := np.flatnonzero(~(np.isfinite(product) & (product > 0)))):
        at = beyond[0]
        raise DataError(
            f"{rows.name}, row {rows.row[at]}: N = {N[at]:g} and D = {D[at]:g} cannot be: 6·N·D is {product[at]:g}."
        )
    return product
