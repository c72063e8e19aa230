"""Tables of a report: cells of text with a value to sort by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kleiber.report.measures import differences, misfit, published, strongest_baselines
from kleiber.report.numbers import compact, count, interval, plus_minus, signed
from kleiber.report.opponents import KINDS, count_curve, worth
from kleiber.report.reader import METHODS, Law, StudyOutput

__all__ = ["Cell", "Table", "laws_side_by_side", "tables"]

INTERVALS = ("bits_per_base_intervals", "bits_per_base_intervals_se")


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, and the number it sorts by (its text when there is none)."""

    text: str
    value: float | None = None

    @property
    def kind(self) -> str:
        """How the cell may break: at blanks when it is long, anywhere when it is one long word."""
        if max(map(len, self.text.split()), default=0) > 24:
            return "token"
        return "long" if len(self.text) > 40 else ""


@dataclass(frozen=True)
class Table:
    """One sortable table."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(study: StudyOutput) -> dict[str, Table]:
    """Return every table that has rows, by name."""
    made = [
        _scores(study),
        _laws(study),
        _witnesses(study),
        _quality(study),
        _starts(study),
        _baselines(study),
        _differences(study),
        _counts(study),
    ]
    made += [_models(study), _observations(study), _corpora(study), _tokenizers(study), _versions(study)]
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


def _laws(study: StudyOutput) -> Table:
    rows = []
    for arm in study.arms:
        for method in METHODS:
            law = study.law(arm, method)
            if law is None:
                continue
            estimates = [_estimate(law, name) for name in ("a", "b", "alpha", "beta", "E")]
            notes = "; ".join(law.warnings) or "–"
            n = law.raw.get("n")
            points = Cell(str(n), n) if isinstance(n, int) else Cell("–")
            rows.append((Cell(arm), Cell(method), Cell(law.status), points, *estimates, Cell(notes)))
        original = published(study, arm)
        if original is not None:
            a, b = (Cell(f"{line.slope:.4f} (no interval)", line.slope) for line in (original.n, original.d))
            blank = Cell("–")
            note = Cell("original study: its own rule, 15M to 230M parameters, 97,656 steps")
            rows.append((Cell(arm), Cell("published"), Cell("–"), Cell("5", 5), a, b, blank, blank, blank, note))
    header = ("arm", "method", "status", "points", "a", "b", "α", "β", "E (nats/token)", "what the fit says")
    caption = "Fitted laws: N_opt ∝ C^a, D_opt ∝ C^b, L = E + A/N^α + B/D^β; in brackets 95 % intervals"
    return Table("laws", caption, header, tuple(rows))


def _witnesses(study: StudyOutput) -> Table:
    """Return what each witness says of an arm's exponent, those that speak against it first."""
    rows = []
    for arm in study.arms:
        law = study.law(arm)
        order = {False: 0, None: 1, True: 2}
        for one in sorted(law.witnesses if law is not None else (), key=lambda one: order[one["agrees"]]):
            verdict = {False: "against", None: "cannot tell", True: "for"}[one["agrees"]]
            rows.append((Cell(arm), Cell(one["name"]), Cell(verdict), Cell(one["says"])))
    caption = "Whether the exponent a may be repeated: every witness, and a is usable where none speaks against it"
    return Table("witnesses", caption, ("arm", "witness", "says of a", "what it saw"), tuple(rows))


def _quality(study: StudyOutput) -> Table:
    rows = []
    for arm in study.arms:
        law = study.law(arm)
        found = misfit(study, law) if law is not None else None
        if law is None or found is None:
            continue
        spread, ratio = found
        rows.append((Cell(arm), Cell("its own points"), *_error(spread, ratio)))
        for entry in law.raw.get("holdouts") or ():
            if entry.get("error") is not None:
                left_out = Cell(f"left out: {entry.get('left_out', '–')}")
                rows.append((Cell(arm), left_out, *_error(entry["error"], entry.get("error_in_noise"))))
    header = ("arm", "points", "root mean square error (nats/token)", "over its noise")
    return Table(
        "quality",
        "How well the fitted laws meet the points they were fitted to, and those left out",
        header,
        tuple(rows),
    )


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


def _error(error: float, ratio: float | None) -> tuple[Cell, Cell]:
    return Cell(f"{error:.4f}", error), Cell("–" if ratio is None else f"{ratio:.1f}", ratio)


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
    rows = []
    for arm, entries in study.baselines.items():
        for name, entry in entries.items():
            if isinstance(entry, dict) and isinstance(entry.get("bits_per_base"), int | float):
                bits = entry["bits_per_base"]
                rows.append((Cell(str(arm)), Cell(str(name)), Cell(plus_minus(bits, entry.get("se")), bits)))
    header = ("arm", "baseline", "bits/base ± s.e.")
    return Table("baselines", "Models without a network, on the same held-out DNA", header, tuple(rows))


