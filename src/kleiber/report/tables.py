"""Tables of a report: scores, laws, doubts, opponents and differences; what was run is in `provenance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from kleiber.report import provenance
from kleiber.report.cells import Cell, Table
from kleiber.report.measures import STRONGEST, differences, misfit, published, steps_along, strongest_baselines
from kleiber.report.numbers import compact, count, interval, plus_minus, signed
from kleiber.report.opponents import KINDS, count_curve, worth
from kleiber.report.reader import METHODS, Law, StudyOutput
from kleiber.report.tokenizers import EQUAL, SCORES, EqualDifference, equal_differences, unmoved

__all__ = ["Cell", "Table", "laws_side_by_side", "tables"]

ARMS = (
    "The arms, in bits per base ± s.e.; of the steps from one budget, or one size, to the next those that fall and "
    "rise by more than two standard errors"
)
ARM_COLUMNS = (
    "arm",
    "models",
    "best model",
    "its score",
    "token frequencies",
    "best chain",
    "best counts of both sides",
    "bases of counting it is worth",
    "by budget: falls; rises",
    "by size: falls; rises",
    "cost of reading backwards",
)
VERDICTS = {False: "against", None: "cannot tell", True: "for"}
INTERVALS = ("bits_per_base_intervals", "bits_per_base_intervals_se")


def tables(study: StudyOutput) -> dict[str, Table]:
    """Return every table that has rows, by name."""
    made = [
        _arms(study),
        _scores(study),
        _equal(study),
        _laws(study),
        _witnesses(study),
        _seen(study),
        _quality(study),
        _starts(study),
        _baselines(study),
        _differences(study),
        _counts(study),
    ]
    made += [provenance.models(study), provenance.observations(study), provenance.corpora(study)]
    made += [provenance.tokenizers(study), provenance.versions(study)]
    return {table.name: table for table in made if table.rows}


def laws_side_by_side(studies: Sequence[StudyOutput]) -> Table:
    """Return one row for every arm of several studies: best loss, exponent, status."""
    rows = []
    for study in studies:
        for arm in study.arms:
            points, law = study.points(arm), study.law(arm)
            scored = points.drop_nulls("bits_per_base").sort("bits_per_base")
            best = scored.row(0, named=True) if len(scored) else {}
            rows.append(
                (
                    Cell(study.name),
                    Cell(arm),
                    Cell(study.sampling(arm)),
                    Cell(study.tokenizer(arm)),
                    Cell(str(len(points)), len(points)),
                    _estimate(law, "a"),
                    Cell(law.status if law else "not fitted"),
                    Cell(_yes_no(law.is_usable) if law else "–"),
                    Cell(
                        plus_minus(best.get("bits_per_base"), best.get("bits_per_base_se")), best.get("bits_per_base")
                    ),
                    Cell(compact(best.get("flops")), best.get("flops")),
                )
            )
    law_header = ("study", "arm", "sampling", "tokenizer", "models", "a", "status", "a usable")
    header = (*law_header, "best bits/base ± s.e.", "at C (FLOPs)")
    return Table("side-by-side", "Arms of all studies: parametric law and best held-out loss", header, tuple(rows))


def _scores(study: StudyOutput) -> Table:
    """Return one row for each corpus and tokenizer: the scores of the largest model that learned, on the most data."""
    rows = []
    for arm in study.arms:
        scored = study.points(arm).drop_nulls("bits_per_base").filter(pl.col("status").ne_missing("stuck"))
        if scored.is_empty():
            continue
        last = scored.filter(pl.col("n_params") == pl.col("n_params").max())
        last = last.filter(pl.col("n_tokens") == pl.col("n_tokens").max()).sort("n_unique_bases", nulls_last=False)
        best = last.row(-1, named=True)
        floor = min((bits for bits, _ in strongest_baselines(study, arm).values()), default=None)
        bases = best["bases_per_token"]
        scores = [_score(best, f"bits_per_base{kind}") for kind in ("", "_intervals", "_variant_sites", "_soft_masked")]
        unigram = (study.baselines.get(arm) or {}).get("unigram") or {}
        scores.insert(2, _score({name: unigram.get(name) for name in INTERVALS}, INTERVALS[0]))
        rows.append(
            (
                Cell(study.sampling(arm)),
                Cell(study.tokenizer(arm)),
                Cell("–" if bases is None else f"{bases:.3f}", bases),
                Cell(best["size"], best["n_params"]),
                Cell(compact(best["n_tokens"]), best["n_tokens"]),
                *scores,
                Cell("–" if floor is None else f"{floor:.4f}", floor),
            )
        )
    known = ("corpus", "tokenizer", "bases a token", "size", "D (tokens)", "bits/base ± s.e.")
    same = ("the same bases for all", "the same by token frequencies alone")
    header = (*known, *same, "at variant sites", "in repeats", "best model without a network")
    caption = "Held-out bits per base by corpus and tokenizer: the largest model on the most data"
    return Table("scores", caption, header, tuple(rows))


def _score(row: dict[str, Any], name: str) -> Cell:
    return Cell(plus_minus(row[name], row[f"{name}_se"]), row[name])


def _arms(study: StudyOutput) -> Table:
    """Return one row an arm: its best score and its opponents', where the loss falls, and what order is worth."""
    rows = []
    for arm in study.arms:
        points = study.points(arm)
        scored = points.drop_nulls("bits_per_base").sort("bits_per_base")
        if scored.is_empty():
            rows.append((Cell(arm), Cell("0", 0), *[Cell("–")] * (len(ARM_COLUMNS) - 2)))
            continue
        best = scored.row(0, named=True)
        opponents = strongest_baselines(study, arm)
        found = worth(count_curve(study.baselines.get(arm) or {}), best["bits_per_base"])
        steps = [steps_along(study, arm, *along) for along in (("n_tokens", "size"), ("n_params", "n_tokens"))]
        rows.append(
            (
                Cell(arm),
                Cell(str(len(points)), len(points)),
                Cell(f"{best['size']}, {compact(best['n_tokens'])}", best["n_params"]),
                _score(best, "bits_per_base"),
                *(_opponent(opponents, name) for name in list(STRONGEST)[1:]),
                Cell(str(found or "–"), found.n_bases if found else None),
                *(Cell(f"{one.clear_falls} of {one.n}; {one.clear_rises}", one.clear_falls) for one in steps),
                _score(best, "cost_reversed"),
            )
        )
    return Table("arms", ARMS, ARM_COLUMNS, tuple(rows))


