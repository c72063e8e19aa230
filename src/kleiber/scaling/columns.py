"""Which column is what: parameters, data, loss, compute, unique data, standard errors, by their names.

Names are read by `kleiber.scaling.headers`. Where two columns could be meant and their numbers differ, the error lists
them and what to type: which count of parameters, or which evaluation, is not ours to choose.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from kleiber.errors import ConfigError, DataError
from kleiber.scaling.headers import (
    COUNTING,
    OTHER_DATA,
    OWN,
    OWN_NAMES,
    PARAMETERS,
    TOKENS,
    Header,
    header,
    rank,
)
from kleiber.scaling.numbers import values_of, words_in

__all__ = ["QUANTITIES", "choose", "column_named", "is_chart", "missing", "shown", "steps_and_batch"]

QUANTITIES = {
    "N": "parameters",
    "D": "data",
    "loss": "held-out loss",
    "C": "operations",
    "unique": "data before repeats",
    "se": "standard error of the loss",
}
ROW_IS = "A row is one finished run: its parameters, its tokens (or compute) and its held-out loss."
SHOWN = 12  # columns that an error lists

STEPS = {
    "steps": tuple(map(frozenset, (["steps"], ["step"], ["iterations"], ["iters"], ["iteration"], ["updates"]))),
    "batch_tokens": tuple(
        map(
            frozenset,
            (
                ["batch", "size", "tokens"],
                ["batch", "tokens"],
                ["batch", "size", "in", "tokens"],
                ["tokens", "per", "step"],
                ["tokens", "per", "batch"],
            ),
        )
    ),
    "batch": tuple(
        map(
            frozenset,
            (
                ["batch", "size"],
                ["batch"],
                ["gbsz"],
                ["bsz"],
                ["gbs"],
                ["batchsize"],
                ["bs"],
                ["batch", "size", "sequences"],
            ),
        )
    ),
    "length": tuple(
        map(
            frozenset,
            (
                ["seq", "len"],
                ["seqlen"],
                ["sequence", "length"],
                ["seq", "length"],
                ["context", "length"],
                ["block", "size"],
                ["context", "size"],
                ["ctx", "len"],
            ),
        )
    ),
}
SHARES = words_in("device micro accum accumulation grad gradient world gpus gpu nodes devices replicas dp")
MOST_SEQUENCES = 32_768


def column_named(table: pl.DataFrame, asked: str, name: str) -> Header:
    """Find a column that was asked for; ``params (M)`` also names a column ``params``, and says its unit.

    Raises
    ------
    ConfigError
        When there is none.
    """
    if asked in table.columns:
        return header(asked)
    one = header(asked)
    for column in table.columns:
        if one.has_unit and header(column).words == one.words and not header(column).has_unit:
            return one._replace(name=column)
    raise ConfigError(f"{name} has no column {asked!r}; it has {shown(table.columns)}.")


def choose(table: pl.DataFrame, key: str, name: str, warnings: list[str], optional: bool = False) -> Header | None:
    """Find the column of a quantity by its name; None where no column has such a name.

    Parameters
    ----------
    warnings
        Takes what the reader should know of the choice.
    optional
        Do without it where several could be meant, and say so.

    Raises
    ------
    DataError
        When several could be meant, and their numbers differ; lists them and what to type.
    """
    if OWN in table.columns and OWN_NAMES.get(key) in table.columns:
        return header(OWN_NAMES[key])
    ranked: dict[int, list[Header]] = {}
    without: list[Header] = []  # a number: an error will name the first row
    for column in table.columns:
        one = header(column)
        place = rank(key, one) if one.words else None
        if place is not None and _could_be(table[column], key, weak=place >= 3 and key in ("N", "D")):
            ranked.setdefault(place, []).append(one)
        elif place is not None and place < 3 and (key == "loss" or not table[column].is_null().all()):
            without.append(one)
    if not ranked:
        return without[0] if len(without) == 1 else None
    first = ranked[min(ranked)]
    if twice := next((one.name for one in first if f"{one.name}_duplicated_0" in table.columns), None):
        raise DataError(f"{name} has two columns {twice!r}; rename one.")
    if len(first) > 1 and not _same_numbers(table, first):
        if optional:
            warnings.append(f"columns {_names(first)} could all be the {QUANTITIES[key]}: none is used")
            return None
        raise DataError(
            f"{name} has {len(first)} columns that could be {key} ({QUANTITIES[key]}): {_names(first)}.\n"
            f"  Which one counts is yours to say: {to_type(key, [one.name for one in first])}"
        )
    chosen = first[0]
    if key == "N":
        others = [one for place, some in ranked.items() if place < 3 for one in some if one is not chosen]
        others += [header(c) for c in table.columns if _is_part(header(c)) and c != chosen.name]
        if others and not _same_numbers(table, [chosen, *others]):
            warnings.append(
                f"N is column {chosen.name!r}; {_names(others)} count parameters too "
                f"({to_type('N', [one.name for one in others[:1]])} takes another)"
            )
    if key == "loss":
        _say_what_loss(chosen, [one for some in ranked.values() for one in some if one is not chosen], warnings)
    if key == "D" and min(ranked) == 4:
        warnings.append(f"D is counted in {next(w for w in chosen.words if w in OTHER_DATA)} (column {chosen.name!r})")
    return chosen


def _say_what_loss(chosen: Header, others: list[Header], warnings: list[str]) -> None:
    if rank("loss", chosen) == 5:
        warnings.append(
            f"the loss is column {chosen.name!r}, of training: no column holds a held-out one, which laws are about"
        )
    passed = [one for one in others if rank("loss", one) in (2, 3)]
    if passed and rank("loss", chosen) in (0, 1):
        warnings.append(f"the loss is column {chosen.name!r}, which is held out; {_names(passed)} is not used")


def _is_part(one: Header) -> bool:
    return (
        bool(frozenset(one.words) & PARAMETERS)
        and rank("N", one) is None
        and not frozenset(one.words) & (TOKENS | {"per"})
    )


def _could_be(column: pl.Series, key: str, weak: bool = False) -> bool:
    """Whether a column holds numbers at all; for a name that says little, nothing else."""
    if column.dtype.is_numeric():
        return not column.is_null().all()
    if column.dtype not in (pl.String, pl.Null):
        return not weak
    try:
        found = np.isfinite(values_of(column, "ratio" if key in ("loss", "se") else "count"))
    except DataError:
        return True  # numbers, whose marks are open: another error says so
    return bool(found.all() if weak else found.any())


def _same_numbers(table: pl.DataFrame, some: list[Header]) -> bool:
    try:
        first, *others = (values_of(table[one.name], "ratio") * one.scale for one in some)
    except DataError:
        return False
    return all(np.allclose(first, other, rtol=1e-9, equal_nan=True) for other in others)


def steps_and_batch(table: pl.DataFrame, name: str) -> list[Header] | None:
    """Find the columns whose product is D; None where there are none.

    Steps, and a batch in tokens, or in sequences with their length.

    Raises
    ------
    DataError
        When a batch of sequences is so large that it may count tokens.
    """
    found: dict[str, Header] = {}
    for one in map(header, table.columns):
        words = frozenset(one.words) - COUNTING - {"training", "train", "global", "optimizer", "max", "effective"}
        if words & SHARES:
            return None  # of a device, or accumulated: how many there are is not in the table's names
        what = next((what for what, names in STEPS.items() if words in names), None)
        if what and _could_be(table[one.name], "D", weak=True):
            if what in found:
                return None
            found[what] = one
    if {"steps", "batch_tokens"} <= found.keys():
        return [found["steps"], found["batch_tokens"]]
    if not {"steps", "batch", "length"} <= found.keys():
        return None
    if np.nanmax(values_of(table[found["batch"].name], "count")) >= MOST_SEQUENCES:
        raise DataError(
            f"{name}, column {found['batch'].name!r}: a batch this large may count tokens or sequences.\n"
            "  Add a column tokens: steps × batch (in tokens), or steps × batch × length (in sequences)."
        )
    return [found["steps"], found["batch"], found["length"]]


def to_type(key: str, names: Iterable[str]) -> str:
    """Return the options to type for each of some columns."""
    return " or ".join(f"--columns {shlex.quote(f'{key}={name}')}" for name in names)


def missing(table: pl.DataFrame, key: str, name: str, chosen: Mapping[str, str]) -> DataError:
    """Return the error that says that a quantity has no column, and which ones could be it."""
    lines = [f"{name} has no column for {key} ({QUANTITIES[key]}); it has {shown(table.columns)}.", f"  {ROW_IS}"]
    if is_chart(table.columns) or {"step", "value"} <= {c.lower() for c in table.columns}:
        lines.append("  This looks like the chart of one metric over steps: export the table of runs instead.")
        return DataError("\n".join(lines))
    free = [c for c in table.columns if c not in chosen.values() and c and _could_be(table[c], key)]
    parts = [c for c in free if key == "N" and (_is_part(header(c)) or rank("N", header(c)) is not None)]
    known = "".join(f"{k}={v}," for k, v in chosen.items())
    typed = [f"--columns {shlex.quote(f'{known}{key}={one}')}" for one in (parts or free or ["NAME"])[:6]]
    lines.insert(1, f"  If one of them is it, say so: {' or '.join(typed)}.")
    if key == "D":
        lines.append("  D can also come from compute (C / 6N), or from steps × batch_size × seq_len.")
    return DataError("\n".join(lines))


def is_chart(columns: Iterable[str]) -> bool:
    """Whether columns are those of a chart's export: one metric of many runs over steps."""
    curves = [c.rpartition(" - ")[2] for c in columns if " - " in c]
    return any(c.endswith(("__MIN", "__MAX")) for c in columns) or (len(curves) > 1 and len(set(curves)) == 1)


def shown(columns: Iterable[str]) -> str:
    """Return names of columns, the first dozen of many."""
    names = [c if c else "(one without a name)" for c in columns]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _names(some: Iterable[Header]) -> str:
    return ", ".join(repr(one.name) for one in some)
