"""Whether an exponent may be repeated: every witness is asked, and a is usable only where none speaks against it.

A fit tells how luck moves a. It cannot tell that the law is wrong, that the table is too short, or that runs at one of
its ends were trained badly; then its interval is narrow and misses. Each of those leaves a trace of its own, and each
witness looks for one. A witness speaks for a (True), against it (False), or cannot tell (None).
Rejected: a score that weighs the witnesses, in which nine that see nothing outvote the one that saw the fault.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from kleiber.scaling.band import band, other_forms
from kleiber.scaling.cuts import Refit, refits
from kleiber.scaling.fit import NARROW
from kleiber.scaling.holdouts import fit_best, holdout
from kleiber.scaling.misfit import UNLIKELY, Residuals, between_sizes, lack_of_fit, patterns
from kleiber.scaling.observations import Observations
from kleiber.scaling.result import FitResult
from kleiber.scaling.uncertainty import PROFILED, profile
from kleiber.scaling.valleys import isoflop

__all__ = ["Witness", "agree", "examine"]

NOT_USABLE = "a is not usable"
OF_DATA = ("repeats", "schedule")  # witnesses that speak of the points, whatever is fitted to them
OF_LAW = {"pattern", "second seeds", "sizes", "cuts", "hold-outs", "forms"}  # against one of them no parameter is known
SIZES, AMOUNTS = 5, 4  # that a table has at least
EPOCHS = 4.0  # up to which repeated data count as new (Muennighoff et al. 2023, arXiv:2305.16264)
BETWEEN = 3.0  # times the variance that luck of runs allows between sizes
MOVED = 3.3  # standard deviations of a, without an edge of the table
DOUBTFUL = 2.0  # and from which on the interval of a holds that of the cut too
MISSED = 3.0  # units of luck, of points that were left out
LUCKY = 1.5  # units of luck: nearer than that, a naive guess that is nearer still has won by luck
BETTER = 0.5  # of the law's objective, where a form that contains it is another law


@dataclass(frozen=True)
class Witness:
    """What one witness says of a.

    Attributes
    ----------
    agrees
        True for, False against, None when it cannot tell.
    says, settles
        A sentence each: what was seen, and which runs would settle it.
    a, interval
        The exponent that this witness gives, where it gives one.
    """

    name: str
    agrees: bool | None
    says: str
    settles: str = ""
    a: float | None = None
    interval: list[float] | None = None


def examine(result: FitResult, observations: Observations, valleys: FitResult | None = None) -> FitResult:
    """Ask the witnesses about a parametric fit: `identified` of a is their verdict.

    Parameters
    ----------
    valleys
        The IsoFLOP result of the same points; computed where it is not given.

    Returns
    -------
    The result with `witnesses`, `usable`, profiles and hold-outs. The interval of a holds that of luck
    (``settings["interval_of_luck"]``), the band of choices (``settings["band_of_choices"]``), and those of cuts that
    move a by more than twice what luck allows: they may be right, and all points together wrong.
    """
    if result.status == "REFUSED" or result.method != "parametric":
        return result
    if result.form != "chinchilla" or "a" not in result.intervals:
        known = {**result.identified, "a": False}
        asked = "" if result.form == "chinchilla" else "; witnesses are asked about the law itself, --form chinchilla"
        return replace(
            result, identified=known, warnings=(f"{NOT_USABLE}: nothing vouches for it{asked}", *result.warnings)
        )
    delta = float(result.settings["delta"])
    fitted, _ = fit_best(observations, delta)
    valleys = isoflop(observations) if valleys is None else valleys
    profiles = {key: profile(observations, key, delta=delta) for key in PROFILED}
    known = {
        key: value and (key not in profiles or profiles[key].is_identified) for key, value in result.identified.items()
    }
    forms = other_forms(observations, delta)
    choices = band(observations, delta, forms)
    spread = [min(row["a"] for row in choices), max(row["a"] for row in choices)]
    luck = result.intervals["a"]
    residuals = Residuals.of(observations, fitted)
    without = refits(observations, fitted, residuals)
    doubtful = [value for one in without if _share(one) > DOUBTFUL for value in _interval(one)]
    wide = [min(luck[0], spread[0], *doubtful), max(luck[1], spread[1], *doubtful)]
    flat = [key for key in ("alpha", "beta", "a") if not known[key]]
    witnesses = [
        _design(observations),
        _parametric(result, flat, luck),
        *_other_count(observations, choices, luck),
        _isoflop(valleys, luck),
        _patterns(residuals),
        *_replicates(residuals),
        *_sizes(residuals),
        *_refitted(without),
        _forms(forms),
        _choices(spread, wide, luck),
        *_data(observations),
    ]
    against = {one.name for one in witnesses if one.agrees is False}
    known["a"] = not against
    if against & OF_LAW:
        known = dict.fromkeys(known, False)
    return replace(
        result,
        identified=known,
        usable=known["a"],
        intervals=result.intervals | {"a": wide, "b": [1 - wide[1], 1 - wide[0]]},
        witnesses=tuple(asdict(one) for one in witnesses),
        warnings=(*_verdict(witnesses), *result.warnings),
        settings=result.settings | {"band_of_choices": spread, "interval_of_luck": luck},
        profiles={key: {"values": list(one.values), "rise": list(one.rise)} for key, one in profiles.items()},
        holdouts=tuple(holdout(observations, delta=delta)),
    )


def agree(result: FitResult, examined: FitResult) -> FitResult:
    """Return an IsoFLOP result under the verdict on the same points.

    A table that was made for IsoFLOP, with budgets of its own, is judged without the law: its minima need no form. They
    have to agree with the parametric fit all the same, and what is wrong with the data is wrong with them.
    """
    if result.status == "REFUSED":
        return result
    is_own = result.settings.get("budgets_of") == "the table"
    low, high = result.intervals["a"]
    if not is_own and examined.usable:  # choices and doubtful edges move the minima as they move the law
        luck, wide = examined.settings["interval_of_luck"], examined.intervals["a"]
        low, high = max(low - luck[0] + wide[0], 0.0), min(high - luck[1] + wide[1], 1.0)
        result = replace(result, intervals=result.intervals | {"a": [low, high]})
    doubts = [f"its interval, {low:.3f} to {high:.3f}, is wider than {NARROW:g}"] if high - low > NARROW else []
    if is_own:
        doubts += [one["says"] for one in examined.witnesses if one["name"] in OF_DATA and one["agrees"] is False]
        other = examined.intervals.get("a")
        if other is not None and not (low <= other[1] and other[0] <= high):
            doubts.append(f"it gives {low:.3f} to {high:.3f}, and the parametric fit {other[0]:.3f} to {other[1]:.3f}")
    elif not examined.usable:
        doubts += [one["says"] for one in examined.witnesses if one["agrees"] is False]
        doubts += [] if examined.witnesses else [examined.warnings[-1] if examined.warnings else "no law was fitted"]
    usable = result.status == "CONVERGED" and not doubts
    warnings = (f"{NOT_USABLE}: {'; '.join(doubts)}", *result.warnings) if doubts else result.warnings
    return replace(result, identified={**result.identified, "a": usable}, usable=usable, warnings=warnings)


def _verdict(witnesses: list[Witness]) -> list[str]:
    """Return the reasons first, in one sentence, and what would settle them in another."""
    against = [one for one in witnesses if one.agrees is False]
    if not against:
        return []
    silent = [one.says for one in witnesses if one.agrees is None]
    said = [f"{NOT_USABLE}: " + "; ".join([one.says for one in against] + silent)]
    settles = list(dict.fromkeys(one.settles for one in against if one.settles))
    return said + (["what would settle it: " + "; ".join(settles)] if settles else [])


def _design(observations: Observations) -> Witness:
    sizes, amounts = len(np.unique(observations.N)), len(np.unique(observations.D))
    levers = [float(v.max() / v.min()) for v in (observations.N, observations.D)]
    says = f"{sizes} sizes over × {levers[0]:.3g} and {amounts} amounts of data over × {levers[1]:.3g}"
    if sizes < SIZES or amounts < AMOUNTS:
        says += f", where at least {SIZES} and {AMOUNTS} are needed"
        return Witness("design", False, says, "more sizes and amounts of data, over a factor of 100 and 40")
    return Witness("design", True, says)


def _parametric(result: FitResult, flat: list[str], luck: list[float]) -> Witness:
    a, (low, high) = result.estimates["a"], luck
    says = f"the parametric fit gives {low:.3f} to {high:.3f}"
    agrees = result.status == "CONVERGED" and not flat
    if result.status != "CONVERGED":
        says += f", and its status is {result.status}"
    elif flat:
        names = {"alpha": "α", "beta": "β", "a": "a"}
        says += f", in which {', '.join(names[key] for key in flat)} {'is' if len(flat) == 1 else 'are'} not identified"
    return Witness("parametric", agrees, says, "a wider range of N and D, and second seeds", a, luck)


def _other_count(observations: Observations, choices: list[dict[str, Any]], luck: list[float]) -> list[Witness]:
    if observations.counted is None:
        return []
    values = [row["a"] for row in choices if row["N"] == "as counted" and row["cut"] == "all points"]
    low, high = min(values), max(values)
    says = f"with N as the table counts it a is {low:.3f} to {high:.3f}"
    agrees = low <= luck[1] and luck[0] <= high
    return [
        Witness("other counts", agrees, says, "larger models, of which embeddings are a small part", None, [low, high])
    ]


def _choices(spread: list[float], wide: list[float], luck: list[float]) -> Witness:
    says = f"a runs from {spread[0]:.3f} to {spread[1]:.3f} by form, δ, count and cut"
    is_wider = wide[1] - wide[0] > NARROW >= luck[1] - luck[0]
    return Witness("choices", not is_wider, says, "a wider range of N and D", None, spread)


def _isoflop(valleys: FitResult, luck: list[float]) -> Witness:
    asked, found = len(valleys.settings.get("budgets", ())), len(valleys.optima)
    if "a" not in valleys.intervals:
        says = f"IsoFLOP cannot tell: {found} of {asked} valleys have both sides"
        return Witness("IsoFLOP", None, says, "smaller and larger models at the same budgets")
    a, (low, high) = valleys.estimates["a"], valleys.intervals["a"]
    says = f"IsoFLOP gives {low:.3f} to {high:.3f} from {found} of {asked} valleys"
    if low <= luck[1] and luck[0] <= high:
        return Witness("IsoFLOP", True if high - low <= 2 * NARROW else None, says, "", a, [low, high])
    return Witness(
        "IsoFLOP",
        False,
        f"{says}, and the parametric fit {luck[0]:.3f} to {luck[1]:.3f}",
        "smaller and larger models at the same budgets",
        a,
        [low, high],
    )


def _patterns(residuals: Residuals) -> Witness:
    found = patterns(residuals)
    if found and found[0].probability < UNLIKELY:
        one = found[0]
        size = f"{100 * one.spread:.2g} % of the loss, p = {one.probability:.1g}"
        says = f"the residuals follow a pattern {one.pattern} ({size})"
        return Witness(
            "pattern", False, says, "the runs of that pattern again, with rate, warm-up, batch and schedule checked"
        )
    return Witness("pattern", True, "the residuals follow no pattern by N and D")


def _replicates(residuals: Residuals) -> list[Witness]:
    found = lack_of_fit(residuals)
    if not found:
        return []
    worst = min(found, key=lambda one: one.probability)
    says = f"residuals {worst.pattern} are {worst.spread:.2g} times those of second seeds"
    return [
        Witness(
            "second seeds",
            worst.probability >= UNLIKELY,
            says + ("" if worst.probability >= UNLIKELY else f" (p = {worst.probability:.1g})"),
            "runs of one shape rule, with their rates tuned",
        )
    ]


def _sizes(residuals: Residuals) -> list[Witness]:
    ratio, where = between_sizes(residuals)
    if not where:
        return []
    says = f"sizes lie off the law by {np.sqrt(ratio):.2g} times what luck of runs allows"
    if ratio > BETWEEN:
        return [
            Witness(
                "sizes", False, f"{says}, most {where}", "second seeds, or sizes of one shape rule with tuned rates"
            )
        ]
    return [Witness("sizes", True, says)]


def _refitted(found: list[Refit]) -> list[Witness]:
    if not found:
        return [Witness("cuts", None, "no edge of the table can be left out")]
    moved = max(found, key=_share)
    share = _share(moved)
    says = (
        f"without the {_name(moved)} a moves by {moved.moved:+.3f} to {moved.a:.3f}, {share:.2g} times what luck allows"
    )
    missed = max(found, key=lambda one: one.error / max(one.luck, 1e-12))
    units = missed.error / max(missed.luck, 1e-12)
    held = f"the {_name(missed)}, left out, is missed by {missed.error:.2g} nats, {units:.2g} times what luck allows"
    lost = [
        one
        for one in found
        if one.error > min(one.nearest, one.line if one.line is not None else np.inf) and one.error > LUCKY * one.luck
    ]
    if lost and units <= MISSED:
        held = f"the {_name(lost[0])}, left out, is missed by {lost[0].error:.2g} nats, further than a naive guess"
    edge = "a table that goes further at that end"
    return [
        Witness("cuts", share <= MOVED, says, edge, moved.a),
        Witness("hold-outs", units <= MISSED and not lost, held, edge),
    ]


def _share(one: Refit) -> float:
    """Return how far a moved, in standard deviations of such a move."""
    return abs(one.moved) / max(one.allowed, 1e-12)


def _interval(one: Refit) -> tuple[float, float]:
    """Return the 95 % interval of a without some points."""
    return max(one.a - 1.96 * one.spread, 0.0), min(one.a + 1.96 * one.spread, 1.0)


def _name(one: Refit) -> str:
    return one.left_out.removeprefix("the ")


def _forms(fitted: list[dict[str, Any]]) -> Witness:
    found = min(fitted, key=lambda row: row["objective"])
    adds = {"delayed": f"a delay of {found['adds']:.3g} in D", "joint": f"γ = {found['adds']:.3g}"}[found["form"]]
    if found["objective"] < BETTER * found["law"]:
        left = found["objective"] / found["law"]
        says = f"a form with {adds} leaves {left:.2g} of what the law leaves, and its a is {found['a']:.3f}"
        return Witness("forms", False, says, f"--form {found['form']}, and runs at the least data again", found["a"])
    return Witness("forms", True, "no form that contains the law is much better")


def _data(observations: Observations) -> list[Witness]:
    found = []
    if observations.unique is not None and (epochs := float((observations.D / observations.unique).max())) > EPOCHS:
        says = f"data were read up to {epochs:.3g} times, and the law counts each reading as new"
        found.append(Witness("repeats", False, says, "--form data-constrained, or points of at most four epochs"))
    if not observations.annealed:
        says = "no point is annealed, and losses of unfinished runs lie above those of finished ones"
        found.append(Witness("schedule", False, says, "a cooldown at each amount of data"))
    return found
