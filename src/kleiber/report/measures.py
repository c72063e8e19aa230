"""Numbers that figures, tables and sentences share, computed once from the study's tables and fitted laws.

Fitting itself is done elsewhere (`kleiber.scaling`); here a law that was fitted is only evaluated, and arms are only
subtracted from each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kleiber.report.reader import Law, StudyOutput
from kleiber.scaling.pairs import error_of, influence
from kleiber.scaling.quantiles import student

__all__ = [
    "PUBLISHED",
    "PUBLISHED_FLOPS",
    "STRONGEST",
    "Difference",
    "Paired",
    "PowerLaw",
    "Published",
    "Steps",
    "differences",
    "frontier",
    "half_width",
    "is_far",
    "misfit",
    "optima",
    "predicted_loss",
    "published",
    "size_count",
    "steps_along",
    "strongest_baselines",
]


@dataclass(frozen=True)
class PowerLaw:
    """``log10 y = slope · log10 C + intercept`` with C in FLOPs."""

    slope: float
    intercept: float

    def __call__(self, flops: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return y at each C."""
        return 10.0 ** (self.slope * np.log10(flops) + self.intercept)


@dataclass(frozen=True)
class Published:
    """What the original study printed for one corpus and tokenizer: optimal N and D against C."""

    n: PowerLaw
    d: PowerLaw


# "Empirical Study on the Scaling Laws of Human Genomic Language Models": the lines printed in its figures.
PUBLISHED = {
    ("reference", "bpe"): Published(PowerLaw(0.8314, -7.6019), PowerLaw(0.1686, 6.8237)),
    ("pangenome", "bpe"): Published(PowerLaw(0.8387, -7.7372), PowerLaw(0.1613, 6.9591)),
    ("variant", "bpe"): Published(PowerLaw(0.8297, -7.5695), PowerLaw(0.1703, 6.7914)),
    ("reference", "6mer"): Published(PowerLaw(0.8074, -7.1502), PowerLaw(0.1926, 6.3720)),
}
STRONGEST = {  # what needs no network, by how its entries in `baselines.json` begin
    "uniform bases": "uniform",
    "token frequencies": "unigram",
    "best Markov chain": "markov-",
    "best counts of both sides": "two-sided-",
}
PUBLISHED_FLOPS = (5.4e17, 1.62e19)  # the compute of its smallest and largest marked optimum


def published(study: StudyOutput, arm: str) -> Published | None:
    """Return the original study's lines for the arm's sampling and kind of tokenizer.

    None if it had no such arm.
    """
    tokenizer = study.tokenizer(arm).lower()
    kind = "bpe" if tokenizer.startswith("bpe") else tokenizer
    return PUBLISHED.get((study.sampling(arm), kind))


def size_count(study: StudyOutput, arm: str) -> str:
    """Return the column that the arm's fits took as N.

    Parameters without embeddings unless they say otherwise.
    """
    columns = [
        ((law.raw.get("settings") or {}).get("columns") or {}).get("N") for law in study.laws.get(arm, {}).values()
    ]
    points = study.points(arm)
    for column in (*columns, "n_params_non_embedding"):
        if column in points.columns and points[column].null_count() == 0:
            return str(column)
    return "n_params"


