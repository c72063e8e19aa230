"""How well a design will tell a, before anything is trained: tables that it could give, fitted and judged.

Each table is drawn from a law and from the luck of runs, and goes the whole way of a real one: the fit, its intervals,
the witnesses. The laws are those that the runs of a pilot allow, or a prior that is stated. Rejected: the variance of
the linearised law (`planner` ranks runs by it), which knows neither the band of choices nor the witnesses, and is half
of what a reader is told in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from kleiber import counter
from kleiber.errors import DataError
from kleiber.scaling.bootstrap import Fitted, noise_variances, refit
from kleiber.scaling.fit import NARROW, fit, natural, problem_of, refusal
from kleiber.scaling.laws import PARAMETERS, chinchilla
from kleiber.scaling.observations import Observations
from kleiber.scaling.solver import log_law
from kleiber.scaling.uncertainty import compare
from kleiber.scaling.witnesses import examine

__all__ = ["Design", "Foresight", "Prior", "foresee", "no_law", "prior_of_pilot", "stated_prior"]

STREAM = counter.stream_id("foresight")
TABLES = 12  # a law each
DRAWS = 200  # behind each interval
PAIRS = 4  # of tables, whose a is compared
SOME, MOST = 1 / 8, 3 / 4  # shares of usable tables: below the first a design cannot tell a, from the second on it can

# What is taken where there is no pilot: exponents as they are published for languages and genomes, and at the middle
# of the design what is left to learn, as a share of E, with what the order-reading network showed on chromosome 20.
SLOPES = (0.35, 0.45, 0.55, 0.65)  # a
LEFT = (0.06, 0.1, 0.16)
EXPONENTS = 1.0  # α + β
OF_SIZE = 0.35  # the share of what is left that parameters take away
LUCK = (0.0012, 0.0008)  # spreads of ln L: of a run, and of each point of it
ALIKE = 3.0  # degrees of freedom that say of a pilot that both spreads are one: its few runs may show none by chance


@dataclass(frozen=True)
class Design:
    """The points that a study will measure.

    Attributes
    ----------
    N, D
        float64 (n,): parameters as C = 6·N·D has them, and tokens.
    cluster
        int64 (n,): the run of each, from 0.
    """

    N: NDArray[np.float64]
    D: NDArray[np.float64]
    cluster: NDArray[np.int64]

    def observed(self, loss: NDArray[np.float64]) -> Observations:
        """Return the table that the design gives with these losses, (n,)."""
        return Observations(self.N, self.D, loss, 6 * self.N * self.D, self.cluster, {})


@dataclass(frozen=True)
class Prior:
    """Laws that may hold, and the luck of runs.

    Attributes
    ----------
    laws
        float64 (m, 5): E, A, B, α, β of each.
    of_runs, of_points
        float64 (m,): spreads of ln L under each law: what all points of a run share, and what each has beside it.
    source
        Where they come from, in words.
    """

    laws: NDArray[np.float64]
    of_runs: NDArray[np.float64]
    of_points: NDArray[np.float64]
    source: str


@dataclass(frozen=True)
class Foresight:
    """What a design is expected to tell.

    Attributes
    ----------
    half_width, half_widths
        Of the 95 % interval of a: the median over tables, and the tenth and ninetieth percentile.
    n_tables, n_usable
        How many tables were drawn, and in how many of them no witness spoke against a.
    difference
        The half-width of the difference of a between two arms of this design, if their luck is independent.
    spread_of_a
        Of the prior's laws, 0 to 100 %: what is asked about.
    source
        Of the prior.
    """

    half_width: float
    half_widths: tuple[float, float]
    n_tables: int
    n_usable: int
    difference: float
    spread_of_a: tuple[float, float]
    source: str

    @property
    def identifies(self) -> bool | None:
        """Whether the design can tell a: in most tables, in hardly any (False), or it depends (None)."""
        share = self.n_usable / self.n_tables
        return False if share < SOME or 2 * self.half_width > NARROW else True if share >= MOST else None

    def sentence(self) -> str:
        """Say it."""
        known = {True: "can identify a", False: "cannot identify a", None: "may or may not identify a"}
        low, high = self.half_widths
        return (
            f"this design {known[self.identifies]}: the half-width of its 95 % interval is {self.half_width:.3f} "
            f"({low:.3f} to {high:.3f}), and a is usable in {self.n_usable} of {self.n_tables} simulated tables"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "identifies": self.identifies, "says": self.sentence()}


def prior_of_pilot(pilot: Observations, *, name: str = "the pilot", seed: int = 0) -> Prior:
    """Return the laws that a pilot allows, as its bootstrap draws them, and the luck of its runs.

    Raises
    ------
    DataError
        When the pilot cannot carry a law.
    """
    if reason := refusal(pilot, len(PARAMETERS)):
        raise DataError(f"{name} cannot stand for a law: {reason}.\n  Leave --pilot out: a stated prior is taken.")
    problem, z, centre = problem_of(pilot)
    found = problem.solve(problem.starts(z), z)
    theta = found.theta[int(found.objective.argmin())]
    fitted, slopes = log_law(theta, problem.x, problem.y)
    between, within, free_between, free_within = noise_variances(z - fitted, slopes, pilot.cluster)
    between = (free_between * between + ALIKE * within) / (free_between + ALIKE)
    (draws,) = refit([Fitted(problem, z, theta)], pilot.cluster, DRAWS, seed)
    drawn = natural(draws, centre)
    laws = np.stack([drawn[key] for key in PARAMETERS], 1)[np.argsort(drawn["a"], kind="stable")]
    # evenly by a, so that few laws stand for all of them
    which = np.round((np.arange(TABLES) + 0.5) / TABLES * (len(laws) - 1)).astype(int)
    of_runs, of_points = (
        np.sqrt(variance * _scales(free, seed, k))
        for k, (variance, free) in enumerate(((between, free_between + ALIKE), (within, free_within)))
    )
    luck = f"luck about {between**0.5:.2%} a run and {within**0.5:.2%} a point"
    return Prior(laws[which], of_runs, of_points, f"{TABLES} laws that the {len(pilot)} points of {name} allow; {luck}")


def _scales(free: float, seed: int, which: int) -> NDArray[np.float64]:
    """Return by how much a variance that rests on so many degrees of freedom may be larger, for each table, (m,)."""
    even = (counter.permutation(seed, STREAM, which, TABLES) + 0.5) / TABLES
    return np.asarray(free / (2 * gammaincinv(free / 2, even)))


def stated_prior(design: Design) -> Prior:
    """Return the prior that is taken where there is no pilot, laid around the middle of a design."""
    n, d = (float(np.exp(np.log(v).mean())) for v in (design.N, design.D))
    laws = []
    for a, left in product(SLOPES, LEFT):
        alpha, beta = EXPONENTS * (1 - a), EXPONENTS * a
        laws.append([1.0, left * OF_SIZE * n**alpha, left * (1 - OF_SIZE) * d**beta, alpha, beta])
    spans = f"a {SLOPES[0]:g} to {SLOPES[-1]:g}, {LEFT[0]:.0%} to {LEFT[-1]:.0%} of E left to learn at the middle"
    of_runs, of_points = (np.full(len(laws), spread) for spread in LUCK)
    return Prior(
        np.array(laws),
        of_runs,
        of_points,
        f"a stated prior: {spans}, luck {LUCK[0]:.2%} a run and {LUCK[1]:.2%} a point",
    )


def no_law(design: Design) -> str:
    """Say why a design cannot carry a law, whatever it will measure; empty when it can."""
    return refusal(design.observed(np.ones(len(design.N))), len(PARAMETERS))


def foresee(
    design: Design, prior: Prior, *, seed: int = 0, progress: Callable[[float], None] = lambda share: None
) -> Foresight:
    """Draw a table from each law of a prior, fit and judge it.

    Parameters
    ----------
    progress
        Is told the share that is done.

    Raises
    ------
    DataError
        When the design cannot carry a law at all.
    """
    if reason := no_law(design):
        raise DataError(f"No design for a law: {reason}.")
    widths, usable, tables = [], 0, []
    for k, table in enumerate(_tables(design, prior, seed)):
        result = examine(fit(table, bootstrap=DRAWS, seed=seed), table)
        low, high = result.intervals["a"]
        widths.append((high - low) / 2)
        usable += result.usable
        tables.append(table)
        progress((k + 1) / len(prior.laws))
    gaps = []
    for k, other in enumerate(_tables(design, prior, seed + 1)):
        if k % max(1, len(tables) // PAIRS) == 0:
            gap = compare(tables[k], other, bootstrap=DRAWS, seed=seed)
            gaps.append((gap.intervals["a"][1] - gap.intervals["a"][0]) / 2)
    a = prior.laws[:, 4] / (prior.laws[:, 3] + prior.laws[:, 4])
    low, middle, high = (float(q) for q in np.quantile(widths, [0.1, 0.5, 0.9]))
    spread = float(a.min()), float(a.max())
    return Foresight(middle, (low, high), len(widths), usable, float(np.median(gaps)), spread, prior.source)


def _tables(design: Design, prior: Prior, seed: int) -> Iterator[Observations]:
    """Yield a table of each law."""
    runs, n = int(design.cluster.max()) + 1, len(design.N)
    for k, law in enumerate(prior.laws):
        normal = ndtri(np.clip(counter.uniforms(seed, STREAM, k, runs + n), 1e-16, None))
        luck = prior.of_runs[k] * normal[:runs][design.cluster] + prior.of_points[k] * normal[runs:]
        E, A, B, alpha, beta = law
        yield design.observed(chinchilla(E, A, B, alpha, beta, design.N, design.D) * np.exp(luck))
