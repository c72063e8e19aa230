"""Each witness by itself, at numbers on both sides of what it allows: what it says, and the exponent that it names."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from kleiber.scaling import witnesses
from kleiber.scaling.cuts import Refit
from kleiber.scaling.fit import NARROW
from kleiber.scaling.misfit import UNLIKELY, Finding
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.witnesses import Witness, agree, examine

LAW = FitResult(
    method="parametric",
    form="chinchilla",
    status="CONVERGED",
    n=40,
    estimates={"a": 0.5},
    intervals={"a": [0.45, 0.55], "b": [0.45, 0.55]},
    identified={"E": True, "alpha": True, "beta": True, "a": True},
)
VALLEYS = FitResult(
    method="isoflop",
    form="parabola",
    status="CONVERGED",
    n=40,
    estimates={"a": 0.52, "b": 0.48},
    intervals={"a": [0.48, 0.56], "b": [0.44, 0.52]},
    optima=({}, {}, {}),
    settings={"budgets": [1, 2, 3, 4], "budgets_of": "the range of C"},
)
REFIT = Refit("the largest N", 5, 0.5, 0.01, 0.02, 0.01, 0.001, 0.001, 0.01, 0.02)


def observations(sizes: int = 6, amounts: int = 5, **columns: pl.Expr) -> Observations:
    N, D = (x.ravel() for x in np.meshgrid(1e6 * 2.0 ** np.arange(sizes), 1e8 * 3.0 ** np.arange(amounts)))
    table = pl.DataFrame({"N": N, "D": D, "loss": 2 + N**-0.1 + D**-0.1, "annealed": True})
    return Observations.of(table.with_columns(**columns))


def test_design_needs_five_sizes_and_four_amounts():
    assert witnesses._design(observations(5, 4)).agrees is True
    few_sizes, few_amounts = witnesses._design(observations(4, 4)), witnesses._design(observations(5, 3))
    assert (few_sizes.agrees, few_amounts.agrees) == (False, False)
    assert few_sizes.says.startswith("4 sizes over × 8 and 4 amounts of data over × 27")
    assert few_amounts.says.startswith("5 sizes over × 16 and 3 amounts of data over × 9")


@pytest.mark.parametrize(
    ("status", "flat", "agrees", "says"),
    [
        ("CONVERGED", [], True, "the parametric fit gives 0.450 to 0.550"),
        ("BOUND_HIT", [], False, "and its status is BOUND_HIT"),
        ("CONVERGED", ["alpha"], False, "in which α is not identified"),
        ("CONVERGED", ["alpha", "a"], False, "in which α, a are not identified"),
        ("MAX_ITER", ["alpha"], False, "and its status is MAX_ITER"),
    ],
)
def test_the_parametric_fit_has_to_converge_and_know_its_exponents(status, flat, agrees, says):
    found = witnesses._parametric(replace(LAW, status=status), flat, [0.45, 0.55])
    assert found.agrees is agrees
    assert found.says.endswith(says)
    assert (found.a, found.interval) == (0.5, [0.45, 0.55])


@pytest.mark.parametrize(
    ("low", "high", "agrees"),
    [(0.56, 0.60, False), (0.55, 0.60, True), (0.40, 0.45, True), (0.40, 0.44, False), (0.47, 0.50, True)],
)
def test_other_counts_have_to_meet_the_luck_of_the_fit(low, high, agrees):
    """Of all points alone, and where the table counts them at all."""
    counted = replace(observations(), counted=observations().N * 2)
    rows = [{"a": a, "N": "as counted", "cut": "all points"} for a in (low, high)]
    others = [{"a": 0.9, "N": "C / 6D", "cut": "all points"}, {"a": 0.9, "N": "as counted", "cut": "the largest N"}]
    (found,) = witnesses._other_count(counted, rows + others, [0.45, 0.55])
    assert found.agrees is agrees
    assert found.interval == [low, high]
    assert witnesses._other_count(observations(), rows, [0.45, 0.55]) == []


def test_choices_may_widen_the_interval_up_to_what_decides_nothing():
    luck, spread = [0.45, 0.55], [0.44, 0.56]
    assert witnesses._choices(spread, [0.4, 0.4 + NARROW - 0.01], luck).agrees is True
    assert witnesses._choices(spread, [0.4, 0.4 + NARROW + 0.01], luck).agrees is False
    assert witnesses._choices(spread, [0.3, 0.7], [0.35, 0.65]).agrees is True  # luck alone is as wide
    assert witnesses._choices(spread, [0.25, 0.5], [0.25, 0.25 + NARROW]).agrees is False
    assert witnesses._choices(spread, [0.3, 0.7], luck).interval == spread


@pytest.mark.parametrize(
    ("low", "high", "agrees"),
    [
        (0.48, 0.56, True),
        (0.55, 0.60, True),
        (0.40, 0.45, True),
        (0.56, 0.60, False),
        (0.40, 0.44, False),
        (0.50, 0.5 + 2 * NARROW, True),
        (0.50, 0.51 + 2 * NARROW, None),
    ],
)
def test_isoflop_agrees_where_the_intervals_meet_and_cannot_tell_where_it_is_wide(low, high, agrees):
    found = witnesses._isoflop(replace(VALLEYS, intervals={"a": [low, high]}), [0.45, 0.55])
    assert found.agrees is agrees
    assert "from 3 of 4 valleys" in found.says
    assert (found.a, found.interval) == (0.52, [low, high])
    assert ("the parametric fit 0.450 to 0.550" in found.says) == (agrees is False)


def test_isoflop_without_an_interval_cannot_tell():
    found = witnesses._isoflop(replace(VALLEYS, intervals={}, optima=({},)), [0.45, 0.55])
    assert (found.agrees, found.a) == (None, None)
    assert "1 of 4 valleys have both sides" in found.says
    assert "0 of 0" in witnesses._isoflop(FitResult("isoflop", "parabola", "REFUSED", 0), [0.45, 0.55]).says


@pytest.mark.parametrize("name", ["pattern", "second seeds"])
def test_luck_that_is_unlikely_speaks_against(name, monkeypatch):
    def verdict(*probabilities: float) -> list[Witness]:
        found = [Finding(f"by {p}", p, 0.02) for p in probabilities]
        monkeypatch.setattr(witnesses, "patterns" if name == "pattern" else "lack_of_fit", lambda _: found)
        return [witnesses._patterns(None)] if name == "pattern" else witnesses._replicates(None)

    (found,) = verdict(UNLIKELY / 2, 0.5)
    assert found.agrees is False
    assert f"by {UNLIKELY / 2}" in found.says
    assert f"p = {UNLIKELY / 2:.1g}" in found.says
    assert "2 % of the loss" in found.says or "0.02 times" in found.says
    (found,) = verdict(UNLIKELY, 0.5)
    assert found.agrees is True
    assert "p = " not in found.says
    if name == "pattern":
        assert verdict()[0].agrees is True
    else:
        assert verdict(0.5, UNLIKELY / 2)[0].agrees is False  # in any order
        assert verdict() == []


def test_sizes_may_lie_off_the_law_by_what_luck_allows(monkeypatch):
    for ratio, agrees in ((witnesses.BETWEEN, True), (witnesses.BETWEEN + 0.1, False)):
        monkeypatch.setattr(witnesses, "between_sizes", lambda _, ratio=ratio: (ratio, "at N = 1e6"))
        (found,) = witnesses._sizes(None)
        assert found.agrees is agrees
        assert f"by {ratio**0.5:.2g} times" in found.says
        assert ("most at N = 1e6" in found.says) == (not agrees)
    monkeypatch.setattr(witnesses, "between_sizes", lambda _: (9.0, ""))
    assert witnesses._sizes(None) == []


@pytest.mark.parametrize(
    ("change", "cut", "held"),
    [
        ({}, True, True),
        ({"moved": 0.0329}, True, True),
        ({"moved": -0.0329}, True, True),
        ({"moved": 0.034}, False, True),
        ({"moved": -0.034}, False, True),
        ({"error": 0.003}, True, True),
        ({"error": 0.0031}, True, False),
        ({"error": 0.002, "nearest": 0.0019}, True, False),  # a naive guess is nearer
        ({"error": 0.002, "nearest": 0.002}, True, True),
        ({"error": 0.002, "line": 0.0019}, True, False),
        ({"error": 0.002, "line": None}, True, True),
        ({"error": 0.002, "line": None, "nearest": 0.0019}, True, False),
        ({"error": 0.0015, "nearest": 0.001}, True, True),  # by luck
        ({"error": 0.0016, "nearest": 0.001}, True, False),
        ({"error": 0.004, "nearest": 0.001}, True, False),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_edges_that_move_a_or_are_missed(change, cut, held, first):
    """The worst of all edges is named, wherever it stands."""
    one = REFIT._replace(left_out="the least D", a=0.53, **change)
    calm = REFIT._replace(moved=0.001, error=0.0001)
    found = witnesses._refitted([one, calm] if first else [calm, one])
    assert [(w.name, w.agrees) for w in found] == [("cuts", cut), ("hold-outs", held)]
    share = abs(one.moved) / one.allowed
    assert found[0].says == (
        f"without the least D a moves by {one.moved:+.3f} to 0.530, {share:.2g} times what luck allows"
    )
    assert found[0].a == 0.53
    assert found[1].says.startswith(f"the least D, left out, is missed by {one.error:.2g} nats, ")
    naive = not held and one.error <= witnesses.MISSED * one.luck
    assert found[1].says.endswith(
        "further than a naive guess" if naive else f"{one.error / one.luck:.2g} times what luck allows"
    )


def test_nothing_left_out_cannot_tell():
    (found,) = witnesses._refitted([])
    assert found.agrees is None


def test_the_interval_of_a_cut_is_that_of_a_share():
    assert witnesses._interval(REFIT) == pytest.approx((0.5 - 0.0196, 0.5 + 0.0196))
    assert witnesses._interval(REFIT._replace(spread=0.5)) == (0.0, 1.0)
    exact = REFIT._replace(moved=-1e-3, allowed=0.0, luck=0.0, error=1e-3)
    assert witnesses._share(exact) == pytest.approx(1e9)
    assert "1e+09 times" in witnesses._refitted([exact])[1].says


@pytest.mark.parametrize(("form", "says"), [("delayed", "a delay of 0.25 in D"), ("joint", "γ = 0.25")])
def test_a_form_that_leaves_half_as_much_is_another_law(form, says):
    worse = {"form": "delayed", "objective": 0.9, "law": 1.0, "adds": 1.0, "a": 0.1}
    other = {"form": form, "objective": 0.49, "law": 1.0, "adds": 0.25, "a": 0.4}
    for rows in ([other, worse], [worse, other]):
        found = witnesses._forms(rows)
        assert (found.agrees, found.a) == (False, 0.4)
        assert says in found.says
        assert "leaves 0.49 of what the law leaves" in found.says
        assert f"--form {form}" in found.settles
    assert witnesses._forms([{**other, "objective": 0.5}, worse]).agrees is True


def test_data_that_were_repeated_or_not_annealed():
    assert witnesses._data(observations()) == []
    assert witnesses._data(observations(unique_tokens=pl.col("D") / 4)) == []
    (found,) = witnesses._data(observations(unique_tokens=pl.col("D") / 5))
    assert (found.name, found.agrees) == ("repeats", False)
    assert "up to 5 times" in found.says
    (found,) = witnesses._data(observations(annealed=pl.lit(False)))
    assert (found.name, found.agrees) == ("schedule", False)


def test_the_verdict_has_reasons_first_then_silence_and_each_remedy_once():
    sound, silent = Witness("design", True, "fine", "no need"), Witness("IsoFLOP", None, "cannot tell", "more sizes")
    bad, worse = Witness("cuts", False, "moves", "longer"), Witness("hold-outs", False, "missed", "longer")
    bare = Witness("sizes", False, "off")
    assert witnesses._verdict([sound, silent]) == []
    assert witnesses._verdict([silent, bad, sound, worse]) == [
        "a is not usable: moves; missed; cannot tell",
        "what would settle it: longer",
    ]
    assert witnesses._verdict([bare]) == ["a is not usable: off"]


EXAMINED = replace(
    LAW,
    usable=True,
    settings={"interval_of_luck": [0.45, 0.55]},
    intervals={"a": [0.42, 0.57]},
    witnesses=({"name": "design", "agrees": True, "says": "fine"},),
)
OWN = replace(VALLEYS, settings={"budgets_of": "the table"})


def test_minima_are_as_unsure_as_the_law():
    """What choices add to the interval of luck they add to the minima's."""
    found = agree(VALLEYS, EXAMINED)
    assert found.usable
    assert found.identified["a"]
    assert found.intervals["a"] == pytest.approx([0.48 - 0.03, 0.56 + 0.02])
    assert found.intervals["b"] == VALLEYS.intervals["b"]
    wide = replace(EXAMINED, intervals={"a": [0.0, 1.0]})
    assert agree(replace(VALLEYS, intervals={"a": [0.3, 0.7]}), wide).intervals["a"] == [0.0, 1.0]
    at = replace(EXAMINED, settings={"interval_of_luck": [0.42, 0.57]})
    assert agree(replace(VALLEYS, intervals={"a": [0.4, 0.4 + NARROW - 1e-9]}), at).usable
    wider = agree(replace(VALLEYS, intervals={"a": [0.4, 0.41 + NARROW]}), at)
    assert not wider.usable
    assert "is wider than 0.2" in wider.warnings[0]


