"""Other forms of the law than E + A/N^α + B/D^β, each with its parameters and its source.

All are predictions of ln L from (N, D, unique data), so that they are fitted by the same objective and compared on the
same losses. Those with fewer parameters than the law are restrictions of it; those with more contain it.
Rejected: a language of formulas for the user, which would let one try forms until one of them pleases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from kleiber.errors import ConfigError, UnknownName
from kleiber.scaling.observations import Observations
from kleiber.scaling.solver import huber

__all__ = ["FORMS", "Form", "Points", "fit_form", "form_named", "form_slopes"]

Array = NDArray[np.float64]
SMALLEST, LARGEST = 1e-2, 3.0  # exponents
STARTS = ((0.3, 0.3), (0.15, 0.5), (0.5, 0.15), (0.8, 0.8), (0.1, 0.1))


@dataclass(frozen=True)
class Points:
    """Where a form predicts: parameters, data, and data before repeats (D where nothing is repeated)."""

    N: Array
    D: Array
    unique: Array

    @classmethod
    def of(cls, observations: Observations) -> Points:
        """Take the places of observations."""
        unique = observations.D if observations.unique is None else observations.unique
        return cls(observations.N, observations.D, np.minimum(unique, observations.D))

    def take(self, rows: NDArray[np.int64]) -> Points:
        """Return the places `rows`, (m,): some, or some of them several times."""
        return Points(self.N[rows], self.D[rows], self.unique[rows])


@dataclass(frozen=True)
class Form:
    """A form: its free parameters, all positive, and ln L as their function.

    Attributes
    ----------
    needs
        What observations have to have beside N, D and the loss: ``"unique"``, or nothing.
    ranges
        Of each parameter that is none of E, A, B, alpha and beta: the least and the most that it can be, and where to
        begin.
    """

    name: str
    parameters: tuple[str, ...]
    predict: Callable[[dict[str, float], Points], Array]
    needs: str = ""
    ranges: Mapping[str, Callable[[Points], tuple[float, float, float]]] = field(default_factory=dict)

    def log_loss(self, values: dict[str, float], points: Points) -> Array:
        """Return ln L at some points."""
        return self.predict(values, points)


def _sum(p: dict[str, float], n: Array, d: Array) -> Array:
    return np.log(p.get("E", 0.0) + p["A"] * n ** -p["alpha"] + p["B"] * d ** -p.get("beta", p["alpha"]))


def _chinchilla(p: dict[str, float], at: Points) -> Array:
    return _sum(p, at.N, at.D)


def _kaplan(p: dict[str, float], at: Points) -> Array:
    """Kaplan et al. 2020 (arXiv:2001.08361), eq. 1.5, with A = N_c^(α/β) and B = D_c."""
    return p["beta"] * np.log(p["A"] * at.N ** (-p["alpha"] / p["beta"]) + p["B"] / at.D)


def _shifted(p: dict[str, float], at: Points) -> Array:
    """The law with data counted from D_0 on, so that losses stay finite where training begins."""
    return _sum(p, at.N, at.D + p["D_0"])


def _delayed(p: dict[str, float], at: Points) -> Array:
    """The law in the data after D_0, before which nothing is learned; the delay is less than any amount measured."""
    return _sum(p, at.N, np.maximum(at.D - p["D_0"], 1e-6 * at.D))


def _joint(p: dict[str, float], at: Points) -> Array:
    """E + (A/N^α + B/D^β)^γ: the two losses add up before they are bent, so that what one costs depends on the other.

    γ = 1 is the law; Kaplan's joint form with a floor has β = 1 inside, and γ its exponent of data.
    """
    inside = p["A"] * at.N ** -p["alpha"] + p["B"] * at.D ** -p["beta"]
    return np.log(p["E"] + inside ** p["gamma"])


def _data_constrained(p: dict[str, float], at: Points) -> Array:
    """Muennighoff et al. 2023 (arXiv:2305.16264), eq. 5 and 6: repeats, and parameters beyond what unique data feed.

    U_N is the size that is compute-optimal for the unique data; what exceeds it, and the epochs after the first, count
    less and less, with the half-lives R_N and R_D.
    """
    alpha, beta = p["alpha"], p["beta"]
    G = (alpha * p["A"] / (beta * p["B"])) ** (1 / (alpha + beta))
    fed = np.minimum(at.N, (at.unique * G) ** (beta / alpha) * G)
    repeats, excess = at.D / at.unique - 1, at.N / fed - 1
    d = at.unique * (1 + p["R_D"] * -np.expm1(-repeats / p["R_D"]))
    n = fed * (1 + p["R_N"] * -np.expm1(-excess / p["R_N"]))
    return _sum(p, n, d)


FORMS = {
    form.name: form
    for form in (
        Form("chinchilla", ("E", "A", "B", "alpha", "beta"), _chinchilla),
        Form("equal-exponents", ("E", "A", "B", "alpha"), _chinchilla),
        Form("power", ("A", "B", "alpha", "beta"), _chinchilla),
        Form("kaplan", ("A", "B", "alpha", "beta"), _kaplan),
        Form(
            "shifted",
            ("E", "A", "B", "alpha", "beta", "D_0"),
            _shifted,
            ranges={"D_0": lambda at: (at.D.min() * 1e-6, at.D.max(), 0.01 * at.D.min())},
        ),
        Form(
            "delayed",
            ("E", "A", "B", "alpha", "beta", "D_0"),
            _delayed,
            ranges={"D_0": lambda at: (at.D.min() * 1e-6, 0.999 * at.D.min(), 0.01 * at.D.min())},
        ),
        Form(
            "joint",
            ("E", "A", "B", "alpha", "beta", "gamma"),
            _joint,
            ranges={"gamma": lambda at: (0.1, 10.0, 1.0)},
        ),
        Form(
            "data-constrained",
            ("E", "A", "B", "alpha", "beta", "R_D", "R_N"),
            _data_constrained,
            needs="unique",
            ranges={"R_D": lambda at: (1e-2, 1e4, 10.0), "R_N": lambda at: (1e-2, 1e4, 5.0)},
        ),
    )
}
"""Every form: this is the one place where one is added (see "Add a part" of the how-tos)."""


def form_named(name: str) -> Form:
    """Return a form by its name.

    Raises
    ------
    UnknownName
        With the nearest names.
    """
    if name not in FORMS:
        raise UnknownName(name, FORMS, kind="form")
    return FORMS[name]


def fit_form(
    form: Form, points: Points, z: Array, delta: float, fixed: dict[str, float], start: dict[str, float] | None = None
) -> tuple[dict[str, float], float, bool, list[str]]:
    """Minimise the summed Huber loss of ln L over the parameters that are not fixed.

    Parameters
    ----------
    z
        ln L, (n,).
    start
        Where to begin; without one, at several places.

    Returns
    -------
    Every parameter, the objective, whether it settled, and which parameters ended on a bound.

    Raises
    ------
    ConfigError
        When `fixed` names no parameter of the form.
    """
    if unknown := sorted(fixed.keys() - set(form.parameters)):
        raise ConfigError(f"{unknown[0]} is no parameter of the form {form.name}: {', '.join(form.parameters)}.")
    free = [name for name in form.parameters if name not in fixed]
    low, high = np.array([_bounds(form, name, points, float(z.min())) for name in free]).T

    def values(theta: Array) -> dict[str, float]:
        return {**fixed, **{k: v if _is_exponent(k) else np.exp(v) for k, v in zip(free, theta, strict=True)}}

    def residuals(theta: Array) -> Array:
        with np.errstate(all="ignore"):
            found = form.log_loss(values(theta), points) - z
        return np.nan_to_num(found, nan=1e3, posinf=1e3, neginf=-1e3)

    best: Any = None
    settings: dict[str, Any] = {"loss": "huber", "f_scale": delta, "x_scale": "jac", "jac": "3-point"}
    for guess in [start] if start is not None else _guesses(form, points, z):
        logs = [guess[name] if _is_exponent(name) else np.log(guess[name]) for name in free]
        theta = np.clip(logs, low + 1e-9, high - 1e-9)
        found = least_squares(
            residuals,
            theta,
            bounds=(low, high),
            **settings,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-15,
            max_nfev=2000 if start is None else 200,
        )
        if best is None or found.cost < best.cost:
            best = found
    margin = 1e-6 * (high - low)
    on_bound = [k for k, hit in zip(free, (best.x <= low + margin) | (best.x >= high - margin), strict=True) if hit]
    objective = float(huber(residuals(best.x), delta).sum())
    return {k: float(v) for k, v in values(best.x).items()}, objective, bool(best.status > 0), on_bound


def form_slopes(form: Form, values: dict[str, float], points: Points, fixed: dict[str, float]) -> Array:
    """Return the derivatives of ln L by the free parameters' logarithms, (n, p), by central differences."""
    step = 1e-5
    columns = []
    for name in form.parameters:
        if name not in fixed:
            up, down = ({**values, name: values[name] * np.exp(sign * step)} for sign in (1, -1))
            columns.append((form.log_loss(up, points) - form.log_loss(down, points)) / (2 * step))
    return np.stack(columns, 1)


