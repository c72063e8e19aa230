"""Numbers as people write them: 70M, 1,5 Mrd, 10'000'000, 1.2×10^9, 3.41 ± 0.01. Cells of text in, floats out.

What a point or a comma means is decided for all columns of a table together, by cells that can be read in one way only
(3,4134; 1.234.567): a file has one convention. What stays open is refused, because 70.000 is 70 or seventy thousand.
Rejected: the locale of the machine, which says nothing about the author of a file, and a list of formats to try.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.errors import DataError

__all__ = [
    "MAGNITUDES",
    "MISSING",
    "Cells",
    "Convention",
    "Kind",
    "magnitude",
    "number_of",
    "plain",
    "settle",
    "values_of",
    "words_in",
]


def words_in(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


Kind = Literal["count", "loss", "ratio"]  # how large a number may be: 3,413 tokens, but never 3,413 nats; or unknown

MAGNITUDES = {
    **dict.fromkeys(("k", "thousand", "thousands", "tsd"), 1e3),
    **dict.fromkeys(("m", "mn", "mln", "mio", "million", "millions", "millionen"), 1e6),
    **dict.fromkeys(("b", "bn", "g", "mrd", "md", "mld", "billion", "billions", "milliard", "milliards"), 1e9),
    **dict.fromkeys(("t", "tn", "trn", "trillion", "trillions"), 1e12),
}
PREFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}
PREFIXES |= {"kilo": 1e3, "mega": 1e6, "giga": 1e9, "tera": 1e12, "peta": 1e15, "exa": 1e18, "zetta": 1e21}
DAY = 86_400  # seconds: a petaFLOP/s-day is 8.64e19 FLOPs
COUNTED = r"(?:params?|parameters?|tokens?|toks?)"
MISSING = words_in(
    "nan none null na n/a n.a. #n/a #na #value! #num! #div/0! #zahl! #wert! #nv inf -inf +inf infinity -infinity "
    "- -- --- – — . … ... ? x tbd dnf oom diverged div failed crashed undefined 1.#inf 1.#qnan"
)

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile(r"10\s*([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_POWER = re.compile(r"10\s*(?:\^|\*\*)\s*\{?\s*([+-]?\d{1,3})\s*\}?")
_WRAPS = re.compile(
    r"^(?:\\(?:textbf|mathbf|textit|emph|num|text)\{(.*)\}|\*\*(.*)\*\*|`(.*)`|\$(.*)\$|\"(.*)\"|'(.*)'|=\"(.*)\")$"
)
_CELL = re.compile(
    r"(?P<sign>[+-]?)(?P<body>\d[\d.,' _]*|[.,]\d+)"
    r"(?:[eEdD](?P<e>[+-]?\d{1,3})|\s*(?:[x×*·⋅]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)?\s*\{?(?P<power>[+-]?\d{1,3})\}?)?"
    r"\s*(?P<unit>[a-zA-Z/·.\- ]*)"
)
_GROUPED = {mark: re.compile(rf"\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+") for mark in (",", ".", "'", " ", "_")}


def plain(text: str) -> str:
    """Return a text with plain spaces, digits, minus signs and apostrophes; 10⁹ becomes 10^9."""
    text = _RAISED.sub(lambda found: "10^" + found[1].translate(_SUPERSCRIPT), text)
    text = text.replace("´", "'")  # before NFKC, which makes a blank and an accent of it
    return unicodedata.normalize("NFKC", text).replace("−", "-").replace("’", "'")


def magnitude(unit: str) -> float | None:
    """Return what a unit multiplies by: ``M``, ``billion tokens``, ``10^6``, ``PF-days``; None if unknown."""
    text = re.sub(r"\s+", " ", plain(unit).strip().lower().rstrip(".")).removeprefix("in ")
    if power := re.fullmatch(rf"(?:[x×*·]\s*)?(?:{_POWER.pattern}|1e\+?(\d{{1,3}}))(?: {COUNTED}| flops?)?", text):
        return 10.0 ** int(power[1] or power[2])
    if flops := re.fullmatch(r"([a-z]*?)[ -]?(?:flops?|f)[ /·-]*(s?[ /·-]*days?|s?[ /·-]*hours?|)", text):
        prefix, time = flops[1], flops[2]
        if prefix in PREFIXES or (not prefix and "flop" in text):
            seconds = DAY if "day" in time else 3600 if "hour" in time else 1
            return PREFIXES.get(prefix, 1.0) * seconds
    bare = re.sub(rf"[ -]?(?:of )?{COUNTED}$", "", text)
    if not bare or bare in ("#", "count", "counts", "number"):
        return 1.0
    return MAGNITUDES.get(bare)


class Parsed(NamedTuple):
    """A cell: its digits with at most one mark whose meaning is open, and what they are multiplied by."""

    digits: str
    mark: str  # "" , "." or ",": the only one left in digits
    meaning: str  # of the mark: "decimal", "thousands" or "open"
    other: str  # a mark that was proven to stand between thousands
    scale: float
    has_unit: bool


def parsed(text: str) -> Parsed | None:
    """Read a cell as far as it can be read alone; None where it is no number."""
    text = plain(text).strip()
    while wrapped := _WRAPS.match(text):
        text = next(part for part in wrapped.groups() if part is not None).strip()
    text = text.replace(r"\,", " ").replace("{,}", "_").replace("$", "")
    if power := _POWER.fullmatch(text):
        return Parsed("1", "", "", "", 10.0 ** int(power[1]), True)
    found = _CELL.fullmatch(text)
    if found is None:
        return None
    unit = found["unit"].strip()
    scale = magnitude(unit) if unit else 1.0
    if scale is None:
        return None
    exponent = found["e"] or found["power"]
    if exponent:
        scale *= 10.0 ** int(exponent)
    body, other = found["body"].strip(), ""
    for mark in ("'", "_", " "):
        if mark in body:
            whole = re.match(r"[\d'_ ]+", body)
            if whole is None or other or not _GROUPED[mark].fullmatch(whole[0]) or mark in body[whole.end() :]:
                return None
            body, other = body.replace(mark, ""), mark
    read = _marks(body, certain=bool(other or exponent))
    if read is None:
        return None
    digits, mark, meaning, between = read
    return Parsed(found["sign"] + digits, mark, meaning, between or other, scale, bool(unit))


def _marks(body: str, certain: bool) -> tuple[str, str, str, str] | None:
    """Return digits, the mark left in them, its meaning, and the mark that stood between thousands."""
    marks = [mark for mark in (".", ",") if mark in body]
    if not marks:
        return body, "", "", ""
    if len(marks) == 2:
        last = max(marks, key=body.rfind)
        first = "," if last == "." else "."
        whole, _, rest = body.rpartition(last)
        if last in whole or not rest.isdigit() or not _GROUPED[first].fullmatch(whole):
            return None
        return whole.replace(first, "") + last + rest, last, "decimal", first
    (mark,) = marks
    if body.count(mark) > 1:
        return (body.replace(mark, ""), "", "", mark) if _GROUPED[mark].fullmatch(body) else None
    whole, _, rest = body.partition(mark)
    is_open = not certain and len(rest) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0")
    return body, mark, "open" if is_open else "decimal", ""


@dataclass
class Convention:
    """What points and commas mean in a table, with the cell that proves it."""

    decimal: dict[str, str] = field(default_factory=dict)
    thousands: dict[str, str] = field(default_factory=dict)

    @property
    def point(self) -> str | None:
        """The decimal mark, if any cell proves one."""
        if self.decimal:
            return next(iter(self.decimal))
        return {",": ".", ".": ","}.get(next(iter(self.thousands), ""))

    def learn(self, mark: str, means: str, where: str) -> None:
        """Keep what a cell proves.

        Raises
        ------
        DataError
            When another cell proves the opposite.
        """
        known = self.decimal if means == "decimal" else self.thousands
        known.setdefault(mark, where)
        clash = [
            *(self.decimal.values() if len(self.decimal) > 1 else ()),
            *(self.thousands.values() if len(self.thousands) > 1 else ()),
        ]
        for one in self.decimal.keys() & self.thousands.keys():
            clash += [self.decimal[one], self.thousands[one]]
        if clash:
            raise DataError(
                f"Points and commas mean one thing in {clash[0]} and another in {clash[1]}.\n"
                "  Write all numbers with a decimal point and nothing between thousands."
            )


class Cells:
    """The cells of one column, read as far as they can be read alone.

    Attributes
    ----------
    values
        float64 (n,): the numbers; NaN where there is none, or where the mark is open still.
    is_missing
        bool (n,): empty, NaN, an infinity, or a word for "no result".
    """

    def __init__(self, column: pl.Series, kind: Kind, where: str, has_unit: bool = False):
        self.column, self.kind, self.where = column, kind, where
        self.has_unit = has_unit
        self.open: dict[int, Parsed] = {}
        self.proofs: list[tuple[str, str, str]] = []
        self.scaled: set[int] = set()  # rows whose cell has a unit of its own
        self.spread = 0  # cells with ± and what follows
        n = len(column)
        if column.dtype.is_numeric():
            self.values = column.cast(pl.Float64, strict=False).to_numpy().astype(np.float64).copy()
            self.is_missing = ~np.isfinite(self.values)
            if column.dtype.is_float() and (self.values[~self.is_missing] % 1 != 0).any():
                self.proofs.append((".", "decimal", where))
            return
        self.values, self.is_missing = np.full(n, np.nan), np.zeros(n, bool)
        texts: Iterable[object] = column.to_list() if column.dtype in (pl.String, pl.Null) else [False] * n
        for i, cell in enumerate(texts):
            self._read(i, cell)

    def _read(self, i: int, cell: object) -> None:
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in MISSING | {""}):
            self.is_missing[i] = True
            return
        if not isinstance(cell, str):
            return
        text, where = cell, f"{self.where}, {cell!r}"
        if self.kind != "count" and (spread := re.match(r"^(.*?)\s*(?:±|\+/-|\+-|\\pm)", cell)):
            text = spread[1].strip("$ ")
            self.spread += 1
        one = parsed(text)
        if one is None or (self.kind != "count" and one.has_unit):
            return
        if one.other in (".", ","):
            self.proofs.append((one.other, "thousands", where))
        if one.has_unit:
            self.scaled.add(i)
        if one.meaning == "open":
            self.open[i] = one
            return
        if one.meaning == "decimal":
            self.proofs.append((one.mark, "decimal", where))
        self.values[i] = number_of(one)

    def settle(self, convention: Convention) -> None:
        """Read the cells with an open mark by what the rest of the table says.

        Raises
        ------
        DataError
            When it says nothing, or something that such a column cannot hold.
        """
        for i, one in self.open.items():
            bare = self.kind == "count" and not one.has_unit and not self.has_unit
            means = self._meaning(one, convention.point, bare)
            where = f"{self.where}, {self.column[i]!r}"
            if means is None:
                low, high = one.digits.replace(",", "."), one.digits.replace(",", "").replace(".", "")
                raise DataError(
                    f"{where} may be {low} or {high}: nothing in the table says whether {one.mark!r} is the decimal "
                    f"mark or stands between thousands.\n  Write {high} without it, or {low} with another "
                    "number of decimals."
                )
            convention.learn(one.mark, means, where)
            self.values[i] = number_of(one._replace(meaning=means))

    def _meaning(self, one: Parsed, point: str | None, bare: bool) -> str | None:
        if point is None:
            if one.mark == "." and not bare:
                return "decimal"
            if one.mark == "," and self.kind == "loss":
                return "decimal"
            return "thousands" if one.mark == "," and bare else None
        means = "decimal" if one.mark == point else "thousands"
        absurd = (means == "decimal" and bare) or (means == "thousands" and self.kind == "loss")
        return None if absurd else means


def number_of(one: Parsed) -> float:
    """Return the value of a cell whose mark is no longer open."""
    digits = one.digits.replace(one.mark, "." if one.meaning == "decimal" else "") if one.mark else one.digits
    return float(digits) * one.scale


def settle(columns: Sequence[Cells]) -> Convention:
    """Decide what points and commas mean in columns of one table, and read what was open.

    Raises
    ------
    DataError
        When cells contradict each other, or one can be read in two ways.
    """
    convention = Convention()
    for column in columns:
        for mark, means, where in column.proofs:
            convention.learn(mark, means, where)
    for column in sorted(columns, key=lambda one: one.kind != "loss"):  # what a loss can be decides first
        column.settle(convention)
    return convention


def values_of(column: pl.Series, kind: Kind = "ratio") -> NDArray[np.float64]:
    """Return the numbers of a column that is read alone, (n,); NaN where there is none."""
    cells = Cells(column, kind, repr(column.name))
    settle([cells])
    return cells.values
