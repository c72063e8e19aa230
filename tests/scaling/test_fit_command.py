"""kleiber fit as a stranger types it: his columns, his mistakes, a pipe behind it."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from inprocess import kleiber
from kleiber.scaling.laws import chinchilla
from study.conftest import kleiber as typed

KEYS = (
    *("schema", "method", "form", "status", "objective", "n", "ranges", "estimates", "intervals", "identified"),
    *("usable", "refused", "witnesses", "covariance", "warnings", "settings", "inputs_sha256"),
)
TRUTH = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.37}


def surface() -> pl.DataFrame:
    """Six sizes at five budgets of compute around each optimum, without noise."""
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 5)))
    return pl.DataFrame({"N": N, "D": D, "loss": chinchilla(**TRUTH, N=N, D=D)})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "losses.csv"
    surface().write_csv(path)
    return path


def test_json_alone_with_the_keys_of_the_contract(table):
    result = kleiber("fit", table, "--json", "--bootstrap", "50")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert tuple(found) == KEYS
    assert found["status"] == "CONVERGED"
    assert list(found["estimates"]) == ["E", "A", "B", "alpha", "beta", "a", "b"]
    assert list(found["identified"]) == ["E", "A", "B", "alpha", "beta", "a"]
    for key, value in TRUTH.items():
        assert found["estimates"][key] == pytest.approx(value, rel=1e-5), key
    low, high = found["intervals"]["a"]
    assert low <= found["estimates"]["a"] <= high


def test_the_same_bytes_again(table):
    one, two = (kleiber("fit", table, "--json", "--bootstrap", "50", "--method", "all").stdout for _ in range(2))
    assert one == two
    assert [entry["method"] for entry in json.loads(one)] == ["parametric", "isoflop", "envelope", "gradient-rule"]
    assert all(tuple(entry) == KEYS for entry in json.loads(one))


def test_text_is_not_cut_in_a_pipe(table):
    result = typed("fit", table, "--bootstrap", "50")
    assert result.returncode == 0, result.stderr
    assert "CONVERGED · a is usable" in result.stdout
    assert "all are taken as final" in result.stdout
    assert "…" not in result.stdout
    alpha = next(line for line in result.stdout.splitlines() if line.startswith("alpha"))
    assert float(alpha.split()[1]) == pytest.approx(0.34, abs=1e-4)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".tsv"])
def test_other_kinds_of_file_and_names_of_columns(tmp_path, suffix):
    table, path = surface().rename({"N": "weights", "D": "words", "loss": "nats"}), tmp_path / f"mine{suffix}"
    write = {".jsonl": table.write_ndjson, ".parquet": table.write_parquet}
    write.get(suffix, lambda file: table.write_csv(file, separator="\t"))(path)
    named = ("--columns", "N=weights,D=words,loss=nats")
    result = kleiber("fit", path, *named, "--json", "--bootstrap", "0")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["settings"]["columns"] == {"N": "weights", "D": "words", "loss": "nats"}


def test_a_refusal_is_no_error(tmp_path):
    path = tmp_path / "one.csv"
    surface().filter(pl.col("D") == 1e9).write_csv(path)
    result = kleiber("fit", path)
    assert result.returncode == 0, result.stderr
    assert "REFUSED" in result.stdout
    assert "same D" in result.stdout


def test_results_in_a_folder(table, tmp_path):
    result = kleiber("fit", table, "--method", "all", "--bootstrap", "20", "--out", tmp_path / "laws")
    assert result.returncode == 0, result.stderr
    isoflop = json.loads((tmp_path / "laws" / "isoflop.json").read_text())
    assert "optima" in isoflop
    law = json.loads((tmp_path / "laws" / "parametric.json").read_text())
    assert {row["left_out"] for row in law["holdouts"]} >= {"largest N", "largest D", "largest C"}
    drawn = {path.name for path in (tmp_path / "laws").glob("*.svg")}
    assert {f"parametric.profile-{key}.svg" for key in ("E", "alpha", "beta", "a")} <= drawn
    assert ("isoflop.valleys.svg" in drawn) == bool(isoflop["valleys"])


MISTAKES = {
    "text": (pl.when(pl.col("N") > 5e9).then(pl.lit("seven")).otherwise(pl.col("N").cast(pl.String)).alias("N"), "'N'"),
    "nan": (pl.when(pl.col("D") > 5e11).then(float("nan")).otherwise(pl.col("D")).alias("D"), "column 'D'"),
    "negative": (pl.when(pl.col("loss") < 2).then(-1.0).otherwise(pl.col("loss")).alias("loss"), "column 'loss'"),
    "tokenizers": (pl.when(pl.col("N") > 5e9).then(pl.lit("bpe")).otherwise(pl.lit("6mer")).alias("tokenizer"), "bpe"),
    "evaluations": (pl.when(pl.col("N") > 5e9).then(1).otherwise(2).alias("eval_set"), "column 'eval_set'"),
    "compute": ((6.1 * pl.col("N") * pl.col("D")).alias("C"), "--flops exact"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_by_row_and_column(mistake, tmp_path):
    change, message = MISTAKES[mistake]
    table = surface().with_columns(change)
    row = {"text": 6, "nan": 25, "tokenizers": 6, "evaluations": 6, "compute": 1}.get(
        mistake, int((surface()["loss"] < 2).arg_max()) + 1
    )
    for path in (tmp_path / "bad.csv", tmp_path / "bad.jsonl"):
        if path.suffix == ".csv":
            table.write_csv(path)
        elif mistake == "nan":
            continue  # JSON has no NaN
        else:
            table.write_ndjson(path)
        result = kleiber("fit", path)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert f"row {row}" in result.stderr
        assert message in result.stderr
        assert result.stdout == ""


def test_repeated_rows_are_named(tmp_path):
    path = tmp_path / "twice.csv"
    pl.concat([surface(), surface()[3:4]]).write_csv(path)
    result = kleiber("fit", path, "--json", "--bootstrap", "0")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["n"] == 30
    assert any("row 31 repeats row 4" in warning for warning in found["warnings"])


def test_exact_flops_are_taken_when_asked(tmp_path):
    path = tmp_path / "exact.csv"
    surface().with_columns((6.1 * pl.col("N") * pl.col("D")).alias("C")).write_csv(path)
    result = kleiber("fit", path, "--flops", "exact", "--bootstrap", "0", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ranges"]["C"][0] == pytest.approx(6.1e17 / 10)


def test_a_table_of_our_own_carries_both_counts(tmp_path):
    path = tmp_path / "own.csv"
    exact = {"flops": 5.5 * pl.col("N") * pl.col("D"), "flops_6nd": 6 * pl.col("N") * pl.col("D")}
    surface().with_columns(**exact).write_csv(path)
    assert kleiber("fit", path, "--bootstrap", "0").returncode == 0


def test_one_kind_of_a_mixed_table(tmp_path):
    path = tmp_path / "mixed.csv"
    kinds = [surface().with_columns(tokenizer=pl.lit(kind)) for kind in ("bpe", "6mer")]
    pl.concat(kinds).write_csv(path)
    result = kleiber("fit", path, "--where", "tokenizer=6mer", "--bootstrap", "0", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["n"] == 30
    wrong = kleiber("fit", path, "--where", "tokenizer=7mer")
    assert wrong.returncode == 2
    assert "there are 6mer, bpe" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "N"), "NAME=VALUE"),
        (("--columns", "M=N"), "M is none of the quantities"),
        (("--columns", "N=weights"), "no column 'weights'"),
        (("--budgets", "1e18,lots"), "positive numbers"),
        (("--delta", "0"), "delta = 0"),
        (("--bootstrap", "1"), "at least 2 draws"),
    ],
)
def test_options_that_cannot_be(table, options, message):
    result = kleiber("fit", table, *options)
    assert result.returncode == 2
    assert message in result.stderr


def test_there_is_no_such_file(tmp_path):
    result = kleiber("fit", tmp_path / "absent.csv")
    assert result.returncode == 2
    assert "There is no file" in result.stderr


def test_another_form(table):
    result = kleiber("fit", table, "--form", "equal-exponents", "--bootstrap", "10", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["form"] == "equal-exponents"
    assert found["estimates"]["alpha"] == found["estimates"]["beta"]
    assert not found["identified"]["a"]
    needs = kleiber("fit", table, "--form", "data-constrained")
    assert needs.returncode == 2
    assert "--columns unique=NAME" in needs.stderr


def test_unfinished_runs_are_fitted_only_by_force(tmp_path):
    path = tmp_path / "unfinished.csv"
    surface().with_columns(annealed=False).write_csv(path)
    for options, status in (((), "REFUSED"), (("--force",), "CONVERGED")):
        result = kleiber("fit", path, "--bootstrap", "20", "--json", *options)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["status"] == status