def test_minima_of_budgets_of_their_own_need_no_law():
    """But points that are sound, and a parametric fit that does not contradict them."""
    doubted = replace(
        EXAMINED,
        usable=False,
        intervals={"a": [0.56, 0.7]},
        witnesses=({"name": "pattern", "agrees": False, "says": "a pattern"},),
    )
    found = agree(OWN, doubted)
    assert found.usable
    assert found.intervals == OWN.intervals
    assert not agree(OWN, replace(doubted, intervals={"a": [0.57, 0.7]})).usable
    assert agree(OWN, replace(doubted, intervals={"a": [0.3, 0.48]})).usable
    against = agree(OWN, replace(doubted, intervals={"a": [0.3, 0.47]}))
    assert "it gives 0.480 to 0.560, and the parametric fit 0.300 to 0.470" in against.warnings[0]
    assert agree(OWN, replace(doubted, intervals={})).usable
    for name, says in (("repeats", "read ten times"), ("schedule", "not annealed")):
        rows = ({"name": name, "agrees": False, "says": says}, {"name": "sizes", "agrees": False, "says": "off"})
        refused = agree(OWN, replace(doubted, witnesses=rows))
        assert not refused.usable
        assert refused.warnings[0] == f"a is not usable: {says}"
        assert agree(OWN, replace(doubted, witnesses=({**rows[0], "agrees": None},))).usable