def _opponent(found: dict[str, tuple[float, float]], name: str) -> Cell:
    return Cell(plus_minus(*found[name]), found[name][0]) if name in found else Cell("–")


def _laws(study: StudyOutput) -> Table:
    """Return the fits of every arm, with columns of a and b where an exponent is identified, and else without."""
    rows = []
    is_open = all(study.identified(arm) is None for arm in study.arms)
    names = [name for name in ("a", "b", "alpha", "beta", "E") if not (is_open and name in ("a", "b"))]
    for arm in study.arms:
        for method in METHODS:
            law = study.law(arm, method)
            if law is None or (is_open and method != "parametric"):
                continue
            n = law.raw.get("n")
            points = Cell(str(n), n) if isinstance(n, int) else Cell("–")
            rows.append((Cell(arm), Cell(method), Cell(law.status), points, *(_estimate(law, name) for name in names)))
        original = published(study, arm)
        if original is not None and not is_open:
            a, b = (Cell(f"{line.slope:.4f} (no interval)", line.slope) for line in (original.n, original.d))
            known = (Cell(arm), Cell("original study, its rule"), Cell("–"), Cell("5", 5))
            rows.append((*known, a, b, *[Cell("–")] * 3))
    signs = {"alpha": "α", "beta": "β", "E": "E (nats/token)"}
    header = ("arm", "method", "status", "points", *(signs.get(name, name) for name in names))
    caption = "Fitted laws, L = E + A/N^α + B/D^β; in brackets 95 % intervals"
    return Table("laws", caption if is_open else f"{caption}; N_opt ∝ C^a, D_opt ∝ C^b", header, tuple(rows))


