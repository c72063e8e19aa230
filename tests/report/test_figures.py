"""Figures: which there are, that they draw their table, that the files land."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kleiber.report import certainty, laws, runs
from kleiber.report.figures import all_figures
from kleiber.report.reader import read_study
from kleiber.report.style import _log_ticks
from report.synthetic import ARMS, LAW, SIZES, TOKENS, law


def test_each_figure_is_svg_png_and_csv(finished: Path):
    names = [one.name for one in all_figures(read_study(finished))]
    assert len(names) == len(set(names)) == 22
    for name in names:
        svg = (finished / "figs" / f"{name}.svg").read_text()
        assert svg.startswith("<svg")
        assert svg.count("<path") > 3
        assert (finished / "figs" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(pl.read_csv(finished / "figs" / f"{name}.csv", infer_schema=False)) > 0


def test_every_point_of_the_table_is_drawn(finished: Path):
    svg = (finished / "figs" / "loss-tokens.ref-bpe.svg").read_text()
    marks = svg.split('aria-roledescription="symbol mark container"')
    assert sum(part.split("</g>")[0].count('role="graphics-symbol"') for part in marks[1:]) >= len(SIZES) * len(TOKENS)


def test_the_law_is_drawn_where_it_was_made(study_folder: Path):
    table = runs.loss_tokens(read_study(study_folder), "ref-bpe").table
    drawn = table.filter((pl.col("kind") == "law") & (pl.col("size") == "0.4M"))
    assert drawn["loss"].to_numpy() == pytest.approx([law(400_000, d) for d in drawn["n_tokens"]])


def test_optima_of_the_parametric_law_have_its_slope(study_folder: Path):
    study = read_study(study_folder)
    a = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    for figure, slope in ((laws.n_flops, a), (laws.d_flops, 1 - a)):
        table = figure(study, "ref-bpe").table
        line = table.filter((pl.col("kind") == "line") & (pl.col("method") == "parametric law"))
        found = np.polyfit(np.log(line["flops"]), np.log(line["value"]), 1)[0]
        assert found == pytest.approx(slope)
        assert (line["low"] <= line["value"]).all()
        assert (line["value"] <= line["high"]).all()


def test_the_published_line_is_the_published_line(study_folder: Path):
    table = laws.n_flops(read_study(study_folder), "ref-6mer").table
    line = table.filter(pl.col("kind") == "published")
    slope, intercept = np.polyfit(np.log10(line["flops"]), np.log10(line["value"]), 1)
    assert (slope, intercept) == pytest.approx((0.8074, -7.1502))


def test_a_refused_law_draws_no_line(study_folder: Path):
    table = laws.n_flops(read_study(study_folder), "ref-bpe").table
    assert "IsoFLOP" not in table["method"].to_list()


def test_residuals_are_relative_to_the_arms_own_law(study_folder: Path):
    study = read_study(study_folder)
    table = certainty.residuals(study)[0].table.filter(pl.col("kind") == "point")
    assert len(table) == 60
    points = study.points("ref-6mer")
    expected = [
        100 * (loss / law(n, d, 1.2) - 1)
        for n, d, loss in points.select("n_params_non_embedding", "n_tokens", "loss").iter_rows()
    ]
    assert table.filter(pl.col("arm") == "ref-6mer")["residual"].to_list() == pytest.approx(expected)


def test_what_was_left_out_in_bits_per_base(study_folder: Path):
    table = certainty.holdouts(read_study(study_folder)).table
    assert set(table["left_out"]) == {"largest N", "largest C"}
    law_errors = table.filter((pl.col("guess") == "the law") & (pl.col("left_out") == "largest N"))
    assert law_errors["bits"].to_list() == pytest.approx([0.01 / np.log(2) / bases for _, _, bases in ARMS.values()])


def test_which_pays_more_and_where_they_balance(study_folder: Path):
    table = laws.elasticity_map(read_study(study_folder), "ref-bpe").table
    cells = table.filter(pl.col("kind") == "cell")
    assert cells["gap"].to_list() == pytest.approx([0.03, 0.005, 0.03, 0.005])
    assert cells["verdict"].to_list() == ["data pay more", "within noise"] * 2
    assert table.filter(pl.col("kind") == "balance")["n"].to_list() == [7e4, 3e5]


def test_curves_keep_their_mean_and_their_end(study_folder: Path):
    study = read_study(study_folder)
    curve = next(c for c in study.curves if c.run == "ref-bpe.0.8M")
    table = runs.loss_curves(study, "ref-bpe", "steps").table
    drawn = table.filter((pl.col("run") == "ref-bpe.0.8M") & (pl.col("kind") == "trunk"))
    steps = curve.steps.filter((pl.col("phase") == "trunk") & (pl.col("step") >= 0.02 * curve.steps["step"].max()))
    assert drawn["steps"].max() == steps["step"].max()
    assert len(drawn) <= runs.POINTS_PER_CURVE
    assert drawn["loss"].max() <= steps["loss"].max()
    assert drawn["loss"].min() >= steps["loss"].min()


@pytest.mark.parametrize(("low", "high"), [(5.7, 6.3), (11.4, 13.1), (0.0, 2.7), (-1, 12), (3.0, 3.05)])
def test_ticks_are_few_and_inside(low: float, high: float):
    ticks = np.log10(_log_ticks(low, high))
    assert len(ticks) <= 10
    assert ((ticks >= low - 1e-9) & (ticks <= high + 1e-9)).all()


def test_figures_without_data_are_left_out(study_folder: Path):
    (study_folder / "baselines.json").unlink()
    for path in (study_folder / "fits").glob("*.json"):
        path.unlink()
    names = [one.name for one in all_figures(read_study(study_folder))]
    assert not any(name.startswith(("exponents", "residuals", "N-flops", "D-flops")) for name in names)
    assert {f"loss-tokens.{arm}" for arm in ARMS} | {"bits-compute"} <= set(names)


def test_figures_of_a_kind_stand_together_and_share_their_caption(study_folder: Path):
    drawn = [one for one in all_figures(read_study(study_folder)) if one.group == "By arm"]
    kinds = [one.name.partition(".")[0] for one in drawn]
    assert [kind for kind, _ in groupby(kinds)] == ["loss-tokens", "elasticity", "loss-flops", "loss-steps"]
    assert len({one.caption for one in drawn}) == 3  # training losses have one, over compute and over steps
