"""Tables as people have them: read rightly, or refused with what to type; never misread, never a traceback."""

from __future__ import annotations

import csv
import math
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kleiber.errors import DataError, KleiberError
from kleiber.scaling.observations import Observations, read_table
from scaling.dialects import Dialect, Runs, dialects, grouped, runs, workbook

SIZES, DATA = (10**7, 25 * 10**6, 7 * 10**7, 41 * 10**7, 10**9), (5 * 10**8, 2 * 10**9, 8 * 10**9, 3 * 10**10)
LAW: Runs = [(n, d, round(1.69 + 406 / n**0.34 + 411 / d**0.28, 4)) for n in SIZES for d in DATA]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


def read(folder: Path, data: bytes | str, columns: dict[str, str] | None = None) -> Observations:
    path = folder / "table"  # the name says nothing
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return Observations.of(read_table(path), columns, "table")


def read_or_words(path: Path, columns: dict[str, str]) -> tuple[Observations | None, str]:
    try:
        return Observations.of(read_table(path), columns, "table"), ""
    except KleiberError as error:
        return None, " ".join(str(error).split())


def said(points: Observations, pattern: str) -> bool:
    return any(re.search(pattern, warning) for warning in points.warnings)


def same(points: Observations, wanted: Runs) -> bool:
    found = np.stack([points.N, points.D, points.loss], axis=1)
    return found.shape == (len(wanted), 3) and np.allclose(found, np.array(wanted, float), rtol=1e-9, atol=0)


def lines(header: str, rows: object = None, end: str = "") -> str:
    """Return a CSV of the law's runs, or of other rows."""
    body = LAW if rows is None else rows
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in body) + end


@given(dialects(), runs())
@settings(max_examples=80, deadline=None)
def test_one_table_in_many_dialects(folder, dialect: Dialect, wanted: Runs):
    assert same(read(folder, dialect.packed(wanted)), wanted)


@given(dialects(), runs(), st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_files_are_refused_in_words(folder, dialect: Dialect, wanted: Runs, data):
    """Bytes changed, inserted and cut off: a table of positive numbers, or an error of ours."""
    whole = bytearray(dialect.packed(wanted))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b",", b".", b"\n", b'"', b"{", b"0"])
        )
        whole = whole or bytearray(b" ")
    try:
        points = read(
            folder, bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
        )
    except KleiberError:
        return
    for values in (points.N, points.D, points.loss, points.C):
        assert np.isfinite(values).all()
        assert (values > 0).all()


@given(st.text(max_size=80))
@example("params,tokens,loss\n\x00")
@example("params tokens loss\n1 2")
@example('"a\n')
@example("a|b\n-|-\n")
@settings(max_examples=50, deadline=None)
def test_any_text_is_a_table_or_refused(folder, text):
    for data in (text, "params,tokens,loss\n" + text, "params,tokens,loss\n1e6,1e8,3.1\n" + text):
        with suppress(KleiberError):
            read(folder, data.encode("utf-8", "surrogatepass"))


@given(
    st.integers(1, 999),
    st.integers(0, 999),
    st.sampled_from(",."),
    st.sampled_from(["params", "params (M)", "val_ppl"]),
)
@settings(max_examples=40, deadline=None)
def test_a_mark_before_three_digits_is_never_guessed(folder, whole, rest, mark, column):
    """1,234 is a thousand or one and a bit: without other evidence it is refused, unless only one can be."""
    cell = f"{whole}{mark}{rest:03d}"
    row = {"params": 10**7, "tokens": 10**9, "loss": 3} if "ppl" not in column else {"params": 10**7, "tokens": 10**9}
    row = {key: value for key, value in row.items() if not column.startswith(key)} | {column: cell}
    text = ";".join(row) + "\n" + ";".join(map(str, row.values())) + "\n"
    one_way = (mark == "," and column == "params") or (mark == "." and column != "params")
    if one_way:
        points = read(folder, text)
        number = float(cell.replace(",", "")) * (10**6 if "M" in column else 1)
        assert (np.exp(points.loss) if "ppl" in column else points.N)[0] == pytest.approx(number) or whole == 0
    else:
        with pytest.raises(DataError, match=re.escape(repr(cell))):
            read(folder, text)


