"""Cells one by one: what is a number, in which unit, and what its points and commas mean."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import DataError
from kleiber.scaling.numbers import Cells, Convention, magnitude, number_of, parsed, plain, settle, values_of

UNITS = {
    "M": 1e6, "mn": 1e6, "Millionen": 1e6, "k": 1e3, "tsd": 1e3, "B": 1e9, "G": 1e9, "Mrd.": 1e9, "T": 1e12,
    "billion tokens": 1e9, "in M": 1e6, "M params": 1e6, "million of parameters": 1e6, "tokens": 1.0, "#": 1.0,
    "count": 1.0, "": 1.0, "10^6": 1e6, "10⁶": 1e6, "x 10^9 tokens": 1e9, "1e12": 1e12, "1e+03": 1e3,
    "×10^18 FLOPs": 1e18,
    "flops": 1.0, "FLOP": 1.0, "PFLOPs": 1e15, "exaflops": 1e18, "zettaflops": 1e21, "YFLOP": 1e24, "kiloflop": 1e3,
    "megaflops": 1e6, "gigaFLOPs": 1e9, "TFLOP": 1e12, "MF": 1e6, "petaflops": 1e15,
    "PF-days": 8.64e19, "PFLOP/s-days": 8.64e19, "petaflop/s day": 8.64e19, "TFLOPs hours": 3.6e15, "EF": 1e18,
    "GB": None, "f": None, "days": None, "lots": None, "qflops": None, "nats": None,
}  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_units(unit):
    assert magnitude(unit) == UNITS[unit]


NUMBERS = {
    "42": 42, "-3.5": -3.5, "+2": 2, ".5": 0.5, ",5": 0.5, "1e9": 1e9, "1.5E+3": 1500, "2d3": 2000, "1e-3": 1e-3,
    "70M": 7e7, "1,5 Mrd": 1.5e9, "10'000'000": 1e7, "1_000": 1000, "1 000 000": 1e6, "12 345,5": 12345.5,
    "1'234'567.25": 1234567.25, "1,234,567": 1234567, "1.234.567": 1234567, "1,234.5": 1234.5, "1.234,5": 1234.5,
    "1.2×10^9": 1.2e9, "1.2 x 10^{9}": 1.2e9, "3 * 10**-2": 0.03, r"2 \times 10^{3}": 2000, r"2 \cdot 10^3": 2000,
    "10^6": 1e6, "10⁹": 1e9, "10⁻³": 1e-3, "10**{2}": 100, "$70$M": 7e7, "**3.25**": 3.25, "`7`": 7, '"8"': 8,
    r"\textbf{2.5}": 2.5, r"$\mathbf{2.5}$": 2.5, '="9"': 9, "2{,}000": 2000, r"3\,000": 3000, "−4": -4, "1’000": 1000,
    "10´000": 10000,
    "0.125": 0.125, "0,125": 0.125, "1234.567": 1234.567, "12.34": 12.34, "3.141 M": None, "1.234": None,
    "12,345": None,
    "123.456": None, "1.234e3": 1234, "30×10⁹ tokens": 3e10, "5 PF-days": 4.32e20,
}  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers(text):
    """None where a mark before three digits is open."""
    one = parsed(text)
    if NUMBERS[text] is None:
        assert one.meaning == "open"
    else:
        assert number_of(one) == pytest.approx(NUMBERS[text])


@pytest.mark.parametrize(
    "text",
    ["", "x", "1 2", "1'23", "12'34'567", "1,23,456", "1.2.3", "1,234,56", "1.234,567.8", "1.234,5,6", "1,234.x", "70Q",
     "1e", "1_00", "1'000 000", "1'000.5'0", "1e1234", "--1", "1.5.", "12,34.5", "1,2345.6"],
)  # fmt: skip
def test_what_is_no_number(text):
    assert parsed(text) is None


def test_a_number_says_what_it_was_made_of():
    one = parsed("-1.234,5 M")
    assert one == ("-1234,5", ",", "decimal", ".", 1e6, True)
    assert parsed("12 345") == ("12345", "", "", " ", 1.0, False)
    assert parsed("7,000") == ("7,000", ",", "open", "", 1.0, False)
    assert number_of(parsed("7,000")._replace(meaning="thousands")) == 7000
    assert number_of(parsed("7,000")._replace(meaning="decimal")) == 7
    assert parsed("10^3").has_unit
    assert not parsed("1e3").has_unit


def test_plain_text():
    assert plain("10⁻⁹ − ´５’") == "10^-9 - '5'"


def test_a_table_has_one_convention():
    one = Convention()
    assert one.point is None
    one.learn(",", "thousands", "here")
    assert one.point == "."
    one.learn(".", "decimal", "there")
    assert one.point == "."
    one.learn(".", "decimal", "again")
    assert one.decimal == {".": "there"}
    assert Convention(thousands={".": "x"}).point == ","
    assert Convention(thousands={"'": "x"}).point is None
    for mark, means in ((",", "decimal"), (".", "thousands")):
        clash = Convention({".": "A"}, {",": "B"})
        with pytest.raises(DataError, match=r"mean one thing in [AB] and another in"):
            clash.learn(mark, means, "C")


def cells(texts: list[str | None], kind: str = "count", **options) -> Cells:
    return Cells(pl.Series("x", texts, dtype=pl.String), kind, "column 'x'", **options)


def test_cells_without_a_number():
    one = cells(["1", None, " NaN ", "-", "", "oom", "words", "inf"])
    assert one.is_missing.tolist() == [False, True, True, True, True, True, False, True]
    assert np.isnan(one.values).tolist() == [False] + [True] * 7
    numeric = Cells(pl.Series([1.5, None, float("nan"), float("-inf")]), "loss", "here")
    assert numeric.is_missing.tolist() == [False, True, True, True]
    assert numeric.proofs == [(".", "decimal", "here")]
    assert Cells(pl.Series([2.0, 4.0]), "loss", "here").proofs == []
    assert Cells(pl.Series([2, 4]), "loss", "here").values.tolist() == [2.0, 4.0]
    for column in (pl.Series([True, False]), pl.Series([[1], [2]])):
        other = Cells(column, "count", "here")
        assert np.isnan(other.values).all()
        assert not other.is_missing.any()
    assert Cells(pl.Series([None, None]), "count", "here").is_missing.all()


def test_what_follows_a_plus_or_minus_is_left_out_of_losses_alone():
    for text in ("3.25 ± 0.01", "3.25+/-0.01", r"$3.25 \pm 0.01$", "3.25 +-1"):
        one = cells([text, "3.5"], "loss")
        assert one.values.tolist() == [3.25, 3.5]
        assert one.spread == 1
    assert np.isnan(cells(["3 ± 1"]).values).all()


def test_units_are_of_counts():
    one = cells(["70M", "5", "1e9"])
    assert one.values.tolist() == [7e7, 5, 1e9]
    assert one.scaled == {0}
    assert np.isnan(cells(["3.25M"], "loss").values[0])


@pytest.mark.parametrize(
    ("kind", "text", "has_unit", "point", "value"),
    [
        ("count", "7,000", False, None, 7000),
        ("count", "7.000", False, None, None),
        ("count", "7,000", True, None, None),
        ("count", "7.125", True, None, 7.125),
        ("count", "7.125 M", False, None, 7.125e6),
        ("count", "7,125 M", False, None, None),
        ("loss", "3.413", False, None, 3.413),
        ("loss", "3,413", False, None, 3.413),
        ("ratio", "3.413", False, None, 3.413),
        ("ratio", "3,413", False, None, None),
        ("count", "7,000", False, ".", 7000),
        ("count", "7.000", False, ",", 7000),
        ("count", "7.000", False, ".", None),
        ("count", "7,125 M", False, ",", 7.125e6),
        ("count", "7,125 M", False, ".", 7125e6),
        ("ratio", "3,413", False, ".", 3413),
        ("ratio", "3,413", False, ",", 3.413),
        ("loss", "3,413", False, ".", None),
        ("loss", "3.413", False, ".", 3.413),
    ],
)
def test_an_open_mark_is_what_the_table_and_the_column_allow(kind, text, has_unit, point, value):
    """Half a token there is not, nor a loss of thousands; what stays open is refused."""
    one, convention = cells([text], kind, has_unit=has_unit), Convention({point: "A"} if point else {})
    if value is None:
        digits = text.removesuffix(" M").replace(",", ".")
        with pytest.raises(DataError, match=f"may be {digits} or {digits.replace('.', '')}: nothing in the table says"):
            one.settle(convention)
    else:
        one.settle(convention)
        assert one.values.tolist() == pytest.approx([value])


def test_columns_learn_from_each_other():
    counts, losses = cells(["7.000", "12.000"]), cells(["3,4134", "3,5"], "loss")
    assert settle([counts, losses]).point == ","
    assert counts.values.tolist() == [7000, 12000]
    assert losses.values.tolist() == [3.4134, 3.5]
    first = cells(["3,413"], "loss")  # a loss cannot be thousands, so that the count is
    counts = cells(["7.000"])
    settle([counts, first])
    assert (counts.values[0], first.values[0]) == (7000, 3.413)
    grouped = cells(["1.234.567", "1.234"])
    assert settle([grouped]).thousands.keys() == {"."}
    assert grouped.values.tolist() == [1234567, 1234]
    with pytest.raises(DataError, match="mean one thing"):
        settle([cells(["1.234.567"]), cells(["3.4134"], "loss")])


def test_a_column_alone():
    assert values_of(pl.Series("x", ["1.5", None, "3"])).tolist() == pytest.approx([1.5, np.nan, 3], nan_ok=True)
    assert values_of(pl.Series("x", ["7,000"]), "count").tolist() == [7000]
    with pytest.raises(DataError, match="'x', '7,000' may be"):
        values_of(pl.Series("x", ["7,000"]))
