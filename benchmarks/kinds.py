"""Tables of training runs whose law is known, of many kinds: clean ones, and ones with a fault that real tables have.

Used by `battery.py` and by the tests. The truth of a table is the slope of ln N on ln C at the lowest loss of the
surface without noise; where runs are at fault (rates, shapes, repeats), it is that of the runs as they should have
been. Rejected: one law with other noise, which asks a fitter nothing but its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray
Surface = Callable[[Array, Array], Array]
RUN, POINT = 0.0012, 0.0008  # spread of ln L: of a run, and of each point of it


@dataclass(frozen=True)
class Table:
    """A table, the slopes of its true frontier (lowest and highest), and whether a fitter should answer."""

    kind: str
    frame: pl.DataFrame
    low: float
    high: float
    is_clean: bool = False
    half_width: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Law:
    """E + A/(N/n)^α + B/(D/d)^β, with the middle of the table, n and d, as units."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    n: float
    d: float

    @classmethod
    def draw(cls, rng: np.random.Generator, n: float, d: float) -> Law:
        a, total = rng.uniform(0.36, 0.65), rng.uniform(0.55, 0.8)
        share, size = rng.uniform(0.35, 0.65), rng.uniform(0.7, 1.0)
        return cls(rng.uniform(1.5, 2.0), size * share, size * (1 - share), total * (1 - a), total * a, n, d)

    def __call__(self, N: Array, D: Array) -> Array:
        return self.E + self.A * (N / self.n) ** -self.alpha + self.B * (D / self.d) ** -self.beta


@dataclass(frozen=True)
class Design:
    """Runs: N, D and seed of each point."""

    N: Array
    D: Array
    seed: Array

    @classmethod
    def grid(cls, sizes: Array, data: Array, twice: int = 3) -> Design:
        trunks = [(n, 0) for n in sizes]
        trunks += [(sizes[i], 1) for i in np.linspace(0, len(sizes) - 1, twice).round().astype(int)] if twice else []
        N, seed = (np.repeat([trunk[i] for trunk in trunks], len(data)) for i in (0, 1))
        return cls(N.astype(float), np.tile(data, len(trunks)).astype(float), seed)

    @classmethod
    def usual(cls, rng: np.random.Generator, twice: int = 3, sizes: int = 8, data: int = 6) -> Design:
        least, ratio = 10.0 ** rng.uniform(5, 7), 10.0 ** rng.uniform(1.5, 2.0)
        return cls.grid(least * 2.0 ** np.arange(sizes), least * ratio * np.geomspace(1, 64, data), twice)

    @property
    def middle(self) -> tuple[float, float]:
        return tuple(float(np.exp((np.log(v.min()) + np.log(v.max())) / 2)) for v in (self.N, self.D))

    @property
    def x(self) -> Array:
        """Place of each N between the smallest, 0, and the largest, 1."""
        return np.log(self.N / self.N.min()) / np.log(self.N.max() / self.N.min())

    @property
    def y(self) -> Array:
        return np.log(self.D / self.D.min()) / np.log(self.D.max() / self.D.min())


def slopes(surface: Surface, N: Array, D: Array) -> tuple[float, float]:
    """Return the lowest and highest slope of ln N_opt on ln C over the table's budgets, their lower and upper part."""
    c = np.log(6 * N * D)
    budgets = np.linspace(*np.quantile(c, [0.1, 0.9]), 9)
    n = np.log(np.geomspace(N.min() / 300, N.max() * 300, 20_001))
    best = np.array([n[surface(np.exp(n), np.exp(b - n) / 6).argmin()] for b in budgets])
    found = [float(np.polyfit(budgets[part], best[part], 1)[0]) for part in (slice(None), slice(6), slice(3, None))]
    return min(found), max(found)


def noise(rng: np.random.Generator, design: Design, run: float = RUN, point: float = POINT) -> Array:
    """Draw the noise of ln L: of each run, (size, seed), and of each point."""
    _, trunk = np.unique(np.stack([design.N, design.seed]), axis=1, return_inverse=True)
    return run * rng.standard_normal(trunk.max() + 1)[trunk] + point * rng.standard_normal(len(trunk))


