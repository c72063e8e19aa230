"""Which rows count, one rule at a time: what goes, what stays, and what is said of it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kleiber.errors import DataError
from kleiber.scaling.runs import Rows, _cells, _numbers_in, as_text, truth

LOSSES = [3.0, 2.9, 2.8, 2.7]
BASE = {"params": [1e7, 1e7, 2e7, 2e7], "tokens": [1e9, 2e9, 1e9, 2e9], "loss": LOSSES}


def rows(columns: dict[str, list], name: str = "table") -> Rows:
    return Rows.of(pl.DataFrame(columns, strict=False), name)


def best(columns: dict[str, list], used=("params", "tokens", "loss")) -> tuple[list[int], list[str]]:
    """Return the numbers of the rows that are the best of their cells, and what is said."""
    made = rows(columns)
    values = [made.table[c].to_numpy().astype(float) for c in ("params", "tokens", "loss")]
    kept = made.best_of_sweeps(values[:1], *values[1:], used)
    assert kept.sum() == len(made.table)
    return made.row.tolist(), made.warnings


def test_rows_that_go_are_counted_and_named():
    made = rows({"a": list(range(14))})
    made.keep(np.ones(14, bool), "{n} gone")
    assert made.warnings == []
    made.keep(np.arange(14) != 4, "{n} of {of}: {rows}")
    made.keep(np.arange(13) != 0)
    assert made.warnings == ["1 row of 14: row 5"]
    made.keep(np.arange(12) < 2, "{n} of {of}: {rows}")
    assert made.warnings[1:] == ["10 rows of 12: rows 4, 6, 7, 8, 9, 10, 11, 12, 13, 14"]
    assert made.row.tolist() == [2, 3]
    assert made.table["a"].to_list() == [1, 2]
    more = rows({"a": list(range(14))})
    more.keep(np.arange(14) > 10, "{rows}")
    assert more.warnings == ["rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"]


def test_empty_rows_and_repeated_headers():
    made = rows({"N": ["1", " ", None, "N ", "2"], "D": ["1", "", None, " D", "4"]})
    assert made.row.tolist() == [1, 5]
    assert made.warnings == ["2 rows without any value left out", "1 row repeating the header: left out (row 4)"]
    numbers = rows({"N": [1, None, 3], "D": [1.5, None, None]})
    assert numbers.row.tolist() == [1, 3]
    assert len(rows({"run": ["a", "run"], "N": [1, 2]}).table) == 2  # a name may be the column's
    half = rows({"run": ["a", "run"], "N": ["1", None]})
    assert half.row.tolist() == [1, 2]
    assert len(Rows.of(pl.DataFrame(), "nothing").table) == 0
    assert len(rows({"N": [], "loss": []}).table) == 0


UNITS = {"params": ["(M)", "1", "2"], "tokens": ["[B]", "1", "2"], "loss": ["nats/token", "3.1", "3.0"], "run": "xyz"}


def test_a_row_of_units():
    made = rows({key: list(cells) for key, cells in UNITS.items()})
    assert made.scale == {"params": 1e6, "tokens": 1e9, "loss": 1.0}
    assert made.row.tolist() == [2, 3]
    assert made.warnings == ["row 1 is read as units: params in M, tokens in B, loss in nats/token"]
    part = rows({**UNITS, "run": list("xyz"), "tokens": [None, "1", "2"], "loss": ["-", "3", "4"]})
    assert part.scale == {"params": 1e6}


@pytest.mark.parametrize(
    "change",
    [
        {"params": ["7", "1", "2"]},  # the first row has a number
        {"params": [1, 2, 3], "tokens": [1, 2, 3], "loss": [3, 2, 1]},
        {"params": ["(M)", "x", "2"], "tokens": ["[B]", None, "2"], "loss": ["nats", "?", "1"]},  # and the second none
        {"params": ["-", "1", "2"], "tokens": ["-", "1", "2"], "loss": ["nan", "1", "2"]},
    ],
)
def test_other_first_rows_are_no_units(change):
    made = rows({**UNITS, "run": list("xyz"), **change})
    assert made.scale == {}
    assert made.row.tolist() == [1, 2, 3]


def test_units_of_a_row_alone_and_of_no_quantity():
    assert rows({"params": ["M"], "tokens": ["B"], "loss": ["nats"]}).scale == {}
    assert rows({"a": ["M", "1"], "b": ["B", "2"]}).scale == {}


@pytest.mark.parametrize(
    ("column", "unit", "message"),
    [
        ("loss (nats)", "bits", r"row 1: the unit of 'loss \(nats\)' is 'bits', and the name says nats"),
        ("loss", "stones", "row 1, column 'loss': 'stones' is no positive number, and no unit"),
        ("params", "stones", "row 1, column 'params': 'stones' is no positive number"),
    ],
)
def test_units_that_cannot_be(column, unit, message):
    with pytest.raises(DataError, match=message):
        rows({"tokens": ["B", "1"], column: [unit, "2"]})


def test_copies_are_the_same_in_every_column_but_a_counter():
    made = rows({**{k: [*v, v[1], v[1]] for k, v in BASE.items()}, "": list(range(6))})
    assert made.row.tolist() == [1, 2, 3, 4]
    assert made.warnings == [
        "2 rows of 6 repeat another in every column and are left out: a copy is no new measurement "
        "(row 5 repeats row 2; in all rows 5, 6)"
    ]
    for name, counts in (("index", True), ("Unnamed: 0", True), ("row", True), ("id", True), ("seed", False)):
        found = rows({**{k: [*v, v[1]] for k, v in BASE.items()}, name: list(range(5))})
        assert len(found.table) == (4 if counts else 5), name
    named = rows({**{k: [*v, v[1]] for k, v in BASE.items()}, "id": list("abcde")})
    assert len(named.table) == 5
    unknown = rows({"loss": [float("nan"), float("nan"), 1.0], "N": [1, 1, 1]})
    assert unknown.row.tolist() == [1, 3]
    assert len(rows({"index": [1, 1]}).table) == 2


@pytest.mark.parametrize(
    ("column", "cells", "kept"),
    [
        ("state", ["finished", "Crashed", "timed out", "done"], [1, 4]),
        ("run_status", ["ok", "node-fail", "ok", None], [1, 3, 4]),
        ("final_run_state", ["ok", "failed", "ok", "ok"], [1, 2, 3, 4]),  # three words are another thing
        ("diverged", [False, True, None, False], [1, 3, 4]),
        ("is_diverged", ["no", "yes", "No ", "Y"], [1, 3]),
        ("finished", [1, 0, 1, 1], [1, 3, 4]),
        ("completed", ["true", "false", "true", "falsch"], [1, 3]),
        ("crashed", ["false", "maybe", "true", "false"], [1, 2, 3, 4]),  # not a column of truths
        ("crashes", [0, 1, 0, 0], [1, 2, 3, 4]),
    ],
)
def test_runs_that_did_not_finish(column, cells, kept):
    made = rows({**BASE, column: cells})
    made.keep_finished()
    assert made.row.tolist() == kept
    assert len(made.warnings) == (len(kept) < 4)
    if made.warnings:
        assert made.warnings[0].startswith(f"{4 - len(kept)} row")
        assert column in made.warnings[0]


def test_where_nothing_has_finished():
    with pytest.raises(DataError, match=r"no run has finished, says column 'state' \(crashed, running\)"):
        rows({**BASE, "state": ["running", "crashed"] * 2}).keep_finished()
    nothing = rows({"loss": pl.Series([], dtype=pl.Float64), "state": pl.Series([], dtype=pl.String)})
    nothing.keep_finished()
    with pytest.raises(DataError, match=r"'state': it holds List"):
        rows({**BASE, "state": [["a"]] * 4}).keep_finished()
    nested = rows({**BASE, "diverged": [[True]] * 4})
    nested.keep_finished()
    assert len(nested.table) == 4


def test_losses_of_several_kinds():
    rows({**BASE, "tokenizer": ["bpe"] * 4, "note": list("abcd")}).refuse_mixtures()
    with pytest.raises(DataError, match=r"row 3, column 'split': 'val', and 'train' in row 1(.|\n)*--where split=val"):
        rows({**BASE, "split": ["train", "train", "val", "val"]}).refuse_mixtures()
    with pytest.raises(DataError, match=r"--where corpus=a\."):
        rows({**BASE, "corpus": ["a", "b", "c", "a"]}).refuse_mixtures()


def test_without_a_setting_every_row_counts():
    assert best({**BASE, "seed": [0, 1, 0, 1]}) == ([1, 2, 3, 4], [])
    assert best({**BASE, "lr": [1e-3, 2e-3, 3e-3, 4e-3]}) == ([1, 2, 3, 4], [])  # one of each in its cell


SWEEP = {"params": [1e7] * 6, "tokens": [1e9] * 6, "loss": [3.0, 2.9, 3.1, 2.91, 2.95, 2.99]}


def test_the_best_setting_of_a_cell_by_its_mean():
    found, said = best({**SWEEP, "lr": [1, 2, 3, 1, 2, 3]})
    assert found == [2, 5]
    assert said == [
        "lr varies between rows of one N and D: the best of each of 1 cells counts, 4 rows of 6 left out "
        "(the least of noisy losses is a little low)"
    ]
    both, said = best({**SWEEP, "lr": [1, 2, 1, 2, 1, 2], "weight_decay": [0, 0, 0, 0, 0, 1]})
    assert both == [2, 4]
    assert said[0].startswith("lr and weight_decay vary between")
    _, said = best({**SWEEP, "lr": [1, 2, 1, 2, 1, 2], "warmup": [5] * 6})
    assert said[0].startswith("lr varies between")


@pytest.mark.parametrize(
    ("name", "is_setting"),
    [
        ("lr", True), ("learning_rate", True), ("peak_learning_rate", True), ("batch_size", True), ("beta2", True),
        ("optimizer", True), ("seed", False), ("learning", False), ("batch_size_in_tokens", False), ("note", False),
        ("lr_seed", False), ("rate", False), ("batch_loss", False),
    ],
)  # fmt: skip
def test_what_a_setting_is(name, is_setting):
    found, _ = best({**SWEEP, name: [1, 2, 3, 4, 5, 6]})
    assert found == ([2] if is_setting else [1, 2, 3, 4, 5, 6])


def test_columns_that_are_quantities_are_no_settings():
    assert best({**SWEEP, "batch": [1, 2, 3, 4, 5, 6]}, ("params", "tokens", "loss", "batch"))[0] == [1, 2, 3, 4, 5, 6]


def test_whole_steps_of_another_batch_are_the_same_amount():
    """Within a hundredth, where batches were tried."""
    near = {**SWEEP, "tokens": [1e9, 1.009e9, 1.02e9, 1.0e9, 1.009e9, 1.02e9]}
    assert best({**near, "batch_size": [8, 16, 32, 8, 16, 32]})[0] == [2, 3, 5, 6]
    assert best({**near, "lr": [8, 16, 32, 8, 16, 32]})[0] == [1, 2, 3, 4, 5, 6]
    assert best({**near, "batch_size": [8] * 6, "lr": [1, 2, 3, 1, 2, 3]})[0] == [1, 2, 3, 4, 5, 6]


def test_cells_begin_at_their_least_amount():
    points = np.array([[2, 1, 1, 1, 1, 2], [1.02, 1.0, 1.01, 1.0201, 1.0101, 1.0]])
    assert _cells(points, 0.01).tolist() == [3, 0, 0, 1, 1, 2]
    assert _cells(points, 0.0).tolist() == [5, 0, 1, 3, 2, 4]
    three = np.array([[1.0, 1.0, 2.0], [5.0, 6.0, 5.0], [1.0, 1.0, 1.0]])
    assert _cells(three, 0.0).tolist() == [0, 1, 2]


WIDE = {"params": [1e7, 1e8], "1B tokens": [3.0, 2.9], "2B tokens": [2.8, 2.7]}


def test_a_wide_table_becomes_a_row_a_cell():
    made = rows({**WIDE, "run": ["a", "b"]})
    assert made.lengthen() == {"D": "D of the header", "loss": "loss of the cells"}
    assert made.row.tolist() == [1, 1, 2, 2]
    assert made.table["params"].to_list() == [1e7, 1e7, 1e8, 1e8]
    assert made.table["run"].to_list() == ["a", "a", "b", "b"]
    assert made.table["D of the header"].to_list() == [1e9, 2e9, 1e9, 2e9]
    assert [float(x) for x in made.table["loss of the cells"]] == [3.0, 2.8, 2.9, 2.7]
    assert "is read as the loss of one run, and D from the header" in made.warnings[0]


@pytest.mark.parametrize(
    ("header", "numbers", "key"),
    [
        ("params", ("1B", "2B"), "D"),
        ("params", ("1e9", "2e9"), "D"),
        ("params", ("1e11", "3e11"), "D"),
        ("params", ("1e15", "1e16"), "C"),
        ("params", ("1e18 flops", "1e19 flops"), "C"),
        ("params", ("1T", "2T"), "D"),
        ("tokens", ("10M", "20M"), "N"),
        ("tokens", ("n=1e7", "n=2e7"), "N"),
        ("params", ("1B loss", "2B loss"), "D"),
        ("params", ("loss@1B", "loss@2B"), "D"),
    ],
)
def test_what_the_numbers_of_a_header_are(header, numbers, key):
    made = rows({header: [1e7, 1e8], **{name: [3.0, 2.9] for name in numbers}})
    assert made.lengthen() == {key: f"{key} of the header", "loss": "loss of the cells"}


@pytest.mark.parametrize("numbers", [("1e9", "4e11"), ("4e11", "1e15"), ("1e9 tokens", "2e9 params"), ("1B", "1000M")])
def test_headers_whose_numbers_cannot_be_told(numbers):
    with pytest.raises(DataError, match="its header does not say whether"):
        rows({"params": [1e7, 1e8], **{name: [3.0, 2.9] for name in numbers}}).lengthen()
    with pytest.raises(DataError, match="does not say whether"):  # D is there twice
        rows({"tokens": [1e9, 2e9], "1B tokens": [3.0, 2.9], "2B tokens": [2.9, 2.8]}).lengthen()


@pytest.mark.parametrize(
    "columns",
    [
        {"params": [1e7, 1e8], "1B": [3.0, 2.9]},  # one column is no wide table
        {"params": [1e7, 1e8], "loss": [3.0, 2.9], "1B": [3.0, 2.9], "2B": [3.0, 2.9]},
        {"run": ["a", "b"], "1B": [3.0, 2.9], "2B": [2.8, 2.7]},  # neither N nor D
        {"params": [1e7, 1e8], "tokens": [1e9, 1e9], "1B": [3.0, 2.9], "2B": [2.8, 2.7]},
        {"params": [1e7, 1e8], "2021": [3.0, 2.9], "2022": [2.8, 2.7]},  # years
        {"params": [1e7, 1e8], "1B": ["a", "b"], "2B": ["c", "d"]},
        {"params": [1e7, 1e8], "1B": [None, None], "2B": [2.8, 2.7]},
    ],
)
def test_other_tables_stay_as_they_are(columns):
    made = rows(columns)
    assert made.lengthen() == {}
    assert made.table.columns == list(columns)


def test_held_out_losses_go_before_those_of_training():
    made = rows({"params": [1e7], "train 1B": [3.0], "train 2B": [2.9], "val 1B": [3.1], "val 2B": [3.0]})
    assert made.lengthen()["loss"] == "loss of the cells"
    assert [float(x) for x in made.table["loss of the cells"]] == [3.1, 3.0]
    plain = rows({"params": [1e7], "train 1B": [3.0], "train 2B": [2.9], "1B": [3.1], "2B": [3.0]})
    plain.lengthen()
    assert [float(x) for x in plain.table["loss of the cells"]] == [3.1, 3.0]
    several = rows({"params": [1e7], "val 1B": [3.0], "val 2B": [2.9], "test 1B": [3.1], "test 2B": [3.0]})
    assert several.lengthen() == {}


def test_open_cells_are_losses_too():
    made = rows({"params": [1e7, 1e8], "1B": ["3,413", "3,2"], "2B": ["3,1", "-"]})
    assert made.lengthen()["D"] == "D of the header"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1B", (1e9, "", ())),
        ("loss_at_5e8_tokens", (5e8, "D", ())),
        ("val loss @ 10M params", (1e7, "N", ("val",))),
        ("1e18 flops", (1e18, "C", ())),
        ("100000", (1e5, "", ())),
        ("99999", None),
        ("1B tokens of 2B", None),
        ("tokens", None),
        ("1B bananas", None),
        ("1B tokens flops", None),
        ("x1B", None),
    ],
)
def test_amounts_in_names(name, found):
    assert _numbers_in(name) == found


def test_truths_are_spelt_in_several_ways():
    row = np.array([3, 5, 8, 9])
    assert truth(pl.Series("x", ["Yes ", "0", "WAHR", "n"]), row, "t").tolist() == [True, False, True, False]
    assert truth(pl.Series("x", [True, False, True, True]), row, "t").tolist() == [True, False, True, True]
    with pytest.raises(DataError, match="t, row 8, column 'x': 'perhaps' is no truth value"):
        truth(pl.Series("x", ["yes", "no", "perhaps", "?"]), row, "t")
    with pytest.raises(DataError, match="row 5, column 'x': None is no truth"):
        truth(pl.Series("x", ["yes", None, "no", "no"]), row, "t")


@pytest.mark.parametrize("cells", [[[1]], [b"x"], [{"a": 1}]])
def test_lists_and_the_like_are_no_text(cells):
    with pytest.raises(DataError, match="t, column 'x': it holds"):
        as_text(pl.Series("x", cells), "t")
    assert as_text(pl.Series("x", [1, None]), "t").to_list() == ["1", None]
