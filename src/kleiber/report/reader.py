"""Read a finished, or half finished, study folder into one frozen object.

Everything a report shows comes from here, and everything here comes from files: a report can be made again years
later, on another machine, without the code that trained the models. Files that are not there yet become entries of
`StudyOutput.missing`, never errors: a report on half a study says what it lacks. Damaged files are errors.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from kleiber.errors import DataError

__all__ = ["METHODS", "Curve", "Law", "StudyOutput", "read_study"]

METHODS = ("parametric", "isoflop", "envelope", "gradient-rule")
REQUIRED = ("arm", "size", "n_params", "n_tokens", "loss", "flops")
OPTIONAL = {
    "run": pl.String,
    "corpus": pl.String,
    "tokenizer": pl.String,
    "n_params_non_embedding": pl.Int64,
    "n_effective": pl.Float64,
    "n_bases": pl.Int64,
    "n_unique_bases": pl.Int64,
    "epochs": pl.Float64,
    "steps": pl.Int64,
    "peak_lr": pl.Float64,
    "seed": pl.Int64,
    "annealed": pl.Boolean,
    "loss_se": pl.Float64,
    "bits_per_base": pl.Float64,
    "bits_per_base_se": pl.Float64,
    "bits_per_base_intervals": pl.Float64,
    "bits_per_base_intervals_se": pl.Float64,
    "bits_per_base_variant_sites": pl.Float64,
    "bits_per_base_variant_sites_se": pl.Float64,
    "bits_per_base_soft_masked": pl.Float64,
    "bits_per_base_soft_masked_se": pl.Float64,
    "cost_reversed": pl.Float64,
    "cost_reversed_se": pl.Float64,
    "cost_shuffled": pl.Float64,
    "cost_shuffled_se": pl.Float64,
    "cost_complement": pl.Float64,
    "cost_complement_se": pl.Float64,
    "eval_set": pl.String,
    "bases_per_token": pl.Float64,
    "status": pl.String,
}
CLUSTERS = {
    "run": pl.String,
    "steps": pl.Int64,
    "contig": pl.String,
    "start": pl.Int64,
    "n_bases": pl.Float64,
    "nats": pl.Float64,
}


@dataclass(frozen=True)
class Curve:
    """The training log of one run: one row a logged step, phase by phase."""

    run: str
    arm: str
    size: str
    seed: int
    steps: pl.DataFrame


@dataclass(frozen=True)
class Law:
    """One fitted law as `kleiber.scaling` wrote it; unknown keys are kept in `raw`."""

    arm: str
    method: str
    raw: dict[str, Any]

    @property
    def status(self) -> str:
        """One word: CONVERGED, BOUND_HIT, MAX_ITER or REFUSED."""
        return str(self.raw.get("status") or "UNKNOWN")

    @property
    def has_converged(self) -> bool:
        """Whether the fit ended where a fit should: neither refused, nor on a bound, nor short of iterations."""
        return self.status == "CONVERGED"

    @property
    def is_usable(self) -> bool:
        """Whether the exponent a may be repeated: witnesses were asked, and none speaks against it."""
        return self.raw.get("usable") is True and self.has_converged

    @property
    def witnesses(self) -> tuple[dict[str, Any], ...]:
        """What each witness says of a; none where they were not asked."""
        return tuple(self.raw.get("witnesses") or ())

    @property
    def verdict(self) -> str:
        """The sentence that says why a is not usable; empty where it is, or where nobody was asked."""
        return next((w for w in self.warnings if w.startswith("a is not usable")), "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the fit says against itself."""
        return tuple(str(w) for w in self.raw.get("warnings") or ())

    def estimate(self, name: str) -> float | None:
        """Return one estimate, or None where the method gives none."""
        value = (self.raw.get("estimates") or {}).get(name)
        return float(value) if isinstance(value, int | float) else None

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the interval of one estimate, or None where there is none."""
        bounds = (self.raw.get("intervals") or {}).get(name)
        if not isinstance(bounds, list | tuple) or len(bounds) != 2 or None in bounds:
            return None
        return float(bounds[0]), float(bounds[1])

    def is_identified(self, name: str) -> bool | None:
        """Say whether the data determine one parameter; None where the fit does not say."""
        value = (self.raw.get("identified") or {}).get(name)
        return value if isinstance(value, bool) else None


@dataclass(frozen=True)
class StudyOutput:
    """All that a study's folder holds, as far as a report needs it.

    Attributes
    ----------
    study
        The parsed study file.
    observations
        Annealed points first and only; `REQUIRED` columns are there, `OPTIONAL` ones may be all null.
    clusters
        Nats and bases of each model (run and steps) by cluster of held-out DNA; no rows where they were not kept.
    laws
        ``{arm: {method: Law}}``.
    extra
        ``{name: JSON}`` of further files in ``fits/`` that belong to no single arm and method.
    missing
        What a finished study would hold and this folder does not, as phrases for the reader.
    """

    folder: Path
    study: dict[str, Any]
    study_text: str
    observations: pl.DataFrame
    clusters: pl.DataFrame
    laws: dict[str, dict[str, Law]]
    extra: dict[str, Any]
    curves: tuple[Curve, ...]
    corpora: dict[str, Any]
    baselines: dict[str, Any]
    checklist: tuple[dict[str, Any], ...] | None
    machine: dict[str, Any] | None
    manifest: dict[str, Any] | None
    tokenizers: dict[str, Any]
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the study, or of its folder."""
        return str(self.study.get("study", {}).get("name") or self.folder.name)

    @property
    def title(self) -> str:
        """The title for a reader, or the name."""
        return str(self.study.get("study", {}).get("title") or self.name)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the order of the study file, then those that only the table knows."""
        listed = list(self.study.get("arms", {}))
        return tuple(dict.fromkeys(listed + self.observations["arm"].unique(maintain_order=True).to_list()))

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes, smallest model first."""
        order = self.observations.group_by("size").agg(pl.col("n_params").min()).sort("n_params")
        planned = [str(size) for size in self.study.get("ladder", {}).get("sizes", [])]
        seen = order["size"].to_list()
        return tuple(seen + [size for size in planned if size not in seen])

    def sampling(self, arm: str) -> str:
        """How the windows of an arm were drawn: reference, pangenome or variant."""
        return str(self.study.get("arms", {}).get(arm, {}).get("sampling") or self._column(arm, "corpus") or "unknown")

    def tokenizer(self, arm: str) -> str:
        """The tokenizer of an arm as the study names it."""
        spec = self.study.get("arms", {}).get(arm, {}).get("tokenizer") or self._column(arm, "tokenizer")
        return str(spec or "unknown")

    def law(self, arm: str, method: str = "parametric") -> Law | None:
        """Return the fit of an arm by one method, if it was made."""
        return self.laws.get(arm, {}).get(method)

    def identified(self, arm: str) -> Law | None:
        """Return the fit of an arm whose exponent a may be repeated: the parametric one first, then IsoFLOP."""
        laws = (self.law(arm, method) for method in ("parametric", "isoflop"))
        return next((law for law in laws if law is not None and law.is_usable and law.interval("a")), None)

    def is_beside(self, arm: str) -> bool:
        """Say whether an arm is trained at some models of the ladder only, to be compared."""
        asked = self.study.get("arms", {}).get(arm, {})
        return bool(asked.get("sizes") or asked.get("tokens"))

    def points(self, arm: str) -> pl.DataFrame:
        """Return the annealed observations of one arm, small models and budgets first."""
        return self.observations.filter(pl.col("arm") == arm).sort("n_params", "n_tokens", "seed")

    def fitted(self, arm: str) -> pl.DataFrame:
        """Return the points of one arm that laws are fitted to: of runs that learned, on the most unique data."""
        points = self.points(arm)
        learned = points.filter(pl.col("status").ne_missing("stuck"))
        fresh = pl.col("n_unique_bases").fill_null(0)
        return (points if learned.is_empty() else learned).filter(fresh == fresh.max())

    def _column(self, arm: str, name: str) -> Any:
        values = self.observations.filter(pl.col("arm") == arm)[name].drop_nulls()
        return values[0] if len(values) else None