def reachable(law: Law, design: Design, run: float = RUN, point: float = POINT) -> float:
    """Return the half-width of a's 95 % interval for a fit that knows the noise."""
    N, D = np.log(design.N / law.n), np.log(design.D / law.d)
    u, v = law.A * np.exp(-law.alpha * N), law.B * np.exp(-law.beta * D)
    slope = np.stack([np.ones_like(u), u, v, -u * N, -v * D], 1) / (law.E + u + v)[:, None]
    _, trunk = np.unique(np.stack([design.N, design.seed]), axis=1, return_inverse=True)
    covariance = run**2 * (trunk[:, None] == trunk) + point**2 * np.eye(len(trunk))
    inverse = np.linalg.inv(slope.T @ np.linalg.solve(covariance, slope))
    direction = np.array([0, 0, 0, -law.beta, law.alpha]) / (law.alpha + law.beta) ** 2
    return float(1.96 * np.sqrt(direction @ inverse @ direction))


def made(
    kind: str,
    design: Design,
    surface: Surface,
    loss: Array,
    luck: Array,
    columns: dict[str, Any] | None = None,
    **known: Any,
) -> Table:
    """Assemble a table; the truth is that of `surface`, the losses are `loss` times their luck."""
    frame = {"n_params": design.N, "n_tokens": design.D, "seed": design.seed, "loss": loss * np.exp(luck)}
    low, high = slopes(surface, design.N, design.D)
    return Table(kind, pl.DataFrame(frame | (columns or {})), low, high, **known)


def _clean(kind: str, rng: np.random.Generator, design: Design, run: float = RUN, point: float = POINT) -> Table:
    law = Law.draw(rng, *design.middle)
    width = reachable(law, design, run, point)
    luck = noise(rng, design, run, point)
    clean = {"is_clean": width <= 0.05, "half_width": width}
    return made(kind, design, law, law(design.N, design.D), luck, **clean)


def clean_grid(rng: np.random.Generator) -> Table:
    return _clean("clean grid", rng, Design.usual(rng, data=int(rng.integers(6, 8))))


def clean_one_seed(rng: np.random.Generator) -> Table:
    return _clean("one seed, clean", rng, Design.usual(rng, twice=0))


def clean_all_twice(rng: np.random.Generator) -> Table:
    return _clean("clean, every size twice", rng, Design.usual(rng, twice=6, sizes=6, data=5))


def clean_holes(rng: np.random.Generator) -> Table:
    """Large models are not trained on the least data, nor the small ones on the most; D has small jitter by size."""
    design = Design.usual(rng, sizes=9, data=7)
    keep = (np.abs(design.x - design.y) < 0.72) & (rng.random(len(design.N)) > 0.05)
    return _clean("clean with holes", rng, Design(design.N[keep], design.D[keep], design.seed[keep]))


def clean_precise(rng: np.random.Generator) -> Table:
    sizes, data = (
        10.0 ** rng.uniform(5, 7) * np.geomspace(1, 1000, 7),
        10.0 ** rng.uniform(8, 9) * np.geomspace(1, 1000, 7),
    )
    return _clean("wide grid, hardly any noise", rng, Design.grid(sizes, data, 0), 1.2e-4, 1.6e-4)


def _isoflop(kind: str, rng: np.random.Generator, budgets: int, least: int, most: int, wobble: float = 0.0) -> Table:
    n, d = 10.0 ** rng.uniform(6, 7.5), 10.0 ** rng.uniform(9, 10)
    law = Law.draw(rng, n, d)
    N, D = [], []
    for budget in 6 * n * d * np.geomspace(0.02, 50, budgets):
        fine = np.geomspace(n / 1e4, n * 1e4, 4001)
        best = fine[law(fine, budget / (6 * fine)).argmin()]
        own = best * np.geomspace(0.2, 5, int(rng.integers(least, most + 1))) * np.exp(0.1 * rng.standard_normal())
        N.append(own)
        D.append(budget * np.exp(wobble * rng.standard_normal(len(own))) / (6 * own))
    design = Design(np.concatenate(N).round(), np.concatenate(D).round(), np.zeros(sum(map(len, N)), int))
    luck = noise(rng, design, 0.0, float(np.hypot(RUN, POINT)))
    columns = {"flops": 6 * design.N * design.D}
    known = {"is_clean": True, "half_width": reachable(law, design, 0.0, float(np.hypot(RUN, POINT)))}
    return made(kind, design, law, law(design.N, design.D), luck, columns, **known)


def clean_isoflop(rng: np.random.Generator) -> Table:
    return _isoflop("IsoFLOP, sizes of their own", rng, int(rng.integers(7, 9)), 8, 9)


def clean_llama(rng: np.random.Generator) -> Table:
    return _isoflop("IsoFLOP, ten budgets of 6 to 10 sizes", rng, 10, 6, 10, 0.01)


