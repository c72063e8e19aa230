"""Counts beside networks, and tokenizers at equal tokens, bases and operations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kleiber.report.figures import all_figures
from kleiber.report.findings import in_brief
from kleiber.report.measures import differences, strongest_baselines
from kleiber.report.opponents import CountPoint, count_curve, worth
from kleiber.report.page import write_report
from kleiber.report.reader import read_study
from kleiber.report.tables import tables
from kleiber.report.tokenizers import equal_differences, unmoved


def counted(folder: Path, **by_bases: float) -> None:
    """Give ref-bpe a curve whose best model scores these bits with these thousands of bases."""
    baselines = json.loads((folder / "baselines.json").read_text())
    curve = []
    for name, bits in by_bases.items():
        n = 1000 * int(name[1:])
        found = {"markov-3": bits + 0.2, "markov-9": bits + 0.1, "two-sided-4": bits + 0.05, "two-sided-mean": bits}
        scores = {model: {"bits_per_base": value, "se": 0.01} for model, value in found.items()}
        curve.append({"n_rows": n // 500, "n_tokens": n // 5, "n_bases": n, "scores": scores})
    baselines["ref-bpe"] |= {**curve[-1]["scores"], "curve": curve}
    (folder / "baselines.json").write_text(json.dumps(baselines))


def points(*pairs: tuple[int, float]) -> list[CountPoint]:
    return [CountPoint(n // 5, n, {"two-sided-mean": bits}, {"two-sided-mean": "two-sided-mean"}) for n, bits in pairs]


def test_worth_by_hand():
    curve = points((1000, 1.9), (10_000, 1.8), (100_000, 1.7))
    for bits, log_bases in ((1.9, 3), (1.85, 3.5), (1.8, 4), (1.75, 4.5), (1.7, 5)):
        found = worth(curve, bits)
        assert (math.log10(found.n_bases), found.bound) == (pytest.approx(log_bases), "")
    assert str(worth(curve, 1.95)) == "fewer than 1k"
    assert str(worth(curve, 1.6)) == "more than 100k"
    assert worth([], 1.8) is None


def test_worth_where_more_data_do_not_help():
    curve = points((1000, 1.9), (10_000, 1.8), (100_000, 1.82), (1_000_000, 1.7))
    assert worth(curve, 1.85).n_bases == pytest.approx(10**3.5)
    assert worth(curve, 1.8).n_bases == pytest.approx(10_000)
    assert 100_000 < worth(curve, 1.75).n_bases < 1_000_000


def test_the_report_shows_counts_beside_networks(study_folder: Path):
    study = read_study(study_folder)
    without = {one.name for one in all_figures(study)}
    assert "counts" not in tables(study)
    counted(study_folder, k100=1.95, k1000=1.75, k10000=1.60)
    study = read_study(study_folder)
    assert {one.name for one in all_figures(study)} - without == {"counts.ref-bpe"}
    table = next(one for one in all_figures(study) if one.name == "counts.ref-bpe").table
    assert len(table.filter(pl.col("kind") == "counts")) == 9
    assert len(table.filter(pl.col("kind") == "model")) == 15
    assert set(table.filter(pl.col("kind") == "counts")["model"]) == {"markov-9", "two-sided-4", "two-sided-mean"}
    assert strongest_baselines(study, "ref-bpe")["best counts of both sides"] == (1.60, 0.01)
    first = next(one for one in all_figures(study) if one.name == "bits-compute").table
    drawn = first.filter((pl.col("arm") == "ref-bpe") & (pl.col("opponent") == "best counts of both sides"))
    assert drawn["bits_per_base"].to_list() == [1.60, 1.60]  # 2M tokens; less than the least budget is not drawn
    best = study.points("ref-bpe").sort("bits_per_base").row(0, named=True)
    found = worth(count_curve(study.baselines["ref-bpe"]), best["bits_per_base"])
    arms = tables(study)["arms"]
    assert arms.rows[0][arms.header.index("bases of counting it is worth")].text == str(found)
    assert [row[0].text for row in tables(study)["counts"].rows] == ["ref-bpe"] * 3
    page = write_report(study_folder).read_text()
    assert "Counts of bases, in bits per base, fitted on what the runs read" in page
    assert "bases of counting" in page


def test_tokenizers_at_equal_tokens_bases_and_operations(study_folder: Path):
    """Losses that are straight lines over the log of each amount differ by what the lines differ."""
    path = study_folder / "observations.csv"
    table = pl.read_csv(path)
    slopes = {"ref-bpe": (2.9, -0.05), "ref-6mer": (3.1, -0.06)}

    def line(arm: str, column: str) -> pl.Expr:
        a, b = slopes[arm]
        return a + b * pl.col(column).log()

    for equal, name in (("n_tokens", "tokens"), ("n_bases", "bases"), ("flops", "FLOPs")):
        of = pl.when(pl.col("arm") == "ref-bpe").then(line("ref-bpe", equal)).otherwise(line("ref-6mer", equal))
        table.with_columns(bits_per_base=of, bits_per_base_intervals=of + 0.1).write_csv(path)
        study = read_study(study_folder)
        found = {(d.arm, d.other, d.equal, d.score): d for d in equal_differences(study)}
        assert {key[:2] for key in found} == {("ref-bpe", "ref-6mer")}
        assert len(found) == 6
        d = found["ref-bpe", "ref-6mer", equal, "bits_per_base"]
        expected = []
        for size in study.sizes:
            amounts = [
                np.sort(study.points(arm).filter(pl.col("size") == size)[equal].to_numpy())
                for arm in ("ref-bpe", "ref-6mer")
            ]
            low, high = max(a[0] for a in amounts), min(a[-1] for a in amounts)
            x = np.unique(np.concatenate(amounts))
            x = np.log(x[(x >= low) & (x <= high)])
            expected.append(np.mean(-0.2 + 0.01 * x))
        assert d.mean == pytest.approx(np.mean(expected), abs=1e-9), name
        assert d.n_runs == 5
        assert d.low <= d.mean <= d.high
        made = tables(study)["equal"]
        assert [row[2].text for row in made.rows] == ["masked tokens", "the same bases for all"]
        assert made.rows[0][made.header.index(f"at equal {name}")].value == pytest.approx(d.mean)


def test_at_equal_tokens_intervals_are_those_of_arms_in_pairs(study_folder: Path):
    """Budgets in common leave nothing to interpolate; without nats by cluster the runs alone are left."""
    found = []
    for _ in range(2):
        study = read_study(study_folder)
        pair = next(d for d in differences(study) if (d.arm, d.other) == ("ref-bpe", "ref-6mer"))
        equal = next(d for d in equal_differences(study) if d.equal == "n_tokens")
        assert (equal.mean, equal.low, equal.high) == pytest.approx((pair.mean, pair.low, pair.high))
        found.append(equal)
        (study_folder / "clusters.csv").unlink(missing_ok=True)
    assert found[0].mean == found[1].mean
    assert found[0].low != pytest.approx(found[1].low, abs=1e-6)


def test_amounts_that_do_not_meet_are_not_compared(study_folder: Path):
    path = study_folder / "observations.csv"
    table = pl.read_csv(path)
    far = pl.when(pl.col("arm") == "ref-6mer").then(100 * pl.col("n_bases")).otherwise(pl.col("n_bases"))
    table.with_columns(n_bases=far).write_csv(path)
    study = read_study(study_folder)
    made = tables(study)["equal"]
    assert made.rows[0][made.header.index("at equal bases")].text == "no amount that both reach"
    assert len(equal_differences(study)) == 3  # nothing is known of the same bases for all


@pytest.mark.parametrize("shown", [1.0, 0.2, 0.05, -0.1])
def test_a_score_that_does_not_follow_what_is_learned_decides_nothing(study_folder: Path, shown: float):
    """BPE learns by masked tokens; of that so much shows on the same bases, where 6-mers show all."""
    path = study_folder / "observations.csv"
    learned = 0.1 * pl.col("n_tokens").log(2)
    share = pl.when(pl.col("arm") == "ref-bpe").then(shown).otherwise(1.0)
    behind = pl.when(pl.col("arm") == "ref-bpe").then(0.0).otherwise(0.05)
    pl.read_csv(path).with_columns(
        bits_per_base=4.0 - learned + behind, bits_per_base_intervals=2.0 + behind - share * learned
    ).write_csv(path)
    study = read_study(study_folder)
    found = {one.arm: one for one in unmoved(study)}
    said = next(text for text in in_brief(study) if text.startswith("Between tokenizers"))
    caption = tables(study)["equal"].caption
    if shown > 0.1:
        assert not found
        assert "on the same bases, at equal size and compute" in said
        assert "do not show" not in caption
        return
    assert list(found) == ["ref-bpe"]
    runs = study.points("ref-bpe").group_by("size", "seed").agg(pl.col("n_tokens").max() / pl.col("n_tokens").min())
    gain = 0.1 * np.log2(runs["n_tokens"]).mean()
    assert found["ref-bpe"].masked == pytest.approx(gain)
    assert found["ref-bpe"].same_bases == pytest.approx(shown * gain)
    assert "on masked tokens, at equal size and compute, ref-bpe below ref-6mer" in said
    assert found["ref-bpe"].words in said
    assert found["ref-bpe"].words in caption


def test_what_learned_nothing_is_not_judged_by_it(study_folder: Path):
    path = study_folder / "observations.csv"
    flat = 1.95 - 0.002 * pl.col("n_tokens").log(2)
    pl.read_csv(path).with_columns(bits_per_base=flat, bits_per_base_intervals=2.0).write_csv(path)
    assert unmoved(read_study(study_folder)) == []