def test_minima_share_the_doubts_about_the_law():
    rows = (
        {"name": "sizes", "agrees": False, "says": "off"},
        {"name": "cuts", "agrees": None, "says": "cannot tell"},
    )
    refused = agree(VALLEYS, replace(EXAMINED, usable=False, witnesses=rows))
    assert (refused.usable, refused.identified["a"]) == (False, False)
    assert refused.warnings == ("a is not usable: off",)
    assert refused.intervals == VALLEYS.intervals
    unasked = replace(EXAMINED, usable=False, witnesses=(), warnings=("first", "too few sizes"))
    assert agree(VALLEYS, unasked).warnings[0] == "a is not usable: too few sizes"
    assert agree(VALLEYS, replace(unasked, warnings=())).warnings[0] == "a is not usable: no law was fitted"
    assert not agree(replace(VALLEYS, status="BOUND_HIT"), EXAMINED).usable
    nothing = FitResult("isoflop", "parabola", "REFUSED", 0)
    assert agree(nothing, EXAMINED) == nothing


def test_what_no_witness_is_asked_about():
    """Another form has none, a fit without an interval neither; what was refused stays as it is."""
    points = observations()
    for other in (replace(LAW, status="REFUSED"), replace(LAW, method="isoflop")):
        assert examine(other, points) is other
    joint = examine(replace(LAW, form="joint"), points)
    assert joint.identified == {**LAW.identified, "a": False}
    assert joint.warnings == (
        "a is not usable: nothing vouches for it; witnesses are asked about the law itself, --form chinchilla",
    )
    assert examine(replace(LAW, intervals={}), points).warnings == ("a is not usable: nothing vouches for it",)


