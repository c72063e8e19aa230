"""Which rows of a table are runs that count: what is empty, unfinished, diverged, a copy or not the best of a sweep.

Every row that goes is counted in a warning; rows keep the number that they have in the file. A wide table, one with a
column for each amount of data, becomes one row a cell here. Rejected: to refuse all tables that are not clean, since
almost none is, and to clean in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.scaling.columns import shown
from kleiber.scaling.headers import HELD_OUT, TRAINING, Header, header, is_loss, rank
from kleiber.scaling.numbers import MISSING, Cells, magnitude, parsed, words_in

__all__ = ["Rows", "as_text", "truth"]

ONE_KIND = ("tokenizer", "tokeniser", "eval_set", "evaluation_set", "dataset", "corpus", "split", "phase", "metric")
FINISHED = words_in("finished completed complete done success succeeded successful ok converged final finish")
UNFINISHED = words_in(
    "crashed failed running killed preempted preempting timeout timed_out cancelled canceled pending queued aborted "
    "interrupted diverged error oom out_of_memory node_fail incomplete stopped nan active scheduled"
)
SETTINGS = words_in(
    "lr eta bs gbsz bsz wd warmup beta beta1 beta2 momentum dropout optimizer optim eps epsilon clip decay"
)
BATCH = words_in("batch bs gbsz bsz")
WIDE = 0.01  # of a cell's D, where batches were tried: whole steps of another batch are the same amount of data
HEADER_NUMBER = re.compile(r"(?<![\w.])(\d[\d_.]*(?:[eE][+-]?\d+)?\s*(?:[kKmMbBtTgG]n?)?)(?![\w.])")
LEAST_FLOPS, MOST_TOKENS = 1e15, 3e11  # from there on a bare number in a header is operations; up to there, data
LEAST_AMOUNT = 1e5  # parameters, tokens or operations in a header: 2021 is a year
ROW = "\0row"
YES, NO = ["true", "1", "yes", "y", "wahr", "vrai"], ["false", "0", "no", "n", "falsch", "faux"]


@dataclass
class Rows:
    """The rows of a table that count so far.

    Attributes
    ----------
    table
        What is left of it.
    row
        int64 (n,): which row of the file each is, from 1.
    name
        What errors call the table.
    warnings
        What was left out, and why.
    scale
        What a row of units below the header multiplies a column by.
    """

    table: pl.DataFrame
    row: NDArray[np.int64]
    name: str
    warnings: list[str]
    scale: dict[str, float]

    @classmethod
    def of(cls, table: pl.DataFrame, name: str) -> Rows:
        """Take all rows but empty ones, repeated headers, and a row of units."""
        rows = cls(table, np.arange(1, len(table) + 1), name, [], {})
        rows._drop_empty()
        rows._drop_headers()
        rows._take_units()
        rows._drop_copies()
        return rows

    def keep(self, mask: NDArray[np.bool_], why: str = "") -> None:
        """Leave out rows where `mask`, (n,), is false, and say why.

        In the text ``{n}`` is how many went, ``{of}`` of how many, and ``{rows}`` which.
        """
        if mask.all():
            return
        if why:
            gone = np.unique(self.row[~mask])
            named = ", ".join(map(str, gone[:10])) + (", …" if len(gone) > 10 else "")
            n = f"{int((~mask).sum())} {'row' if (~mask).sum() == 1 else 'rows'}"
            which = f"row{'s' if len(gone) > 1 else ''} {named}"
            self.warnings.append(why.replace("{n}", n).replace("{of}", str(len(mask))).replace("{rows}", which))
        self.table, self.row = self.table.filter(pl.Series(mask)), self.row[mask]

    def _drop_empty(self) -> None:
        if self.table.width:
            blank = [
                (column.is_null() | (column.str.strip_chars() == "") if column.dtype == pl.String else column.is_null())
                for column in self.table
            ]
            self.keep(
                ~np.all([one.fill_null(True).to_numpy() for one in blank], axis=0), "{n} without any value left out"
            )

    def _drop_headers(self) -> None:
        text = [c for c in self.table.columns if self.table[c].dtype == pl.String]
        if len(text) > 1:
            same = np.all([(self.table[c].str.strip_chars() == c).fill_null(False).to_numpy() for c in text], axis=0)
            self.keep(~same, "{n} repeating the header: left out ({rows})")

    def _take_units(self) -> None:
        """Take the units in a first row in which no cell is a number, where the second row has some."""
        if len(self.table) < 2 or any(self.table[c].dtype != pl.String for c in self.table.columns if _counts(c)):
            return
        first = {c: self.table[c][0] for c in self.table.columns if _counts(c)}
        if not first or any(cell is not None and parsed(cell) is not None for cell in first.values()):
            return
        if not any(isinstance(self.table[c][1], str) and parsed(self.table[c][1]) for c in first):
            return
        units = {
            c: cell.strip("()[] ")
            for c, cell in first.items()
            if cell is not None and cell.strip().lower() not in MISSING
        }
        if not units:
            return
        for column, unit in units.items():
            words = set(re.findall(r"[a-z]+", unit.lower()))
            if is_loss(header(column)):
                if words & {"bits", "bit"} and is_loss(header(column)) == "nats":
                    raise DataError(
                        f"{self.name}, row {self.row[0]}: the unit of {column!r} is {unit!r}, and the name says nats.\n"
                        f"  Call the column '{column} (bits)' and remove the row of units."
                    )
                known: float | None = (
                    1.0 if words <= {"nats", "nat", "token", "per", "bits", "bit", "byte", "base"} else None
                )
            else:
                known = magnitude(unit)
            if known is None:
                raise DataError(
                    f"{self.name}, row {self.row[0]}, column {column!r}: {unit!r} is no positive number, and no unit.\n"
                    "  Write units into the header, as in 'params (M)', and remove the row."
                )
            self.scale[column] = known
        self.warnings.append(
            f"row {self.row[0]} is read as units: {', '.join(f'{c} in {u}' for c, u in units.items())}"
        )
        self.table, self.row = self.table[1:], self.row[1:]

    def _drop_copies(self) -> None:
        columns = [c for c in self.table.columns if not _is_index(self.table[c])]
        if not columns or not len(self.table):
            return
        comparable = self.table.select(
            pl.col(c).cast(pl.String) if self.table[c].dtype.is_float() else pl.col(c) for c in columns
        )
        first = comparable.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
        if not first.all():
            at = int(np.flatnonzero(~first)[0])
            seen = comparable.rows().index(comparable.row(at))
            self.keep(
                first,
                f"{{n}} of {{of}} repeat another in every column and are left out: a copy is no new measurement "
                f"(row {self.row[at]} repeats row {self.row[seen]}; in all {{rows}})",
            )

    def keep_finished(self) -> None:
        """Leave out runs that a column of states says did not finish.

        Raises
        ------
        DataError
            When none has.
        """
        for column in self.table.columns:
            words = set(header(column).words)
            if words & {"state", "status"} and len(words) <= 2:
                text = (
                    as_text(self.table[column], self.name)
                    .str.strip_chars()
                    .str.to_lowercase()
                    .str.replace_all(r"[ -]", "_")
                )
                going = text.is_in(list(UNFINISHED)).fill_null(False).to_numpy()
                if len(going) and going.all():
                    raise DataError(
                        f"{self.name}: no run has finished, says column {column!r} ({', '.join(sorted(set(text)))}).\n"
                        "  Remove the column if they have."
                    )
                if going.any():
                    kinds = ", ".join(sorted(set(text.filter(pl.Series(going)).to_list())))
                    self.keep(~going, f"{{n}} left out that did not finish ({column}: {kinds})")
            elif words in ({"diverged"}, {"crashed"}, {"failed"}, {"is", "diverged"}, {"finished"}, {"completed"}):
                bad = _said(self.table[column], YES if not words & {"finished", "completed"} else NO)
                if bad is None:
                    continue
                self.keep(~bad, f"{{n}} left out by column {column}: not finished, or diverged")

    def refuse_mixtures(self) -> None:
        """Refuse losses of several tokenizers, evaluation sets or corpora.

        Raises
        ------
        DataError
            With the option that fits one of them.
        """
        for column in self.table.columns:
            if "_".join(header(column).words) not in ONE_KIND:
                continue
            kinds = as_text(self.table[column], self.name).to_list()
            if len(set(kinds)) > 1:
                other = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
                one = next((kind for kind in kinds if not set(header(str(kind)).words) & TRAINING), kinds[0])
                raise DataError(
                    f"{self.name}, row {self.row[other]}, column {column!r}: {kinds[other]!r}, and {kinds[0]!r} in row "
                    f"{self.row[0]}.\n"
                    f"  Losses of different kinds do not share a law. Fit one kind: --where {column}={one}."
                )

    def best_of_sweeps(
        self,
        group: Sequence[NDArray[np.float64]],
        D: NDArray[np.float64],
        loss: NDArray[np.float64],
        used: Sequence[str],
    ) -> NDArray[np.bool_]:
        """Keep the best setting of each cell, where learning rates, batches and the like were tried; (n,).

        Parameters
        ----------
        group
            What a cell has in common beside D: N, and unique data, (n,) each.
        used
            Columns that are quantities and no settings.
        """
        keep = np.ones(len(loss), bool)
        tried = [c for c in self.table.columns if c not in used and _is_setting(header(c))]
        if not tried:
            return keep
        batches = any(set(header(c).words) & BATCH and self.table[c].n_unique() > 1 for c in tried)
        cell = _cells(np.stack([*group, D]), WIDE if batches else 0.0)
        settings = ["\t".join(map(str, row)) for row in self.table.select(tried).rows()]
        setting = np.unique(np.array(settings), return_inverse=True)[1]
        varied: set[str] = set()
        swept = 0
        for one in np.unique(cell):
            at = np.flatnonzero(cell == one)
            if len(kinds := np.unique(setting[at])) > 1:
                best = kinds[int(np.argmin([loss[at[setting[at] == kind]].mean() for kind in kinds]))]
                keep[at] = setting[at] == best
                varied |= {c for c in tried if self.table[c][at.tolist()].n_unique() > 1}
                swept += 1
        if swept:
            self.keep(
                keep,
                f"{' and '.join(sorted(varied))} var{'y' if len(varied) > 1 else 'ies'} between rows of one N and D: "
                f"the best of each of {swept} cells counts, {{n}} of {{of}} left out (the least of noisy losses is "
                "a little low)",
            )
        return keep

    def lengthen(self) -> dict[str, str]:
        """Turn a wide table into one row a cell.

        Returns its new columns by quantity, or nothing where it is not wide.

        Raises
        ------
        DataError
            When the header's numbers may be data or operations.
        """
        columns = self.table.columns
        if any(rank("loss", header(c)) is not None and not _numbers_in(c) for c in columns):
            return {}
        known = {key for key in ("N", "D") for c in columns if rank(key, header(c)) is not None and not _numbers_in(c)}
        wide = {c: found for c in columns if (found := _numbers_in(c)) is not None and self._is_losses(c)}
        groups = {label for _, _, label in wide.values()}
        if len(groups) > 1:  # a training loss and an evaluation's for each amount of data
            held = {g for g in groups if set(g) & HELD_OUT}
            groups = held if len(held) == 1 else {g for g in groups if not set(g) & TRAINING}
            wide = {c: one for c, one in wide.items() if one[2] in groups}
        if len(wide) < 2 or len(known) != 1 or len(groups) != 1:
            return {}
        key = _key_of_header(
            list(wide), {kind for _, kind, _ in wide.values()}, [n for n, _, _ in wide.values()], known
        )
        if key is None or key in known:
            raise DataError(
                f"{self.name} is a wide table (columns {shown(wide)}), and its header does not say whether these are "
                "tokens or operations.\n  Make a long table of it, in which a row is one run: N, D, loss."
            )
        new = {key: f"{key} of the header", "loss": "loss of the cells"}
        kept = [c for c in columns if c not in wide]
        text = self.table.with_columns(pl.col(list(wide)).cast(pl.String), pl.Series(ROW, self.row))
        long = text.unpivot(list(wide), index=[*kept, ROW], variable_name=new[key], value_name=new["loss"])
        long = long.sort(ROW, maintain_order=True)
        self.row = long[ROW].to_numpy()
        amounts = {c: number for c, (number, _, _) in wide.items()}
        self.table = long.drop(ROW).with_columns(pl.col(new[key]).replace_strict(amounts, return_dtype=pl.Float64))
        self.warnings.append(
            f"a wide table: each cell below {shown(wide)} is read as the loss of one run, and {key} from the header"
        )
        return new

    def _is_losses(self, column: str) -> bool:
        cells = Cells(self.table[column], "loss", column)
        read = cells.is_missing | np.isfinite(cells.values)
        read[list(cells.open)] = True
        return bool(read.all()) and not bool(cells.is_missing.all())


def _counts(column: str) -> bool:
    one = header(column)
    return any(rank(key, one) is not None for key in ("N", "D", "loss", "C"))


def _is_index(column: pl.Series) -> bool:
    name = column.name.strip().lower()
    return name in ("", "index", "row") or name.startswith("unnamed:") or (name == "id" and column.dtype.is_integer())


def _is_setting(one: Header) -> bool:
    words = set(one.words)
    if words & {"seed", "loss", "tokens", "size_in_tokens"}:
        return False
    return bool(words & SETTINGS) or {"learning", "rate"} <= words or "batch" in words


def _cells(points: NDArray[np.float64], near: float) -> NDArray[np.int64]:
    """Number the distinct columns of `points`, (k, n); values of its last row within a share `near` are one."""
    cell = np.zeros(points.shape[1], np.int64)
    begin, number = np.full(len(points), np.nan), -1
    for i in np.lexsort(points[::-1]):
        if (points[:-1, i] != begin[:-1]).any() or not points[-1, i] <= begin[-1] * (1 + near):
            begin, number = points[:, i], number + 1
        cell[i] = number
    return cell


def _key_of_header(columns: list[str], kinds: set[str], numbers: list[float], known: set[str]) -> str | None:
    """Return what the numbers of a wide table's header are; None if that cannot be told."""
    if len(kinds) != 1 or len(set(numbers)) < len(numbers):
        return None
    (said,) = kinds
    if said or known == {"D"}:
        return said or "N"
    if min(numbers) >= LEAST_FLOPS:
        return "C"
    has_letters = all(re.search(r"\d\s*[kKmMbBtTgG]n?\b", c) for c in columns)
    return "D" if has_letters or max(numbers) <= MOST_TOKENS else None