def read_study(out: Path) -> StudyOutput:
    """Read a study's output folder.

    Raises
    ------
    DataError
        When `out` is no study's folder, or a file in it is damaged.
    """
    out = Path(out)
    missing: list[str] = []
    text_path = out / "study.toml"
    if not text_path.is_file():
        raise DataError(
            f"{out} holds no study: there is no study.toml in it.\n  Name the output folder of `kleiber run`."
        )
    text = text_path.read_text(encoding="utf-8")
    try:
        study = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{text_path} is damaged: {error}.") from error
    observations = _observations(out, missing)
    laws, extra = _laws(out)
    curves = _curves(out)
    if not curves:
        missing.append("training curves (runs/*/metrics.jsonl)")
    for arm in study.get("arms", {}):
        absent = [method for method in METHODS if method not in laws.get(arm, {})]
        if absent:
            missing.append(f"fits of {arm} by {', '.join(absent)}")
    checklist = _json(out / "checklist.json", missing, "checklist (checklist.json)")
    return StudyOutput(
        folder=out,
        study=study,
        study_text=text,
        observations=observations,
        clusters=_clusters(out),
        laws=laws,
        extra=extra,
        curves=curves,
        corpora=_json(out / "corpora.json", missing, "description of the corpora (corpora.json)") or {},
        baselines=_json(out / "baselines.json", missing, "baselines (baselines.json)") or {},
        checklist=None if checklist is None else tuple(checklist),
        machine=_json(out / "machine.json", missing, "description of the machine (machine.json)"),
        manifest=_json(out / "manifest.json", [], "") or _json(out / "genome" / "manifest.json", [], ""),
        tokenizers={
            path.parent.name: _json(path, [], "") for path in sorted((out / "tokenizer").glob("*/manifest.json"))
        },
        missing=tuple(missing),
    )