FORM = {"form": "delayed", "objective": 0.9, "law": 1.0, "adds": 1.0, "a": 0.5}
PROFILE = SimpleNamespace(is_identified=True, values=(0.4, 0.5), rise=(1.0, 0.0))


@pytest.fixture
def measured(monkeypatch):
    """Let what witnesses look at be what a test says: choices of a, refits, flat profiles, repeats of a pattern."""

    def put(choices=(0.47, 0.53), without=(), flat=(), pattern=0.5):
        rows = [{"a": a, "N": "as counted", "cut": "all points"} for a in choices]
        flat_one = SimpleNamespace(is_identified=False, values=(), rise=())
        for name, value in {
            "fit_best": lambda *_: (None, None),
            "profile": lambda _, key, delta: flat_one if key in flat else PROFILE,
            "other_forms": lambda *_: [FORM],
            "band": lambda *_: rows,
            "refits": lambda *_: list(without),
            "Residuals": SimpleNamespace(of=lambda *_: None),
            "patterns": lambda _: [Finding("by N", pattern, 0.01)],
            "lack_of_fit": lambda _: [],
            "between_sizes": lambda _: (0.0, ""),
            "holdout": lambda _, delta: [{"delta": delta}],
        }.items():
            monkeypatch.setattr(witnesses, name, value)
        return examine(replace(LAW, settings={"delta": 0.01}, warnings=("first",)), observations(), VALLEYS)

    return put