def _is_exponent(name: str) -> bool:
    return name in ("alpha", "beta")


def _bounds(form: Form, name: str, points: Points, lowest: float) -> tuple[float, float]:
    """Return what a parameter, or its logarithm unless it is an exponent, may end at."""
    if _is_exponent(name):
        return SMALLEST, LARGEST
    if name == "E":
        return lowest - 7.0, lowest + 1.0
    if name in form.ranges:
        least, most, _ = form.ranges[name](points)
        return float(np.log(least)), float(np.log(most))
    return lowest - 25.0, lowest + 25.0 + LARGEST * float(np.log(max(points.N.max(), points.D.max())))


def _guesses(form: Form, points: Points, z: Array) -> list[dict[str, float]]:
    """Return starts that halve the reducible loss between N and D at the middle of the points."""
    loss = float(np.exp(np.median(z)))
    n, d = float(np.exp(np.log(points.N).mean())), float(np.exp(np.log(points.D).mean()))
    found = []
    for alpha, beta in STARTS:
        guess = {"E": 0.6 * loss, "A": 0.2 * loss * n**alpha, "B": 0.2 * loss * d**beta, "alpha": alpha, "beta": beta}
        if form.name == "kaplan":
            half = 0.5 * loss ** (1 / beta)
            guess |= {"A": half * n ** (alpha / beta), "B": half * d}
        found.append({**guess, **{name: float(of(points)[2]) for name, of in form.ranges.items()}})
    return found
