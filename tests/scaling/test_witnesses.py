"""Each witness refuses a table with the fault that it looks for, and lets a sound one pass."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kleiber.scaling import witnesses
from kleiber.scaling.exclusions import leave_out
from kleiber.scaling.fit import fit
from kleiber.scaling.laws import chinchilla
from kleiber.scaling.methods import fit_table
from kleiber.scaling.observations import Observations, read_table
from kleiber.scaling.result import FitResult, identified
from kleiber.scaling.valleys import isoflop
from kleiber.scaling.witnesses import agree, examine

LAW = {"E": 1.7, "A": 55.0, "B": 100.0, "alpha": 0.3, "beta": 0.25}
SIZES, DATA = 1e6 * 2.0 ** np.arange(8), np.geomspace(1e8, 6.4e9, 6)
TRUTH = 0.25 / 0.55


def sound(
    seed: int = 0, run: float = 0.0012, point: float = 0.0008, twice: int = 3, sizes=SIZES, data=DATA
) -> pl.DataFrame:
    """Runs of one law: a ladder of data for each size, some of them with a second seed."""
    rng = np.random.default_rng(seed)
    trunks = [(n, 0) for n in sizes] + [(n, 1) for n in sizes[np.linspace(0, len(sizes) - 1, twice).astype(int)]]
    N, S = (np.repeat([trunk[i] for trunk in trunks], len(data)) for i in (0, 1))
    D = np.tile(data, len(trunks))
    luck = run * np.repeat(rng.standard_normal(len(trunks)), len(data)) + point * rng.standard_normal(len(D))
    loss = chinchilla(**LAW, N=N, D=D) * np.exp(luck)
    return pl.DataFrame({"N": N, "D": D, "seed": S.astype(int), "loss": loss, "annealed": True})


def judged(table: pl.DataFrame, **options) -> FitResult:
    points = leave_out(Observations.of(table))
    return examine(fit(points, bootstrap=200, **options), points)


def said(result: FitResult) -> dict[str, bool | None]:
    return {one["name"]: one["agrees"] for one in result.witnesses}


def against(result: FitResult) -> set[str]:
    return {name for name, agrees in said(result).items() if agrees is False}


@pytest.fixture(scope="module")
def good() -> FitResult:
    return judged(sound())


def test_a_sound_table_is_usable(good):
    assert good.usable
    assert good.identified["a"]
    assert against(good) == set()
    low, high = good.intervals["a"]
    assert low <= TRUTH <= high
    assert high - low < 0.06
    names = {
        "design",
        "parametric",
        "IsoFLOP",
        "pattern",
        "second seeds",
        "sizes",
        "cuts",
        "hold-outs",
        "forms",
        "choices",
    }
    assert said(good).keys() == names
    assert not any(warning.startswith("a is not usable") for warning in good.warnings)


def bump(table: pl.DataFrame, where: pl.Expr, by: float) -> pl.DataFrame:
    return table.with_columns(loss=pl.when(where).then(pl.col("loss") * (1 + by)).otherwise("loss"))


def shared_error(table: pl.DataFrame, spread: float) -> pl.DataFrame:
    """Errors of each (N, D) that both seeds share: no pattern, and no luck of seeds."""
    cells = table.select("N", "D").unique(maintain_order=True)
    off = spread * np.random.default_rng(3).standard_normal(len(cells))
    joined = table.join(cells.with_columns(off=pl.Series(off)), on=["N", "D"], maintain_order="left")
    return joined.with_columns(loss=pl.col("loss") * (1 + pl.col("off"))).drop("off")


FAULTS = {
    "design": lambda: sound(sizes=1e6 * 8.0 ** np.arange(4), twice=1, run=2e-4, point=2e-4),
    "parametric": lambda: sound(run=0.02, point=0.01, twice=0),
    "pattern": lambda: bump(sound(twice=0), pl.col("D") == DATA[2], 0.004),
    "second seeds": lambda: shared_error(sound(run=2e-4, point=2e-4), 4e-4),
    "sizes": lambda: bump(sound(twice=0), pl.col("N") == SIZES[4], 0.012),
    "cuts": lambda: bump(sound(1, twice=0), pl.col("N") == SIZES[-1], 0.006),
    "hold-outs": lambda: bump(sound(twice=0), pl.col("N") == SIZES[-1], 0.015),
    "repeats": lambda: sound().with_columns(unique_tokens=pl.col("D") / 10),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_by_its_witness(name):
    result = judged(FAULTS[name]())
    assert name in against(result)
    assert not result.usable
    assert not result.identified["a"]
    assert result.warnings[0].startswith("a is not usable: ")
    assert result.warnings[1].startswith("what would settle it: ")


@pytest.mark.parametrize("name", ["design", "parametric", "second seeds", "cuts", "repeats"])
def test_one_witness_is_enough(name):
    assert against(judged(FAULTS[name]())) == {name}


def test_isoflop_that_disagrees(good):
    points = Observations.of(sound())
    law = fit(points, bootstrap=200)
    found = isoflop(points)
    away = replace(found, intervals={"a": [0.7, 0.8], "b": [0.2, 0.3]}, estimates={"a": 0.75, "b": 0.25})
    result = examine(law, points, away)
    assert against(result) == {"IsoFLOP"}
    assert "0.700 to 0.800" in result.warnings[0]
    assert not agree(away, result).usable
    silent = replace(found, intervals={}, estimates={}, optima=(), status="REFUSED")
    result = examine(law, points, silent)
    assert said(result)["IsoFLOP"] is None
    assert result.usable


def test_points_that_are_not_annealed_are_never_usable():
    points = Observations.of(sound().with_columns(annealed=False))
    result = examine(fit(points, bootstrap=100, force=True), points)
    assert against(result) == {"schedule"}


def test_counts_of_parameters_that_disagree():
    """With embeddings counted, the small models look larger, and a is that of another quantity."""
    table = sound().with_columns(C=6 * pl.col("N") * pl.col("D"), N=pl.col("N") + 3e6 * (pl.col("N") / 1e6) ** 0.5)
    result = judged(table)
    assert result.settings["columns"]["N"] == "n_effective"
    assert against(result) == {"other counts"}
    low, high = result.settings["interval_of_luck"]
    assert low <= TRUTH <= high
    near = sound().with_columns(C=6 * 1.6 * pl.col("N") ** 0.97 * pl.col("D"))
    assert said(judged(near))["other counts"]


def test_choices_that_disagree():
    narrow, wide = [0.4, 0.55], [0.35, 0.58]
    assert witnesses._choices(wide, wide, narrow).agrees is False
    assert witnesses._choices(narrow, narrow, narrow).agrees is True


@pytest.mark.parametrize(("form", "adds"), [("delayed", "a delay"), ("joint", "γ = 0.")])
def test_a_form_that_contains_the_law_and_is_better(form, adds):
    table = sound()
    if form == "delayed":
        late = chinchilla(**LAW, N=table["N"].to_numpy(), D=table["D"].to_numpy() - 6e7)
    else:
        whole = chinchilla(**LAW, N=table["N"].to_numpy(), D=table["D"].to_numpy())
        late = LAW["E"] + (whole - LAW["E"]) ** 0.6
    law = chinchilla(**LAW, N=table["N"].to_numpy(), D=table["D"].to_numpy())
    result = judged(table.with_columns(loss=pl.Series(table["loss"].to_numpy() / law * late)))
    assert "forms" in against(result)
    assert adds in next(one["says"] for one in result.witnesses if one["name"] == "forms")


@pytest.mark.parametrize(
    "name", ["design", "IsoFLOP", "pattern", "second seeds", "sizes", "cuts", "hold-outs", "forms", "choices"]
)
def test_any_witness_alone_refuses(good, name):
    """The verdict is of the witnesses, whoever speaks."""
    heard = [witnesses.Witness(**one) for one in good.witnesses]
    heard = [replace(one, agrees=False) if one.name == name else one for one in heard]
    says = next(one.says for one in heard if one.name == name)
    assert witnesses._verdict(heard)[0] == f"a is not usable: {says}"


def test_a_refused_exponent_has_no_number(tmp_path):
    result = judged(FAULTS["pattern"]())
    full = json.loads(json.dumps(result.to_dict()))
    for part in ("estimates", "intervals"):
        assert not {"a", "b"} & full[part].keys()
    assert full["identified"]["a"] is False
    assert full["usable"] is False
    assert full["refused"]["a"]["estimate"] == result.estimates["a"]
    shown = result.summary()
    assert {
        "method",
        "status",
        "estimates",
        "intervals",
        "identified",
        "usable",
        "n",
        "ranges",
        "warnings",
    } <= shown.keys()
    assert "a" not in shown["estimates"]


def ten_budgets(seed: int, fewest: int = 6, most: int = 10) -> pl.DataFrame:
    """Ten budgets, each with 6 to 10 sizes of its own, none of which is trained twice."""
    rng = np.random.default_rng(seed)
    rows = []
    for budget in np.geomspace(6e18, 1e22, 10):
        fine = np.geomspace(1e6, 1e12, 4001)
        best = fine[chinchilla(1.7, 400, 1200, 0.34, 0.36, fine, budget / (6 * fine)).argmin()]
        for n in best * np.geomspace(0.2, 5, int(rng.integers(fewest, most + 1))) * np.exp(0.1 * rng.standard_normal()):
            rows.append((n, budget * np.exp(0.01 * rng.standard_normal()) / (6 * n)))
    N, D = np.array(rows).T
    loss = chinchilla(1.7, 400, 1200, 0.34, 0.36, N, D) * np.exp(0.0014 * rng.standard_normal(len(N)))
    return pl.DataFrame({"N": N, "D": D, "loss": loss})


def test_a_table_of_budgets_gives_its_exponent():
    parametric, valleys = fit_table(ten_budgets(1), ["parametric", "isoflop"], bootstrap=200)
    assert valleys.settings["budgets_of"] == "the table"
    assert len(valleys.optima) >= 8
    truth = 0.36 / 0.70
    for result in (parametric, valleys):
        assert result.usable
        assert result.intervals["a"][0] <= truth <= result.intervals["a"][1]
    assert isoflop(Observations.of(sound())).settings["budgets_of"] == "the range of C"


@pytest.mark.parametrize("name", ["clean_isoflop1_s", "clean_isoflop2_s"])
def test_tables_of_budgets_that_come_with_their_truth(name, shared_data):
    folder = shared_data / "field" / "laws"
    if not folder.is_dir():
        pytest.skip("the tables of known laws are not beside this checkout")
    truth = {row["table"]: row["a_true"] for row in read_table(folder / "truth.csv").iter_rows(named=True)}
    (result,) = fit_table(read_table(folder / f"{name}.csv"), ["isoflop"], bootstrap=200)
    assert result.identified["a"]
    assert result.intervals["a"][0] <= truth[f"{name}.csv"] <= result.intervals["a"][1]


def test_real_models_whose_law_does_not_hold(shared_data):
    """72 models with a step in their shape and a warm-up as long as the shortest runs."""
    path = shared_data.parent / "gpu" / "order_ladder_h200.csv"
    if not path.is_file():
        pytest.skip("the table of real models is not beside this checkout")
    parametric, valleys = fit_table(read_table(path), ["parametric", "isoflop"], bootstrap=200)
    assert not parametric.usable
    assert not valleys.usable
    assert {"pattern", "second seeds", "sizes", "cuts", "hold-outs"} <= against(parametric)
    assert said(parametric)["IsoFLOP"] is None
    says = {one["name"]: one["says"] for one in parametric.witnesses}
    assert "a step between N = 5.55e+05 and 1.23e+06" in says["sizes"]
    assert "2 of 7 valleys have both sides" in says["IsoFLOP"]


def test_a_plateau_and_diverged_runs_are_named_and_left_out():
    table = sound()
    level = float(table["loss"].quantile(0.8))
    capped = leave_out(Observations.of(table.with_columns(loss=pl.col("loss").clip(upper_bound=level))))
    assert any("token frequencies" in warning for warning in capped.warnings)
    assert capped.loss.max() < level * 0.999
    assert len(leave_out(Observations.of(table))) == len(table)
    told = leave_out(Observations.of(table), frequencies=3.2)
    assert told.loss.max() < 3.2
    late = (pl.col("N") == SIZES[-1]) & (pl.col("D") == DATA[-1])
    broken = leave_out(Observations.of(bump(table, late, 0.1)))
    assert len(broken) == len(table) - len(table.filter(late))
    assert any("diverged" in warning and "N = 1.28e+08" in warning for warning in broken.warnings)


def test_the_battery_has_sound_and_faulty_tables():
    """The kinds that the audit draws: the truth of each is a slope, and sound ones follow their law."""
    path = Path(__file__).parents[2] / "benchmarks" / "kinds.py"
    spec = importlib.util.spec_from_file_location("kinds", path)
    kinds = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["kinds"] = kinds
    spec.loader.exec_module(kinds)
    drawn = kinds.tables(3)
    assert len(drawn) >= 40
    assert sum(table.is_clean for table in drawn) >= 6
    for table in drawn:
        assert 0 < table.low <= table.high < 1, table.kind
        assert table.frame["loss"].is_finite().all(), table.kind
    again = kinds.tables(3)
    assert all(one.frame.equals(other.frame) for one, other in zip(drawn, again, strict=True))


def test_other_estimators_have_no_say():
    assert not FitResult(method="isoflop", form="power", status="REFUSED", n=0).usable
    assert identified(a=True)["a"]