def test_nothing_against_a(measured):
    found = measured()
    assert found.usable
    assert found.identified == LAW.identified
    assert found.intervals == {"a": [0.45, 0.55], "b": [1 - 0.55, 1 - 0.45]}
    assert found.warnings == ("first",)
    assert found.settings == {"delta": 0.01, "band_of_choices": [0.47, 0.53], "interval_of_luck": [0.45, 0.55]}
    assert [one["name"] for one in found.witnesses] == [
        "design", "parametric", "IsoFLOP", "pattern", "cuts", "forms", "choices",
    ]  # fmt: skip
    assert "from 3 of 4 valleys" in found.witnesses[2]["says"]  # of the result that was given
    assert found.holdouts == ({"delta": 0.01},)
    assert found.profiles["a"] == {"values": [0.4, 0.5], "rise": [1.0, 0.0]}


def test_the_interval_holds_luck_choices_and_doubtful_cuts(measured):
    """A cut is doubtful that moves a by more than twice what luck allows."""
    assert measured((0.43, 0.53)).intervals["a"] == [0.43, 0.55]
    assert measured((0.47, 0.58)).intervals == {"a": [0.45, 0.58], "b": [1 - 0.58, 1 - 0.45]}
    calm = REFIT._replace(a=0.3, moved=0.02)  # twice, and no more
    doubtful = REFIT._replace(a=0.6, moved=0.021)
    for still in (calm, calm._replace(moved=0.01)):
        assert measured(without=[still]).intervals["a"] == [0.45, 0.55]
    assert measured(without=[calm, doubtful]).intervals["a"] == pytest.approx([0.45, 0.6 + 1.96 * 0.01])
    below = REFIT._replace(a=0.4, moved=-0.021)
    assert measured(without=[below]).intervals["a"] == pytest.approx([0.4 - 1.96 * 0.01, 0.55])


def test_a_flat_profile_or_a_wrong_law_leaves_nothing_known(measured):
    flat = measured(flat=("alpha",))
    assert not flat.usable
    assert flat.identified == {"E": True, "alpha": False, "beta": True, "a": False}
    assert flat.warnings[0].startswith("a is not usable: the parametric fit gives 0.450 to 0.550, in which α is not")
    wrong = measured(pattern=UNLIKELY / 2)
    assert not any(wrong.identified.values())
    assert wrong.intervals["a"] == [0.45, 0.55]
    wide = measured((0.3, 0.6))  # too unsure a to be used, and the law's parameters are known
    assert wide.identified == {**LAW.identified, "a": False}
    assert wide.warnings[-1] == "first"