def hetero(rng: np.random.Generator) -> Table:
    design = Design.usual(rng, data=7)
    law = Law.draw(rng, *design.middle)
    spread = 0.005 * 10.0**-design.y
    loss = law(design.N, design.D)
    return made(
        "noise grows at small D", design, law, loss, spread * rng.standard_normal(len(loss)), {"loss_se": spread * loss}
    )


def _delay(kind: str, rng: np.random.Generator, design: Design, by_size: float = 0.0) -> Table:
    law, share, least = Law.draw(rng, *design.middle), rng.uniform(0.5, 0.7), float(design.D.min())

    def surface(N: Array, D: Array) -> Array:
        begins = share * least * (N / design.N.max()) ** by_size
        return np.where(begins < D, law(N, np.maximum(D - begins, 1e-9 * begins)), np.inf)

    return made(kind, design, surface, surface(design.N, design.D), noise(rng, design))


def delay(rng: np.random.Generator) -> Table:
    return _delay("delay: nothing is learned before D0", rng, Design.usual(rng, sizes=7, data=5))


def delay_by_size(rng: np.random.Generator) -> Table:
    return _delay("delay that depends on size", rng, Design.usual(rng, twice=4, data=7), 0.15)


def delay_one_seed(rng: np.random.Generator) -> Table:
    return _delay("one seed, delay", rng, Design.usual(rng, twice=0))


