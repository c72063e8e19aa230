"""Tables of what was run: models, observations, corpora, tokenizers, versions; as the study's files have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kleiber.report.cells import Cell, Table
from kleiber.report.numbers import compact, count, plus_minus
from kleiber.report.reader import StudyOutput

__all__ = ["corpora", "models", "observations", "tokenizers", "versions"]


def models(study: StudyOutput) -> Table:
    """Return the shape and the parameters of each size, by tokenizer."""
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


def observations(study: StudyOutput) -> Table:
    """Return one row an annealed model."""
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


def corpora(study: StudyOutput) -> Table:
    """Return what the corpora say of themselves, a column an arm."""
    arms = [arm for arm in study.corpora if isinstance(study.corpora[arm], dict)]
    keys = dict.fromkeys(key for arm in arms for key, value in _flat(study.corpora[arm]) if _is_plain(value))
    lines = {arm: dict(_flat(study.corpora[arm])) for arm in arms}
    rows = tuple((Cell(key), *(Cell(_show(lines[arm].get(key))) for arm in arms)) for key in keys)
    return Table("corpora", "Corpora, as they describe themselves", ("quantity", *arms), rows)


def versions(study: StudyOutput) -> Table:
    """Return versions, fingerprints and facts of the machine."""
    rows = []
    for source, value in (("study", study.manifest), ("machine", study.machine)):
        value = dict(value or {})
        for entry in (value.pop("inputs", None) or {}).values():  # by name: where it lay is nobody's business
            if isinstance(entry, dict) and "sha256" in entry:
                text = f"{_show(entry.get('size'))} bytes, SHA-256 {entry['sha256']}"
                rows.append((Cell("input"), Cell(str(entry.get("name", "–"))), Cell(text)))
        rows += [(Cell(source), Cell(key), Cell(_show(entry))) for key, entry in _flat(value) if _is_plain(entry)]
    return Table("versions", "Versions, fingerprints, machine", ("from", "key", "value"), tuple(rows))


def tokenizers(study: StudyOutput) -> Table:
    """Return what the tokenizers measured on the training DNA."""
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