def test_the_field_tables(shared_data):
    """Every file of the collection by what it must give; the fits themselves are the command's."""
    tables = shared_data / "field" / "tables"
    for want in csv.DictReader((tables / "expected.csv").read_text(encoding="utf-8").splitlines()):
        asked = dict(pair.split("=") for pair in want["options"].removeprefix("--columns ").split(",") if pair)
        points, words = read_or_words(tables / want["file"], asked)
        if points is None:
            assert want["right"] != "fit", want["file"]
            assert re.search(want["says"], words), want["file"]
            continue
        assert want["right"] != "error", want["file"]
        assert len(points) == int(want["rows"]), want["file"]
        for key, (low, high) in points.ranges().items():
            if key != "C" and want[f"{key}_low"]:
                near = pytest.approx(
                    [float(want[f"{key}_low"]), float(want[f"{key}_high"])], rel=float(want["tolerance"])
                )
                assert [low, high] == near, want["file"]
        if want["says"] and want["right"] in ("fit", "either, said"):
            assert re.search(want["says"], " ".join(points.warnings)), want["file"]


CHOICES = {  # header of four columns: which of the last two is the loss, or an error; the last is 0.1 higher
    "train_loss,val_loss": "val_loss",
    "loss,eval/loss": "eval/loss",
    "train/loss,Validation loss": "Validation loss",
    "loss_std,loss": "loss",
    "train/aux_loss,test_loss": "test_loss",
    "val_loss,test_loss": None,
    "eval/c4/loss,eval/pile/loss": None,
    "best_val_loss,final_val_loss": None,
}


@pytest.mark.parametrize("names", CHOICES)
def test_which_loss(names, folder):
    text = lines(f"params,tokens,{names}", [(n, d, loss, loss + 0.1) for n, d, loss in LAW])
    if CHOICES[names] is None:
        first, second = names.split(",")
        with pytest.raises(DataError, match=f"--columns loss={first} or --columns loss={second}"):
            read(folder, text)
    else:
        assert read(folder, text).columns["loss"] == CHOICES[names]


def test_a_training_loss_alone_is_said(folder):
    assert said(read(folder, lines("params,tokens,train_loss")), "'train_loss', of training")


def test_perplexity_and_bits(folder):
    ppl = read(folder, lines("params,tokens,val_ppl", [(n, d, math.exp(loss)) for n, d, loss in LAW]))
    assert same(ppl, LAW)
    assert said(ppl, "logarithm of the perplexity")
    bits = read(folder, lines("params,bases,bits_per_base"))
    assert same(bits, LAW)
    assert said(bits, "in bits")
    assert said(bits, "counted in bases")
    with pytest.raises(DataError, match="is no perplexity"):
        read(folder, lines("params,tokens,val_ppl", [(10**7, 10**9, 0.9)]))


COUNTS_OF_N = {
    "N,N_no_emb": "N",
    "params,params_non_embedding": "params",
    "params_total,params_transformer": None,
    "active_params,total_params": None,
}