def capped(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    loss = law(design.N, design.D)
    return made(
        "capped at token frequencies", design, law, np.minimum(loss, np.quantile(loss, 0.8)), noise(rng, design)
    )


def _drift(kind: str, rng: np.random.Generator, design: Design) -> Table:
    law, at = Law.draw(rng, *design.middle), rng.uniform(0.2, 0.8, 2)
    off = 3.0 * (design.x - at[0]) + 1.2 * (design.y - at[1])
    loss = law(design.N, design.D) + rng.uniform(0.01, 0.025) * off**2
    return made(kind, design, law, loss, noise(rng, design))


def lr_drift(rng: np.random.Generator) -> Table:
    return _drift("one learning rate for all", rng, Design.usual(rng))


def lr_drift_one_seed(rng: np.random.Generator) -> Table:
    return _drift("one seed, one learning rate", rng, Design.usual(rng, twice=0))


def _undertuned(kind: str, rng: np.random.Generator, design: Design, is_large: bool) -> Table:
    law, depth = Law.draw(rng, *design.middle), rng.uniform(0.06, 0.1)
    rank = np.unique(design.N, return_inverse=True)[1]
    place = rank - (rank.max() - 3) if is_large else 3 - rank
    loss = law(design.N, design.D) + depth * np.maximum(place, 0) / 3
    return made(kind, design, law, loss, noise(rng, design))


def undertuned_large(rng: np.random.Generator) -> Table:
    return _undertuned("large models under-tuned", rng, Design.usual(rng), True)


def undertuned_small(rng: np.random.Generator) -> Table:
    return _undertuned("rate wrong for small models", rng, Design.usual(rng), False)


def undertuned_one_seed(rng: np.random.Generator) -> Table:
    return _undertuned("one seed, small models under-tuned", rng, Design.usual(rng, twice=0), False)


def nonseparable(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law, power = Law.draw(rng, *design.middle), rng.choice([0.6, 1.6])

    def surface(N: Array, D: Array) -> Array:
        return law.E + (law(N, D) - law.E) ** power

    return made("non-separable", design, surface, surface(design.N, design.D), noise(rng, design))


def kaplan(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)

    def surface(N: Array, D: Array) -> Array:
        part = law.A ** (1 / law.beta) * (N / law.n) ** (-law.alpha / law.beta) + law.B ** (1 / law.beta) * law.d / D
        return law.E + part**law.beta

    return made("Kaplan's joint form with a floor", design, surface, surface(design.N, design.D), noise(rng, design))


def interaction(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law, turn = Law.draw(rng, *design.middle), 0.02 * rng.choice([-1, 1])

    def surface(N: Array, D: Array) -> Array:
        beta = law.beta + turn * np.clip(np.log(N / law.n), -4, 4)
        return law.E + law.A * (N / law.n) ** -law.alpha + law.B * (D / law.d) ** -beta

    return made("exponent of D depends on N", design, surface, surface(design.N, design.D), noise(rng, design))


def bend(rng: np.random.Generator) -> Table:
    """Past some size, parameters are worth less: the truth bends, and an interval may say either slope."""
    design = Design.usual(rng)
    law, turn = Law.draw(rng, *design.middle), rng.uniform(0.35, 0.7)

    def surface(N: Array, D: Array) -> Array:
        u = np.log(N / law.n)
        return law.E + law.A * np.exp(-law.alpha * np.where(u > 0, turn * u, u)) + law.B * (D / law.d) ** -law.beta

    return made("exponent of N bends", design, surface, surface(design.N, design.D), noise(rng, design))


def luck_of_d(rng: np.random.Generator) -> Table:
    design = Design.usual(rng, data=5)
    law = Law.draw(rng, *design.middle)
    _, which = np.unique(design.D, return_inverse=True)
    shared = 0.004 * rng.standard_normal(which.max() + 1)[which]
    return made("luck of each D shared by all runs", design, law, law(design.N, design.D), noise(rng, design) + shared)


def _epochs(kind: str, rng: np.random.Generator, says: bool) -> Table:
    design = Design.usual(rng, data=7)
    law = Law.draw(rng, *design.middle)
    unique = np.minimum(design.D, design.D.max() / rng.choice([21, 32]))
    worth = unique * (1 + 15.4 * -np.expm1(-(design.D / unique - 1) / 15.4))
    columns = {"unique_tokens": unique} if says else None
    return made(kind, design, law, law(design.N, worth), noise(rng, design), columns)


def epochs_unsaid(rng: np.random.Generator) -> Table:
    return _epochs("epochs, no column", rng, False)


def epochs_said(rng: np.random.Generator) -> Table:
    return _epochs("epochs, with a column", rng, True)


def overfit(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    edge = np.quantile(design.D / design.N, 0.2)
    loss = law(design.N, design.D) + 0.05 * np.log(np.maximum(edge * design.N / design.D, 1.0)) ** 1.5
    return made("large models overfit small data", design, law, loss, noise(rng, design))


def _poor(kind: str, rng: np.random.Generator, design: Design, run: float = RUN, point: float = POINT) -> Table:
    law = Law.draw(rng, *design.middle)
    return made(kind, design, law, law(design.N, design.D), noise(rng, design, run, point))


def few_sizes(rng: np.random.Generator) -> Table:
    return _poor(
        "three sizes only", rng, Design.grid(1e7 * np.geomspace(1, rng.uniform(4, 5), 3), np.geomspace(2e8, 3e9, 8), 0)
    )


def few_budgets(rng: np.random.Generator) -> Table:
    return _poor(
        "three amounts of data only", rng, Design.grid(1e6 * 2.0 ** np.arange(8), 2e8 * np.geomspace(1, 2, 3), 0)
    )


def one_ratio(rng: np.random.Generator) -> Table:
    sizes = np.geomspace(1e6, 1e9, 20)
    return _poor("D = 20 N everywhere", rng, Design(sizes, 20 * sizes, np.zeros(20, int)))


def near_one_ratio(rng: np.random.Generator) -> Table:
    sizes = np.geomspace(1e6, 1e9, 30)
    return _poor(
        "D near 20 N", rng, Design(sizes, 20 * sizes * np.exp(0.2 * rng.standard_normal(30)), np.zeros(30, int))
    )


def short_lever(rng: np.random.Generator) -> Table:
    return _poor("N × 4 and D × 4 only", rng, Design.grid(1e7 * np.geomspace(1, 4, 5), 1e9 * np.geomspace(1, 4, 5), 0))


def single_d(rng: np.random.Generator) -> Table:
    return _poor("one D only", rng, Design.grid(1e6 * 2.0 ** np.arange(8), np.array([1e9]), 0))


def noisy(rng: np.random.Generator) -> Table:
    return _poor("much noise", rng, Design.usual(rng, twice=0, sizes=7, data=5), 0.0, 0.01)


def heavy_tails(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    luck = 0.0012 * rng.standard_t(2.5, len(design.N))
    return made("noise with heavy tails", design, law, law(design.N, design.D), luck)


def diverged(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    late = rng.choice(np.flatnonzero((design.x > 0.5) & (design.y > 0.5)), 5, replace=False)
    luck = noise(rng, design)
    luck[late] += np.log1p(rng.uniform(*((0.25, 1.2) if rng.random() < 0.5 else (0.03, 0.15)), 5))
    return made("diverged runs left in", design, law, law(design.N, design.D), luck)


def tokenizers_unsaid(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    off = np.where(design.x > rng.uniform(0.4, 0.7), rng.choice([1.06, 0.95]), 1.0)
    return made("two tokenizers, no column", design, law, law(design.N, design.D) * off, noise(rng, design))


def _unannealed(kind: str, rng: np.random.Generator, design: Design) -> Table:
    law = Law.draw(rng, *design.middle)
    loss = law(design.N, design.D)
    gain = rng.uniform(0.03, 0.08) * np.where(design.D.max() > design.D, 1 - 0.5 * design.y, 0.0)
    return made(kind, design, law, loss + gain * (loss - law.E) / 0.5, noise(rng, design))


def unannealed(rng: np.random.Generator) -> Table:
    return _unannealed("checkpoints along one run, no column", rng, Design.usual(rng, data=7))


def warm_up(rng: np.random.Generator) -> Table:
    """The warm-up is as long as the shortest runs, which end a few hundredths too high."""
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    loss = law(design.N, design.D) + rng.uniform(0.02, 0.05) * (design.D.min() == design.D)
    return made("warm-up spoils the least data", design, law, loss, noise(rng, design))


def batch(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    critical = design.D.min() * rng.uniform(2, 8)
    worth = design.D * (1 - 0.66 / (1 + (design.D / critical) ** 2))
    return made("one batch, too large for short runs", design, law, law(design.N, worth), noise(rng, design))


def _embeddings(kind: str, rng: np.random.Generator, says: bool) -> Table:
    design = Design.usual(rng)
    law = Law.draw(rng, *design.middle)
    total = design.N + design.N.min() * rng.uniform(0.5, 1.5) * (design.N / design.N.min()) ** 0.5
    table = made(kind, design, law, law(design.N, design.D), noise(rng, design))
    columns = {"flops": 6 * design.N * design.D} if says else {}
    frame = table.frame.with_columns(n_params=pl.Series(total), **{k: pl.Series(v) for k, v in columns.items()})
    return Table(kind, frame, table.low, table.high)


def embeddings_said(rng: np.random.Generator) -> Table:
    return _embeddings("N counts embeddings, exact FLOPs beside it", rng, True)


def rounded(rng: np.random.Generator) -> Table:
    table = _poor("losses with two decimals", rng, Design.usual(rng))
    return Table(table.kind, table.frame.with_columns(pl.col("loss").round(2)), table.low, table.high)


def nominal(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    sizes, which = np.unique(design.N, return_inverse=True)
    real = sizes * np.exp(rng.uniform(-0.2, 0.2, len(sizes)))
    law = Law.draw(rng, *design.middle)
    return made("N is a label", design, law, law(real[which], design.D), noise(rng, design))


def two_shapes(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    rank = np.unique(design.N, return_inverse=True)[1]
    law = Law.draw(rng, *design.middle)
    off = np.where(rank >= rank.max() - 2, rng.uniform(1.012, 1.02), 1.0)
    return made("the largest sizes have another shape", design, law, law(design.N, design.D) * off, noise(rng, design))


def one_bad_size(rng: np.random.Generator) -> Table:
    design = Design.usual(rng)
    rank = np.unique(design.N, return_inverse=True)[1]
    law = Law.draw(rng, *design.middle)
    off = np.where(rank == rng.integers(0, rank.max() + 1), rng.uniform(1.012, 1.03), 1.0)
    return made("one size trained badly", design, law, law(design.N, design.D) * off, noise(rng, design))


KINDS: tuple[Callable[[np.random.Generator], Table], ...] = (
    *(clean_grid, clean_one_seed, clean_all_twice, clean_holes, clean_precise, clean_isoflop, clean_llama),
    *(hetero, heavy_tails, noisy, rounded, nominal),
    *(delay, delay_by_size, delay_one_seed, capped, warm_up, batch, unannealed),
    *(lr_drift, lr_drift_one_seed, undertuned_large, undertuned_small, undertuned_one_seed, two_shapes, one_bad_size),
    *(nonseparable, kaplan, interaction, bend, luck_of_d, epochs_unsaid, epochs_said, overfit),
    *(few_sizes, few_budgets, one_ratio, near_one_ratio, short_lever, single_d),
    *(diverged, tokenizers_unsaid, embeddings_said),
)


def tables(seed: int, draw: int = 0) -> list[Table]:
    """Return one fresh table of each kind."""
    return [kind(np.random.default_rng([seed, draw, k])) for k, kind in enumerate(KINDS)]