def _numbers_in(column: str) -> tuple[float, str, tuple[str, ...]] | None:
    """Return the amount that a column's name says, of what (N, D, C or unsaid), and the other words of the name."""
    found = HEADER_NUMBER.findall(re.sub(r"[@=_]", " ", column))
    if len(found) != 1:
        return None
    cell = parsed(found[0])
    if cell is None or cell.meaning == "open":
        return None
    number = float(cell.digits.replace(",", ".")) * cell.scale
    words = re.findall(r"[a-z]+", re.sub(r"[@=_]", " ", column).replace(found[0], " ").lower())
    said = {
        "N": {"params", "parameters", "param", "n"},
        "D": {"tokens", "token", "tok", "d"},
        "C": {"flops", "flop", "c", "compute"},
    }
    kinds = [key for key, names in said.items() if set(words) & names]
    rest = tuple(w for w in words if not any(w in names for names in said.values()) and w not in ("at", "loss", "for"))
    if len(kinds) > 1 or set(rest) - HELD_OUT - TRAINING or number < LEAST_AMOUNT:
        return None
    return number, kinds[0] if kinds else "", rest


def _said(column: pl.Series, words: list[str]) -> NDArray[np.bool_] | None:
    """Return where a column of true and false says one of some words, (n,); None if it is no such column."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        return None
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    is_truth = text.is_null() | text.is_in(YES + NO)
    return text.is_in(words).fill_null(False).to_numpy() if is_truth.all() else None


def as_text(column: pl.Series, name: str) -> pl.Series:
    """Return a column as text.

    Raises
    ------
    DataError
        When it holds lists or the like.
    """
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise DataError(f"{name}, column {column.name!r}: it holds {column.dtype}, and text or numbers are read.")
    return column.cast(pl.String)


def truth(column: pl.Series, row: NDArray[np.int64], name: str) -> NDArray[np.bool_]:
    """Return a column of true and false, which people spell in several ways, (n,).

    Raises
    ------
    DataError
        When a cell is neither; names the first by `row`, (n,).
    """
    text = as_text(column, name).str.strip_chars().str.to_lowercase()
    bad = np.flatnonzero(~text.is_in(YES + NO).fill_null(False).to_numpy())
    if len(bad):
        raise DataError(
            f"{name}, row {row[bad[0]]}, column {column.name!r}: {column[int(bad[0])]!r} is no truth value."
        )
    return text.is_in(YES).to_numpy()