def _witnesses(study: StudyOutput) -> Table:
    """Return what each witness says of each arm's exponent: a row a witness, a column an arm."""
    says = {arm: {one["name"]: one for one in law.witnesses} for arm in study.arms if (law := study.law(arm))}
    arms = [arm for arm, found in says.items() if found]
    names = dict.fromkeys(name for arm in arms for name in says[arm])
    rows = [
        (Cell(name), *(Cell(VERDICTS[says[arm][name]["agrees"]] if name in says[arm] else "–") for arm in arms))
        for name in names
    ]
    caption = "What each witness says of the exponent a: a is usable where none speaks against it"
    return Table("witnesses", caption, ("witness", *arms), tuple(rows))


def _seen(study: StudyOutput) -> Table:
    """Return what the witnesses saw, without what would be numbers of an exponent that is refused."""
    rows = []
    for arm in study.arms:
        law = study.law(arm)
        for one in law.witnesses if law is not None else ():
            if law is not None and (law.is_usable or one.get("a") is one.get("interval") is None):
                rows.append((Cell(arm), Cell(one["name"]), Cell(VERDICTS[one["agrees"]]), Cell(one["says"])))
    return Table("seen", "What the witnesses saw", ("arm", "witness", "says of a", "what it saw"), tuple(rows))


def _quality(study: StudyOutput) -> Table:
    """Return how far points lie from their law, those that it was fitted to and those left out: a column an arm."""
    errors: dict[str, dict[str, Cell]] = {}
    arms = []
    for arm in study.arms:
        law = study.law(arm)
        found = misfit(study, law) if law is not None else None
        if law is None or found is None:
            continue
        arms.append(arm)
        errors.setdefault("none", {})[arm] = _error(*found)
        for entry in law.raw.get("holdouts") or ():
            if entry.get("error") is not None:
                cell = _error(entry["error"], entry.get("error_in_noise"))
                errors.setdefault(str(entry.get("left_out", "–")), {})[arm] = cell
    rows = tuple((Cell(name), *(of.get(arm, Cell("–")) for arm in arms)) for name, of in errors.items())
    caption = "Root mean square error of the fitted laws in nats per token, and how many times its noise that is"
    return Table("quality", caption, ("left out of the fit", *arms), rows)


def _error(error: float, ratio: float | None) -> Cell:
    return Cell(f"{error:.4f}" + ("" if ratio is None else f" ({ratio:.1f} ×)"), error)


def _starts(study: StudyOutput) -> Table:
    """Return how many starts of each fit ended at its optimum, and how far above it the next best ended."""
    rows = []
    for arm in study.arms:
        law = study.law(arm)
        settings = law.raw.get("settings") or {} if law is not None else {}
        if law is None or "starts" not in settings:
            continue
        objective, second = law.raw.get("objective"), settings.get("second_basin")
        above = 100 * (second / objective - 1) if second and objective else None
        at = settings["starts_at_optimum"]
        shown = Cell("no other" if above is None else f"{above:.3g} % above", above)
        rows.append((Cell(arm), Cell(count(settings["starts"]), settings["starts"]), Cell(f"{at:.0%}", at), shown))
    header = ("arm", "starts", "ended at the optimum", "next basin, by the objective")
    return Table("starts", "Where the starts of each parametric fit ended", header, tuple(rows))


def _estimate(law: Law | None, name: str) -> Cell:
    value = law.estimate(name) if law is not None else None
    if law is None or value is None:
        return Cell("refused" if law is not None and name in (law.raw.get("refused") or {}) else "–")
    text = interval(value, law.interval(name), level="")
    if law.is_identified(name) is False:
        text += " · not identified"
    return Cell(text, value)


def _yes_no(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "–"}[value]


def _baselines(study: StudyOutput) -> Table:
    """Return one row a model without a network, one column an arm."""
    arms = [arm for arm in study.arms if study.baselines.get(arm)]
    names = dict.fromkeys(name for arm in arms for name in study.baselines[arm])
    rows = []
    for name in names:
        entries = [study.baselines[arm].get(name) for arm in arms]
        if any(isinstance(entry, dict) for entry in entries):
            cells = [
                Cell(plus_minus(e.get("bits_per_base"), e.get("se")), e.get("bits_per_base"))
                for e in (entry or {} for entry in entries)
            ]
            rows.append((Cell(name), *cells))
    caption = "Models without a network: bits per base ± s.e. on the same held-out DNA"
    return Table("baselines", caption, ("baseline", *arms), tuple(rows))


