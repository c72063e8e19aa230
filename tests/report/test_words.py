"""Numbers and sentences: they say what the numbers say, and change with them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from kleiber.report import doubts, findings, laws
from kleiber.report.numbers import compact, count, interval, plus_minus, signed
from kleiber.report.reader import read_study


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (plus_minus(1.86789, 0.00312), "1.8679 ± 0.0031"),
        (plus_minus(1.86789, None), "1.868"),
        (plus_minus(None, 0.1), "–"),
        (interval(0.5234, (0.41, 0.66)), "0.52 (95 % interval 0.41 to 0.66)"),
        (interval(0.5234, None), "0.523 (no interval)"),
        (interval(-0.5, (-0.75, -0.25), ""), "−0.50 (−0.75 to −0.25)"),
        (interval(4.9, (0.0, float("inf"))), "4.9 (95 % interval 0 to ∞)"),
        (signed(-0.00234), "−0.0023"),
        (signed(0.00234), "+0.0023"),
        (count(14963712), "14\u202f963\u202f712"),
        (compact(2_000_000), "2M"),
        (compact(3.14e13), "3.1 × 10¹³"),
        (compact(950), "950"),
    ],
)
def test_numbers_are_printed_with_their_doubt(printed: str, expected: str):
    assert printed == expected


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / "fits" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_refused_exponent_is_not_quoted_as_a_result(study_folder: Path):
    reason = "a is not usable: the residuals follow a pattern by D"
    change(
        study_folder,
        "ref-bpe.parametric.json",
        usable=False,
        identified={"a": False, "E": False},
        warnings=[reason],
        estimates={"alpha": 0.4, "beta": 0.4},
        intervals={},
        refused={"a": {"estimate": 0.4928, "interval": [0.41, 0.58]}},
    )
    study = read_study(study_folder)
    first, second = findings.arm_findings(study)[:2]
    assert first.key.startswith(
        "No exponent of ref-bpe can be quoted as a result: the residuals follow a pattern by D."
    )
    assert "a = 0.4" in second.key
    assert "determined in 3 of 4 arms" in " ".join(findings.in_brief(study))
    drawn = laws.exponents([study]).table
    assert drawn.filter((pl.col("arm") == "ref-bpe") & (pl.col("method") == "parametric law")).is_empty()
    assert not drawn.filter((pl.col("arm") == "pan-bpe") & (pl.col("method") == "parametric law")).is_empty()
    lines = laws.n_flops(study, "ref-bpe").table.filter(pl.col("kind").is_in(["line", "optimum"]))
    assert lines["method"].unique().to_list() == ["envelope"]


def test_refused_and_bounded_fits_say_so(study_folder: Path):
    change(study_folder, "ref-bpe.parametric.json", status="REFUSED", warnings=["one D only"])
    change(study_folder, "pan-bpe.parametric.json", status="BOUND_HIT")
    first, second = findings.arm_findings(read_study(study_folder))[:2]
    assert first.key == "The parametric fit of ref-bpe was refused: one D only."
    assert "ended on a bound" in second.key


@pytest.mark.parametrize(
    ("bounds", "says"),
    [([0.6, 0.7], "better spent on parameters"), ([0.3, 0.4], "better spent on data"), ([0.4, 0.6], "includes 0.5")],
)
def test_the_balance_follows_the_interval(study_folder: Path, bounds: list[float], says: str):
    for path in (study_folder / "fits").glob("*.parametric.json"):
        change(study_folder, path.name, intervals={"a": bounds})
    assert says in " ".join(findings.in_brief(read_study(study_folder)))


def test_the_published_value_is_placed_against_the_interval(study_folder: Path):
    change(study_folder, "ref-bpe.parametric.json", intervals={"a": [0.7, 0.9]})
    first, second = findings.arm_findings(read_study(study_folder))[:2]
    assert "lies inside the interval" in " ".join(first.details)
    assert "lies outside the interval" in " ".join(second.details)


def test_a_loss_that_rises_with_data_is_told(study_folder: Path):
    table = pl.read_csv(study_folder / "observations.csv")
    worse = (pl.col("size") == "0.8M") & (pl.col("n_tokens") == 2_000_000)
    bits = pl.when(worse).then(2.5).otherwise("bits_per_base")
    table.with_columns(bits_per_base=bits).write_csv(study_folder / "observations.csv")
    details = " ".join(findings.arm_findings(read_study(study_folder))[0].details)
    by_data, by_size = (f"one {step} to the next, held-out bits per base fall at" for step in ("budget", "size"))
    assert (
        f"{by_data} 9 of 10 steps: at 9 by more than two paired standard errors; they rise by as much at 1." in details
    )
    assert (
        f"{by_size} 11 of 12 steps: at 11 by more than two paired standard errors; they rise by as much at 1."
        in details
    )


def test_what_order_is_worth_is_told_and_blindness_warned_of(study_folder: Path):
    study = read_study(study_folder)
    details = " ".join(findings.arm_findings(study)[0].details)
    assert "reading rows backwards costs 0.080 ± 0.010, reading them shuffled costs 0.120 ± 0.010" in details
    (warning,) = [sentence for sentence in doubts.sureness(study) if "backwards" in sentence]
    assert warning.startswith("Warning: 24 of 60 models lose less than 3 paired standard errors")
    assert "ref-bpe: 0.05M, 0.1M; pan-bpe" in warning
    table = pl.read_csv(study_folder / "observations.csv").drop("cost_reversed")
    table.write_csv(study_folder / "observations.csv")
    study = read_study(study_folder)
    assert not [sentence for sentence in doubts.sureness(study) if "backwards" in sentence]
    assert "backwards" not in " ".join(findings.arm_findings(study)[0].details)


def test_differences_within_noise_are_called_that(study_folder: Path):
    table = pl.read_csv(study_folder / "observations.csv")
    order = table.with_row_index().with_columns(wave=0.01 * ((pl.col("index") // 3) % 5 - 2))
    bits = pl.lit(1.9) + pl.when(pl.col("arm") == "pan-bpe").then(pl.col("wave")).otherwise(0)
    order.with_columns(bits_per_base=bits).drop("index", "wave").write_csv(study_folder / "observations.csv")
    sentences = findings.between_arms(read_study(study_folder))
    assert "no difference can be told from noise" in next(s for s in sentences if s.startswith("ref-bpe − pan-bpe"))


def test_many_epochs_are_a_limit(study_folder: Path):
    assert "D counts both alike" in " ".join(doubts.limits(read_study(study_folder)))
    table = pl.read_csv(study_folder / "observations.csv").with_columns(epochs=pl.lit(1.5))
    table.write_csv(study_folder / "observations.csv")
    assert "within the four epochs" in " ".join(doubts.limits(read_study(study_folder)))