def predicted_loss(law: Law, n: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return ``E + A/N^α + B/D^β`` in nats per token, at `n` and `d` of one shape.

    None when the law is not of that form.
    """
    names = ("E", "A", "B", "alpha", "beta")
    values = [law.estimate(name) for name in names]
    if law.method != "parametric" or any(value is None for value in values):
        return None
    E, A, B, alpha, beta = (float(value) for value in values if value is not None)
    return E + A * n**-alpha + B * d**-beta


def frontier(law: Law) -> tuple[PowerLaw, PowerLaw] | None:
    """Return N_opt(C) and D_opt(C), assuming C = 6·N·D.

    For the parametric law they follow from its five constants (Hoffmann et al. 2022, eq. 4); for the others they are
    the least-squares lines through the method's own optima.
    """
    names = ("A", "B", "alpha", "beta")
    if law.method == "parametric":
        values = [law.estimate(name) for name in names]
        if any(value is None or value <= 0 for value in values):
            return None
        A, B, alpha, beta = (float(value) for value in values if value is not None)
        log_g = math.log10(alpha * A / (beta * B)) / (alpha + beta)
        a, b = beta / (alpha + beta), alpha / (alpha + beta)
        return PowerLaw(a, log_g - a * math.log10(6)), PowerLaw(b, -log_g - b * math.log10(6))
    points = optima(law)
    if len(points) < 2:
        return None
    log_c = np.log10(points["flops"].to_numpy())
    lines = []
    for name in ("n", "d"):
        slope, intercept = np.polyfit(log_c, np.log10(points[name].to_numpy()), 1)
        lines.append(PowerLaw(float(slope), float(intercept)))
    return lines[0], lines[1]


def optima(law: Law) -> pl.DataFrame:
    """Return the optima that a method found: flops, n, d and, where given, the interval of n."""
    schema = dict.fromkeys(("flops", "n", "d", "n_low", "n_high"), pl.Float64)
    rows = []
    for entry in law.raw.get("optima") or ():
        n, flops = entry.get("n"), entry.get("flops")
        if n and flops:
            low, high = entry.get("n_interval") or (None, None)
            rows.append({"flops": flops, "n": n, "d": entry.get("d") or flops / (6 * n), "n_low": low, "n_high": high})
    return pl.DataFrame(rows, schema=schema, strict=False)


def strongest_baselines(study: StudyOutput, arm: str) -> dict[str, tuple[float, float]]:
    """Return bits per base and standard error of the strongest baselines.

    The uniform model, the token unigram, the best Markov chain, and the best counts of the bases on both sides.
    """
    entries = {
        str(name): (float(entry["bits_per_base"]), float(entry.get("se") or 0.0))
        for name, entry in (study.baselines.get(arm) or {}).items()
        if isinstance(entry, dict) and isinstance(entry.get("bits_per_base"), int | float)
    }
    chosen = {}
    for name, beginning in STRONGEST.items():
        alike = [scores for key, scores in entries.items() if key.startswith(beginning)]
        if alike:
            chosen[name] = min(alike)
    return chosen


def is_far(study: StudyOutput) -> bool:
    """Say whether the original study's smallest optimum lies beyond ten times this study's compute."""
    largest = study.observations["flops"].max()
    return largest is not None and PUBLISHED_FLOPS[0] > 10 * float(largest)  # type: ignore[arg-type]


def misfit(study: StudyOutput, law: Law) -> tuple[float, float | None] | None:
    """Return the root mean square residual of a law in nats per token.

    Beside it the same over the evaluation's error.
    """
    points = study.fitted(law.arm)
    if points.is_empty() or law.status == "REFUSED":
        return None
    n = points[size_count(study, law.arm)].to_numpy().astype(float)
    expected = predicted_loss(law, n, points["n_tokens"].to_numpy().astype(float))
    if expected is None:
        return None
    spread = float(np.sqrt(np.mean((points["loss"].to_numpy() - expected) ** 2)))
    errors = points["loss_se"].drop_nulls().to_numpy()
    typical = float(np.sqrt(np.mean(errors**2))) if len(errors) else 0.0
    return spread, spread / typical if typical > 0 else None


class Paired:
    """What the clusters of held-out DNA say of the difference of two models of a study."""

    def __init__(self, study: StudyOutput):
        self._of: dict[tuple[str, int], NDArray[np.float64]] = {}
        tables = study.clusters.partition_by("run", "steps", as_dict=True)
        places = [table.select("contig", "start") for table in tables.values()]
        self.is_known = bool(places) and all(place.equals(places[0]) for place in places)
        if not self.is_known:
            return
        self.n = len(places[0])
        for (run, steps), table in tables.items():
            parts = influence(table["nats"].to_numpy(), table["n_bases"].to_numpy())
            self._of[str(run), int(steps)] = parts / math.log(2)

    def influence(self, point: dict[str, Any]) -> NDArray[np.float64] | None:
        """Return what each cluster adds to a model's bits per base, (G,); None where it is not known."""
        return self._of.get((str(point["run"]), int(point["steps"]))) if self.is_known and point["steps"] else None

    def has_all(self, points: pl.DataFrame) -> bool:
        """Whether the clusters of all these models, more than one, are known."""
        return (
            self.is_known
            and self.n > 1
            and all(self.influence(row) is not None for row in points.iter_rows(named=True))
        )

    def error(self, one: dict[str, Any], other: dict[str, Any]) -> float | None:
        """Return the paired standard error of the difference of two models' bits per base; None if not known."""
        parts = [self.influence(point) for point in (one, other)]
        if parts[0] is None or parts[1] is None or self.n < 2:
            return None
        return error_of(parts[0] - parts[1])


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of held-out bits per base, `arm` minus `other`, with its 95 % interval.

    Attributes
    ----------
    n_clusters
        Clusters of held-out DNA that the interval knows of; 0 where nats by cluster were not kept.
    n_cells, n_runs
        Pairs of (size, data, seed) that both arms have, and the training runs (size, seed) they come from.
    """

    arm: str
    other: str
    mean: float
    low: float
    high: float
    n_cells: int
    n_runs: int
    n_clusters: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def differences(study: StudyOutput) -> list[Difference]:
    """Compare every pair of arms at equal size, data and seed.

    Budgets of one run share a trunk, so the run is the unit of training, and a cluster of held-out DNA is the unit of
    scoring: both kinds of luck are in the interval, as the sum of two variances (runs and clusters are crossed) with
    Satterthwaite's degrees of freedom. What a cluster or a budget makes hard for both arms cancels.
    """
    cell = ["arm", "size", "n_tokens", "seed"]
    scored = study.observations.filter(pl.col("bits_per_base").is_not_null())
    table = scored.filter(pl.col("status").ne_missing("stuck"))  # how training failed is no property of a corpus
    # A study that repeats data on purpose has several runs a cell: least unique data with least, most with most.
    table = table.with_columns(repeat=pl.col("n_unique_bases").fill_null(0).rank("ordinal").over(cell))
    keys = [*cell[1:], "repeat"]
    paired = Paired(study)
    found = []
    for arm, other in combinations(study.arms, 2):
        one, two = (table.filter(pl.col("arm") == name) for name in (arm, other))
        pairs = one.join(two, on=keys, how="inner", suffix="_other", nulls_equal=True)
        pairs = pairs.with_columns(gap=pl.col("bits_per_base") - pl.col("bits_per_base_other"))
        run = ["size", "seed", "repeat"]
        runs = pairs.group_by(run, maintain_order=True).agg(pl.col("gap").mean())["gap"].to_numpy()
        if len(runs) < 2:
            continue
        mean = float(runs.mean())
        errors = [(runs.std(ddof=1) / math.sqrt(len(runs)), len(runs) - 1)]
        weighted = pairs.with_columns(weight=1 / (pl.len().over(run) * len(runs)))
        of_clusters = _error_of_mean(paired, weighted)
        if of_clusters is not None:
            errors.append((of_clusters, paired.n - 1))
        half = half_width(errors)
        n_clusters = paired.n if of_clusters is not None else 0
        found.append(Difference(arm, other, mean, mean - half, mean + half, len(pairs), len(runs), n_clusters))
    return found


def _error_of_mean(paired: Paired, pairs: pl.DataFrame) -> float | None:
    """Return the error over clusters of a weighted mean of differences; None where one of them is not known."""
    if not paired.is_known or paired.n < 2:
        return None
    total = np.zeros(paired.n)
    for row in pairs.iter_rows(named=True):
        one = paired.influence(row)
        other = paired.influence({"run": row["run_other"], "steps": row["steps_other"]})
        if one is None or other is None:
            return None
        total += row["weight"] * (one - other)
    return error_of(total)


def half_width(errors: list[tuple[float, int]]) -> float:
    """Return half of a 95 % interval from independent standard errors, each with its degrees of freedom."""
    variance = sum(se**2 for se, _ in errors)
    if variance == 0:
        return 0.0
    free = variance**2 / sum(se**4 / df for se, df in errors)
    return student(free) * math.sqrt(variance)


@dataclass(frozen=True)
class Steps:
    """How bits per base go from one size, or one budget, of an arm to the next.

    Attributes
    ----------
    n, falls, clear_falls, clear_rises
        Steps; those that fall; those that fall, and rise, by more than two standard errors.
    is_paired
        Whether all of those errors are paired.
    """

    n: int
    falls: int
    clear_falls: int
    clear_rises: int
    is_paired: bool


def steps_along(study: StudyOutput, arm: str, along: str, over: str) -> Steps:
    """Count the steps of an arm's models along one column at equal `over`; one seed, all unique data."""
    points = study.points(arm).filter(pl.col("bits_per_base").is_not_null())
    fresh = pl.col("n_unique_bases").fill_null(0)
    points = points.filter((pl.col("seed") == pl.col("seed").min()) & (fresh == fresh.max()))
    paired = Paired(study)
    gaps: list[tuple[float, float]] = []
    is_paired = True
    for group in points.partition_by(over):
        for one, other in pairwise(group.sort(along).iter_rows(named=True)):
            error = paired.error(one, other)
            if error is None:
                is_paired = False
                error = math.hypot(one["bits_per_base_se"] or 0.0, other["bits_per_base_se"] or 0.0)
            gaps.append((other["bits_per_base"] - one["bits_per_base"], error))
    return Steps(
        len(gaps),
        sum(gap < 0 for gap, _ in gaps),
        sum(gap < -2 * se for gap, se in gaps),
        sum(gap > 2 * se for gap, se in gaps),
        is_paired,
    )