def _counts(study: StudyOutput) -> Table:
    """Return what counts reach on the data of each budget, and the bases of counting that the best model is worth."""
    rows = []
    for arm in study.arms:
        curve = count_curve(study, arm)
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


def _models(study: StudyOutput) -> Table:
    names = {"layers": "layers", "hidden": "hidden", "heads": "heads", "vocab_size": "vocabulary"}
    present = [name for name in names if name in study.observations.columns]
    kept = ["tokenizer", "size", *present, "n_params", "n_params_non_embedding"]
    unique = study.observations.select(kept).unique(maintain_order=True).sort("tokenizer", "n_params")
    rows = []
    for row in unique.iter_rows(named=True):
        numbers = [row[name] for name in (*present, "n_params", "n_params_non_embedding")]
        cells = [Cell(_whole(value), _number(value)) for value in numbers]
        rows.append((Cell(str(row["tokenizer"] or "–")), Cell(row["size"]), *cells))
    header = ("tokenizer", "size", *(names[name] for name in present), "parameters", "without embeddings")
    return Table("models", "Models", header, tuple(rows))


def _observations(study: StudyOutput) -> Table:
    rows = []
    for arm in study.arms:
        for row in study.points(arm).iter_rows(named=True):
            rows.append(
                (
                    Cell(arm),
                    Cell(row["size"], row["n_params"]),
                    Cell(_whole(row["seed"]), row["seed"]),
                    Cell(count(row["n_params"]), row["n_params"]),
                    Cell(count(row["n_tokens"]), row["n_tokens"]),
                    Cell("–" if row["epochs"] is None else f"{row['epochs']:.2f}", row["epochs"]),
                    Cell(compact(row["flops"]), row["flops"]),
                    Cell("–" if row["peak_lr"] is None else f"{row['peak_lr']:.2g}", row["peak_lr"]),
                    Cell(plus_minus(row["loss"], row["loss_se"]), row["loss"]),
                    Cell(plus_minus(row["bits_per_base"], row["bits_per_base_se"]), row["bits_per_base"]),
                    Cell(row["status"] or "–"),
                )
            )
    run_header = ("arm", "size", "seed", "N (total)", "D (tokens)", "epochs", "C (FLOPs)", "peak lr")
    header = (*run_header, "loss ± s.e. (nats/token)", "bits/base ± s.e.", "status")
    return Table("observations", "Every annealed model", header, tuple(rows))


def _corpora(study: StudyOutput) -> Table:
    arms = [arm for arm in study.corpora if isinstance(study.corpora[arm], dict)]
    keys = dict.fromkeys(key for arm in arms for key, value in _flat(study.corpora[arm]) if _is_plain(value))
    lines = {arm: dict(_flat(study.corpora[arm])) for arm in arms}
    rows = tuple((Cell(key), *(Cell(_show(lines[arm].get(key))) for arm in arms)) for key in keys)
    return Table("corpora", "Corpora, as they describe themselves", ("quantity", *arms), rows)


def _versions(study: StudyOutput) -> Table:
    rows = []
    for source, value in (("study", study.manifest), ("machine", study.machine)):
        value = dict(value or {})
        for entry in (value.pop("inputs", None) or {}).values():  # by name: where it lay is nobody's business
            if isinstance(entry, dict) and "sha256" in entry:
                text = f"{_show(entry.get('size'))} bytes, SHA-256 {entry['sha256']}"
                rows.append((Cell("input"), Cell(str(entry.get("name", "–"))), Cell(text)))
        rows += [(Cell(source), Cell(key), Cell(_show(entry))) for key, entry in _flat(value) if _is_plain(entry)]
    return Table("versions", "Versions, fingerprints, machine", ("from", "key", "value"), tuple(rows))


def _tokenizers(study: StudyOutput) -> Table:
    keys = dict.fromkeys(key for one in study.tokenizers.values() for key, value in _flat(one) if _is_plain(value))
    rows = [
        (Cell(name), *(Cell(_show(dict(_flat(one)).get(key))) for key in keys))
        for name, one in study.tokenizers.items()
    ]
    return Table("tokenizers", "Tokenizers, measured on the training DNA", ("tokenizer", *keys), tuple(rows))


def _flat(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested tables with dotted keys; lists stay whole."""
    for key, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", entry


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list) or len(str(value)) <= 300


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_show(entry) for entry in value)
    return str(value)


def _whole(value: Any) -> str:
    return "–" if value is None else str(value) if isinstance(value, str) else count(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