def _counts(study: StudyOutput) -> Table:
    """Return what counts reach on the data of each budget, and the bases of counting that the best model is worth."""
    rows = []
    for arm in study.arms:
        curve = count_curve(study.baselines.get(arm) or {})
        for point in curve:
            cells = [Cell(f"{point.bits[kind]:.4f} ({point.names[kind]})", point.bits[kind]) for kind in point.bits]
            scored = study.points(arm).drop_nulls("bits_per_base").filter(pl.col("n_tokens") == point.n_tokens)
            best = scored.sort("bits_per_base").row(0, named=True) if len(scored) else None
            found = worth(curve, best["bits_per_base"]) if best else None
            network = f"{best['bits_per_base']:.4f} ({best['size']})" if best else "–"
            rows.append(
                (
                    Cell(arm),
                    Cell(compact(point.n_tokens), point.n_tokens),
                    Cell(compact(point.n_bases), point.n_bases),
                    *cells,
                    Cell(network, best["bits_per_base"] if best else None),
                    Cell(str(found or "–"), found.n_bases if found else None),
                )
            )
    header = (
        "arm",
        "D (tokens)",
        "bases",
        *(f"counts of the bases {kind}" for kind in KINDS.values()),
        "best network",
        "worth (bases of counting)",
    )
    return Table("counts", "Counts of bases, in bits per base, fitted on what the runs read", header, tuple(rows))


def _equal(study: StudyOutput) -> Table:
    """Return one row for each pair of tokenizers and each score: at equal tokens, bases and FLOPs."""
    by_pair: dict[tuple[str, str, str], dict[str, EqualDifference]] = {}
    for d in equal_differences(study):
        by_pair.setdefault((d.arm, d.other, d.score), {})[d.equal] = d
    rows = [
        (Cell(arm), Cell(other), Cell(SCORES[score]), *(_at_equal(found[equal]) for equal in EQUAL))
        for (arm, other, score), found in by_pair.items()
    ]
    header = ("arm", "minus arm", "bits/base of", *(f"at equal {name}" for name in EQUAL.values()))
    caption = (
        "Tokenizers at equal size and seed, with 95 % intervals over runs and, of masked tokens, clusters of held-out "
        "DNA. Equal tokens are more DNA where tokens are long; masked tokens also hold what the cuts between tokens "
        "give away"
    )
    shown = {arm for arm, _, _ in by_pair} | {other for _, other, _ in by_pair}
    if still := [one.words for one in unmoved(study) if one.arm in shown]:
        caption += f". The same bases do not show what was learned: {'; '.join(still)}"
    return Table("equal", caption, header, tuple(rows))


def _at_equal(d: EqualDifference) -> Cell:
    if d.mean is None:
        return Cell("no amount that both reach")
    if d.low is None or d.high is None:
        return Cell(f"{signed(d.mean)} (one run, no interval)", d.mean)
    return Cell(f"{signed(d.mean)} ({signed(d.low)} to {signed(d.high)})", d.mean)


def _differences(study: StudyOutput) -> Table:
    rows = [
        (
            Cell(d.arm),
            Cell(d.other),
            Cell(signed(d.mean), d.mean),
            Cell(f"{signed(d.low)} to {signed(d.high)}", d.low),
            Cell(str(d.n_cells), d.n_cells),
            Cell(str(d.n_runs), d.n_runs),
            Cell(str(d.n_clusters) if d.n_clusters else "–", d.n_clusters),
            Cell("yes" if d.is_clear else "no"),
        )
        for d in differences(study)
    ]
    header = ("arm", "minus arm", "bits/base", "95 % interval", "pairs", "runs each", "clusters", "clear of zero")
    return Table("differences", "Paired differences of held-out bits per base", header, tuple(rows))