def _json(path: Path, missing: list[str], what: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        missing.append(what)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.\n  Delete it and run the study again.") from error
    return None


def _observations(out: Path, missing: list[str]) -> pl.DataFrame:
    """Read the annealed rows of the table; an absent table is an empty one."""
    path = out / "observations.csv"
    empty = {"arm": pl.String, "size": pl.String, "loss": pl.Float64, "flops": pl.Float64}
    types = {**empty, "n_params": pl.Int64, "n_tokens": pl.Int64, **OPTIONAL}
    if not path.is_file():
        missing.append("observations (observations.csv)")
        return pl.DataFrame(schema=types)
    try:
        table = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no CSV table: {error}.") from error
    absent = [name for name in REQUIRED if name not in table.columns]
    if absent:
        raise DataError(f"{path} lacks the columns {', '.join(absent)}.\n  It has {', '.join(table.columns)}.")
    table = table.with_columns(pl.lit(None, pl.String).alias(c) for c in types if c not in table.columns)
    table = table.with_columns(_typed(name, kind) for name, kind in types.items())
    return table.filter(pl.col("annealed").fill_null(True) & pl.col("loss").is_finite().fill_null(False))


def _clusters(out: Path) -> pl.DataFrame:
    """Read the nats by cluster; a study of an earlier version has none, and then differences are between runs only."""
    path = out / "clusters.csv"
    if not path.is_file() or not path.stat().st_size:
        return pl.DataFrame(schema=CLUSTERS)
    try:
        return pl.read_csv(path, schema_overrides=CLUSTERS).select(*CLUSTERS)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no CSV table of clusters: {error}.") from error


def _typed(name: str, kind: Any) -> pl.Expr:
    column = pl.col(name)
    if kind == pl.Boolean:
        return column.str.to_lowercase().is_in(["true", "1"]).fill_null(True).alias(name)
    if kind == pl.Int64:  # a count may be printed as 2e6
        return column.cast(pl.Float64, strict=False).round().cast(pl.Int64).alias(name)
    return column.cast(kind, strict=False).alias(name)


def _laws(out: Path) -> tuple[dict[str, dict[str, Law]], dict[str, Any]]:
    """Read ``fits/<arm>.<method>.json``; an arm may have dots in its name, a method has none."""
    laws: dict[str, dict[str, Law]] = {}
    extra: dict[str, Any] = {}
    for path in sorted((out / "fits").glob("*.json")):
        value = _json(path, [], "")
        arm, _, method = path.stem.rpartition(".")
        if arm and isinstance(value, dict) and "estimates" in value:
            laws.setdefault(arm, {})[method] = Law(arm, method, value)
        else:
            extra[path.stem] = value
    return laws, extra


def _curves(out: Path) -> tuple[Curve, ...]:
    curves = []
    for path in sorted((out / "runs").glob("*/metrics.jsonl")):
        manifest = _json(path.with_name("manifest.json"), [], "") or {}
        if not {"arm", "size"} <= manifest.keys():
            continue  # still running: the manifest lands last
        steps = _metrics(path)
        if len(steps):
            run = str(manifest.get("run", path.parent.name))
            curves.append(Curve(run, str(manifest["arm"]), str(manifest["size"]), int(manifest.get("seed", 0)), steps))
    return tuple(curves)


def _metrics(path: Path) -> pl.DataFrame:
    names = ("step", "loss", "lr", "n_tokens", "flops")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            rows.append({"phase": str(entry.get("phase", "trunk")), **{name: entry.get(name) for name in names}})
        except (ValueError, AttributeError) as error:
            raise DataError(f"{path} is damaged in line {number}: {error}.") from error
    schema = {"phase": pl.String, **dict.fromkeys(names, pl.Float64)}
    table = pl.DataFrame(rows, schema=schema, strict=False)
    return table.filter(pl.col("loss").is_not_null() & pl.col("loss").is_finite() & pl.col("step").is_not_null())
