"""Numbers and sentences: they say what the numbers say, and change with them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from kleiber.report import doubts, findings, laws
from kleiber.report.numbers import compact, count, interval, plus_minus, signed
from kleiber.report.page import write_report
from kleiber.report.reader import read_study
from kleiber.report.tables import tables
from report.synthetic import TWO_ARMS, refuse, write_study


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


def test_an_exponent_that_is_refused_is_said_once_without_its_number(tmp_path: Path):
    """The number stands in what the witnesses say, in the files; the page has none of it."""
    study_folder = write_study(tmp_path / "refused", arms=TWO_ARMS)
    for name in TWO_ARMS:
        refuse(study_folder / "fits" / f"{name}.parametric.json", 4 if name == "ref-bpe" else 1)
    study = read_study(study_folder)
    found = doubts.verdict(study)
    assert (found.badge, found.kind) == ("not identified", "fail")
    assert found.reasons[0] == "the grid is too small: 3 sizes, where 5 are needed"
    assert found.reasons[1] == "some sizes lie off the law (ref-bpe)"
    assert len(found.reasons) == 4
    assert found.settles == "more runs for design; more runs for sizes"
    assert laws.exponents([study]) is None
    assert laws.n_flops(study, "ref-bpe") is None
    text = re.sub(r"<svg.*?</svg>|<script.*?</script>", "", write_report(study_folder).read_text(), flags=re.DOTALL)
    assert text.count("is not identified") == 1
    assert "0.488" not in text
    assert "0.4928" not in text


def test_an_identified_exponent_stands_with_its_interval_and_is_drawn(study_folder: Path):
    for name in ("pan-bpe", "variant-bpe", "ref-6mer"):
        refuse(study_folder / "fits" / f"{name}.parametric.json")
    study = read_study(study_folder)
    found = doubts.verdict(study)
    assert (found.badge, found.kind) == ("identified in 1 of 4 arms", "warn")
    assert "a = 0.488 (95 % interval 0.408 to 0.578) for ref-bpe" in found.says
    assert "not identified for 3 arms" in found.says
    assert findings.in_brief(study)[0].startswith(
        "By the law of ref-bpe, ten times the compute is best spent on 3.1 times the parameters (95 % interval 2.6 to "
        "3.8) and 3.3 times the data (2.6 to 3.9)."
    )
    drawn = laws.exponents([study]).table.filter(pl.col("method") == "parametric law")
    assert drawn.select("arm", "low", "high").rows() == [
        ("ref-bpe", pytest.approx(0.4078, abs=1e-4), pytest.approx(0.5778, abs=1e-4))
    ]


def test_arms_of_a_few_models_are_not_blamed_for_having_no_exponent(tmp_path: Path):
    study_folder = write_study(tmp_path / "beside", arms=TWO_ARMS)
    first, last = TWO_ARMS
    refuse(study_folder / "fits" / f"{last}.parametric.json")
    file = study_folder / "study.toml"
    begins = f'"{last}" = {{ '
    file.write_text(file.read_text().replace(begins, f'{begins}sizes = ["0.8M"], '))
    study = read_study(study_folder)
    assert doubts.verdict(study).badge == "identified"
    assert f"of which {last} have some, 1 seed" in " ".join(findings.what_was_run(study))
    refuse(study_folder / "fits" / f"{first}.parametric.json")
    assert f"is not identified in {first}." in doubts.verdict(read_study(study_folder)).says


def test_why_there_is_no_law_is_said(study_folder: Path):
    change(study_folder, "ref-bpe.parametric.json", status="REFUSED", warnings=["one D only"])
    change(study_folder, "pan-bpe.parametric.json", status="BOUND_HIT")
    found = doubts.verdict(read_study(study_folder))
    assert "no law could be fitted: one D only (ref-bpe)" in found.reasons
    assert "the fit did not converge (BOUND_HIT) (pan-bpe)" in found.reasons


@pytest.mark.parametrize(
    ("bounds", "says"),
    [([0.6, 0.7], "better spent on parameters"), ([0.3, 0.4], "better spent on data"), ([0.4, 0.6], "within that")],
)
def test_the_balance_follows_the_interval(study_folder: Path, bounds: list[float], says: str):
    for path in (study_folder / "fits").glob("*.parametric.json"):
        change(study_folder, path.name, intervals={"a": bounds})
    assert says in " ".join(findings.in_brief(read_study(study_folder)))


def test_a_loss_that_rises_with_data_is_told(study_folder: Path):
    table = pl.read_csv(study_folder / "observations.csv")
    worse = (pl.col("size") == "0.8M") & (pl.col("n_tokens") == 2_000_000)
    bits = pl.when(worse).then(2.5).otherwise("bits_per_base")
    table.with_columns(bits_per_base=bits).write_csv(study_folder / "observations.csv")
    made = tables(read_study(study_folder))["arms"]
    by_budget, by_size = (made.header.index(f"by {step}: falls; rises") for step in ("budget", "size"))
    assert made.rows[0][by_budget].text == "9 of 10; 1"
    assert made.rows[0][by_size].text == "11 of 12; 1"


def test_what_order_is_worth_is_told_and_blindness_warned_of(study_folder: Path):
    study = read_study(study_folder)
    made = tables(study)["arms"]
    assert made.rows[0][made.header.index("cost of reading backwards")].text == "0.080 ± 0.010"
    (warning,) = [sentence for sentence in doubts.sureness(study) if "backwards" in sentence]
    assert warning.startswith("Warning: 24 of 60 models lose less than 3 paired standard errors")
    assert "ref-bpe: 0.05M, 0.1M; pan-bpe" in warning
    assert "24 of 60 models cannot be shown to read order" in doubts.basis(study)
    table = pl.read_csv(study_folder / "observations.csv").drop("cost_reversed")
    table.write_csv(study_folder / "observations.csv")
    study = read_study(study_folder)
    assert not [sentence for sentence in doubts.sureness(study) if "backwards" in sentence]
    assert "order" not in doubts.basis(study)


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
    assert "Muennighoff" not in " ".join(doubts.limits(read_study(study_folder)))