@pytest.mark.parametrize("names", COUNTS_OF_N)
def test_which_count_of_parameters(names, folder):
    text = lines(f"{names},tokens,loss", [(n, n // 2, d, loss) for n, d, loss in LAW])
    first, second = names.split(",")
    if COUNTS_OF_N[names]:
        points = read(folder, text)
        assert points.columns["N"] == first
        assert said(points, f"'{second}'.*--columns N={second}")
    else:
        with pytest.raises(DataError, match=f"--columns N={first} or --columns N={second}"):
            read(folder, text)
    assert read(folder, text, {"N": second}).N.max() == 5e8


def test_compute_in_its_units(folder):
    for header, factor in (("flops", 1), ("compute (PF-days)", 8.64e19), ("compute [EFLOPs]", 1e18), ("budget", 1)):
        points = read(folder, lines(f"params,{header},loss", [(n, 6 * n * d / factor, loss) for n, d, loss in LAW]))
        assert same(points, LAW), header
        assert said(points, "D is computed as C / 6N")
    given_d = read(folder, lines("flops,tokens,loss", [(6 * n * d, d, loss) for n, d, loss in LAW]))
    assert same(given_d, LAW)
    with pytest.raises(DataError, match="C cannot be in FLOPs"):
        read(folder, lines("params,compute,loss", [(n, d / 1e9, loss) for n, d, loss in LAW]))


def test_steps_and_batches(folder):
    rows = [(n, d // 2**20, 512, 2048, loss) for n, d, loss in LAW]
    wanted = [(n, d // 2**20 * 2**20, loss) for n, d, loss in LAW]
    points = read(folder, lines("params,steps,batch_size,seq_len,loss", rows))
    assert same(points, wanted)
    assert points.columns["D"] == "steps × batch_size × seq_len"
    in_tokens = [(n, steps, 2**20, loss) for n, steps, _, _, loss in rows]
    assert same(read(folder, lines("params,num_iterations,batch_size_in_tokens,loss", in_tokens)), wanted)
    with pytest.raises(DataError, match="may count tokens or sequences"):
        read(folder, lines("params,steps,total_batch_size,seq_len,loss", [(n, 9, 2**19, 2048, 3) for n, *_ in rows]))
    with pytest.raises(DataError, match="no column for D"):
        read(folder, lines("params,steps,per_device_batch_size,seq_len,n_gpus,loss", [(10**7, 9, 8, 2048, 8, 3)]))


def test_rows_that_are_no_runs_are_counted(folder):
    states = [(*run, "finished") for run in LAW] + [(10**7, 10**9, 3.0, state) for state in ("crashed", "running")]
    points = read(folder, lines("params,tokens,loss,State", states))
    assert same(points, LAW)
    assert said(points, "2 rows left out that did not finish")
    ends = lines("params,tokens,loss", [*LAW, *((10**7, 10**9, x) for x in ("NaN", "", "inf", "—", "diverged"))])
    points = read(folder, ends)
    assert same(points, LAW)
    assert said(points, r"5 rows of 25 left out: no finite loss.*rows 21, 22, 23, 24, 25")
    copies = read(folder, lines(",params,tokens,loss", [(i, *run) for i, run in enumerate(LAW + LAW[:3])]))
    assert same(copies, LAW)
    assert said(copies, "3 rows of 23 repeat.*row 21 repeats row 1")
    with pytest.raises(DataError, match="no run has finished"):
        read(folder, lines("params,tokens,loss,status", [(*run, "running") for run in LAW]))


def test_the_best_of_a_sweep(folder):
    """Three rates and two seeds a cell: the best rate by its mean, with both its seeds."""
    rates = ((0.001, 0.05), (0.002, 0.0), (0.004, 0.02))
    rows = [
        (n, d, rate, seed, loss + more + seed / 1e3) for n, d, loss in LAW for rate, more in rates for seed in (0, 1)
    ]
    points = read(folder, lines("params,tokens,lr,seed,loss", rows))
    assert same(points, [(n, d, loss + seed / 1e3) for n, d, loss in LAW for seed in (0, 1)])
    assert said(points, "lr varies.*best of each of 20 cells counts, 80 rows of 120 left out")
    tuned = read(folder, lines("params,tokens,lr,loss", [(n, d, 1 / n, loss) for n, d, loss in LAW]))
    assert same(tuned, LAW)
    assert not said(tuned, "varies")


def test_standard_errors_that_nobody_knew(folder):
    zero = read(folder, lines("N,D,loss,loss_se", [(*run, 0.0) for run in LAW]))
    assert zero.se is None
    assert said(zero, "standard errors are not used: 20 of 20 in column 'loss_se'")
    assert read(folder, lines("N,D,loss,loss_se", [(*run, 0.01) for run in LAW])).se is not None


def test_unique_data_in_another_unit_is_not_taken(folder):
    for name, taken in (("unique_tokens", True), ("n_unique_bases", False)):
        points = read(folder, lines(f"N,D,loss,{name}", [(*run, 10**9) for run in LAW]))
        assert (points.unique is not None) == taken


def test_wide_tables(folder):
    losses = {(n, d): loss for n, d, loss in LAW}
    by_size = [(n, *(losses[n, d] for d in DATA)) for n in SIZES]
    for header in ("params,500M,2B,8B,30B", "params,loss@5e8,loss@2e9,loss@8e9,loss@3e10"):
        points = read(folder, lines(header, by_size))
        assert same(points, LAW)
        assert said(points, "a wide table")
    by_data = [(d, *(losses[n, d] for n in SIZES)) for d in DATA]
    points = read(folder, lines("tokens,10M,25M,70M,410M,1B", by_data))
    assert same(points, [(n, d, losses[n, d]) for d in DATA for n in SIZES])
    budgets = read(folder, lines("params,1e18,1e19", [(n, 3.1, 3.0) for n in SIZES]))
    assert budgets.C.tolist() == [1e18, 1e19] * 5
    with pytest.raises(DataError, match="does not say whether"):
        read(folder, lines("params,1e12,1e13", [(n, 3.1, 3.0) for n in SIZES]))


def test_units_below_the_header(folder):
    rows = [("M", "B", "nats/token"), *((n / 1e6, d / 1e9, loss) for n, d, loss in LAW)]
    points = read(folder, lines("params,tokens,loss", rows))
    assert same(points, LAW)
    assert said(points, "row 1 is read as units")
    with pytest.raises(DataError, match="row 1, column 'tokens': 'GB'"):
        read(folder, lines("params,tokens,loss", [("M", "GB", "nats"), *rows[1:]]))


def test_a_unit_can_be_typed(folder):
    text = lines("params,tokens,loss", [(n / 1e6, d / 1e9, loss) for n, d, loss in LAW])
    assert said(read(folder, text), r"the largest N is 1000: .*--columns 'N=params \(M\)'")
    assert same(read(folder, text, {"N": "params (M)", "D": "tokens (B)"}), LAW)


PASTED = {
    "markdown": "| params | tokens | loss |\n|---:|---:|---|\n| 70M | 2B | **3.25** |\n| 1B | 30B | 2.5 |\n",
    "latex": "\\begin{tabular}{rrr}\n\\toprule\nN & D & Loss \\\\ \\midrule\n$70$M & 2{,}000{,}000{,}000 & 3.25 \\\\\n"
    "$1 \\times 10^{9}$ & 30B & \\textbf{2.5} \\\\\n\\bottomrule\n\\end{tabular}\n",
    "psql": " params | tokens | loss\n--------+--------+------\n 7e7 | 2e9 | 3.25\n 1e9 | 3e10 | 2.5\n(2 rows)\n",
    "terminal": "      params      tokens  loss\n0   70000000  2000000000  3.25\n1 1000000000 30000000000   2.5\n",
    "R": '"params" "tokens" "loss"\n"1" 7e+07 2e+09 3.25\n"2" 1e+09 3e+10 2.5\n',
    "savetxt": "# params tokens loss\n7.0e+07 2.0e+09 3.25e+00\n1.0e+09 3.0e+10 2.5e+00\n",
    "title": "Runs of March,,\n,,\nparams,tokens,loss\n70000000,2000000000,3.25\n1000000000,30000000000,2.5\n",
    "sep": "sep=;\nparams;tokens;loss\n70 000 000;2 000 000 000;3,25\n1 000 000 000;30 000 000 000;2,5\n",
    "mixed units": "params,tokens,loss\n70M,2 billion,3.25\n1 Mrd.,30×10⁹ tokens,2.5\n",
}


@pytest.mark.parametrize("kind", PASTED)
def test_pasted_tables(kind, folder):
    assert same(read(folder, PASTED[kind]), [(7 * 10**7, 2 * 10**9, 3.25), (10**9, 3 * 10**10, 2.5)])


ONE_GROUP = {  # thousands with one mark, which other cells tell from decimals
    "by decimal points": 'N,D,loss\n"700,000","20,000",3.2541\n',
    "by decimal commas": "N;D;loss\n700.000;20.000;3,2541\n",
    "by two groups": "N;D;loss\n700.000;20.000;3,2541\n1.000.000;20.000;3,1\n",
    "by what a count is": 'N,D,loss\n"700,000",2e4,32541e-4\n',
}


@pytest.mark.parametrize("kind", ONE_GROUP)
def test_one_mark_between_thousands(kind, folder):
    points = read(folder, ONE_GROUP[kind])
    assert (points.N[0], points.D[0], points.loss[0]) == (700_000, 20_000, 3.2541)


REFUSED = {
    "a decimal comma between commas": ("N,D,loss\n10000000,500000000,3,41\n", "row 1 has 4 cells"),
    "behind a number of the row": ("run,N,D,loss\n1,10000000,500000000,3,41\n2,1e8,5e8,3,1\n", "row 1 has 5 cells"),
    "no header": ("10000000,500000000,3.41\n", "has no header"),
    "two conventions": ("N;D;loss\n1.000.000;500.000.000;3.4134\n", "mean one thing"),
    "a label": ("model,tokens,loss\npythia-70m,1e9,3.1\n", "no column for N"),
    "no unit beside units": ("N,D,loss\n70M,1e9,3.1\n160,1e9,3.0\n", "'160' has no unit"),
    "units twice": ("params (M),tokens,loss\n70000000000,1e9,3.1\n", "more than there is"),
    "an unknown unit": ("params,tokens (GB),loss\n7e7,10,3.1\n", "no column for D"),
    "a mean at the end": ("N,D,loss\n7e7,1e9,3.1\nmean,,3.1\n", "row 2, column 'N'"),
    "two names": ("N,D,loss,loss\n7e7,1e9,3.1,3.2\n", "two columns 'loss'"),
    "two splits": ("N,D,split,loss\n7e7,1e9,train,3.1\n7e7,1e9,val,3.2\n", "--where split=val"),
    "a chart": ("Step,a - loss,a - loss__MIN,a - loss__MAX\n1,3,3,3\n", "chart of one metric"),
    "a curve": ("Wall time,Step,Value\n1.7e9,1,3.2\n", "A row is one finished run"),
    "a log": ('{"log_history": [{"loss": 3, "step": 1}, {"eval_loss": 3, "step": 1}]}', "A row is one finished run"),
    "two lists": ('{"a": [{"N": 1}], "b": [{"N": 1}]}', "2 lists of objects"),
    "accuracy": ("N,D,accuracy\n7e7,1e9,0.31\n", "no column for loss"),
    "excess": ("N,D,excess_loss\n7e7,1e9,0.31\n", "no column for loss"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_told_is_refused(kind, folder):
    text, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        read(folder, text)


def test_workbooks(folder):
    header = ["params (M)", "tokens (B)", "loss"]
    cells = [header, *([n / 1e6, d / 1e9, loss] for n, d, loss in LAW)]
    assert same(read(folder, workbook({"runs": [["Runs of March"], [], *cells], "empty": []})), LAW)
    german = [["N", "D", "loss"], *([grouped(n, "."), grouped(d, "."), str(x).replace(".", ",")] for n, d, x in LAW)]
    assert same(read(folder, workbook({"runs": german})), LAW)
    with pytest.raises(DataError, match="2 sheets"):
        read(folder, workbook({"runs": cells, "notes": [["made in March"]]}))


def test_what_a_small_file_blows_up_to_is_bounded(folder, monkeypatch):
    import gzip

    monkeypatch.setattr("kleiber.scaling.table.MOST_BYTES", 1 << 16)
    with pytest.raises(DataError, match="it is no table of runs"):
        read(folder, gzip.compress(b"N,D,loss\n" + b"1" * (1 << 17)))


def test_rows_keep_their_number(folder):
    points = read(folder, lines("params,tokens,loss", [("", "", ""), *LAW[:2], (10**7, 10**9, "nan"), *LAW[2:]]))
    assert points.row.tolist() == [2, 3, *range(5, 23)]
    assert points.take(np.array([0, 2])).row.tolist() == [2, 5]
    assert isinstance(read_table(folder / "table"), pl.DataFrame)
