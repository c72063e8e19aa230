"""What an estimator returns: one frozen shape for all of them, with a status and its doubts.

Rejected: bare numbers, or exceptions where the data say nothing: a refusal is a result that belongs in the table too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["IDENTIFIABLE", "REFUSABLE", "FitResult", "identified"]

IDENTIFIABLE = ("E", "A", "B", "alpha", "beta", "a")
REFUSABLE = ("a", "b")
PUBLIC = (
    "schema",
    "method",
    "form",
    "status",
    "objective",
    "n",
    "ranges",
    "estimates",
    "intervals",
    "identified",
    "usable",
    "refused",
    "witnesses",
    "covariance",
    "warnings",
    "settings",
    "inputs_sha256",
)


@dataclass(frozen=True)
class FitResult:
    """What one estimator says, with how sure it is.

    Attributes
    ----------
    status
        CONVERGED: usable. BOUND_HIT: a parameter ended on a bound, and its number means nothing. MAX_ITER: the
        optimizer gave up. REFUSED: the data cannot carry the estimate; `warnings` says why.
    estimates, intervals
        By name; intervals are 95 %.
    identified
        Whether the data decide each of E, A, B, α, β and a (and with a, b). Of a it is the verdict of the witnesses,
        once they have been asked (`kleiber.scaling.witnesses.examine`).
    usable
        Whether a may be repeated: the witnesses were asked, and none speaks against it.
    witnesses
        What each says: ``{"name", "agrees", "says", "settles", "a", "interval"}``.
    covariance
        Of E, A, B, α, β, in this order, over the bootstrap.
    optima
        Where a frontier method found a best model: ``{"flops", "n", "d"}`` each, and ``"n_interval"`` where known.
    valleys
        The losses at each budget of IsoFLOP with their parabola.
    profiles, holdouts
        By parameter, and by what was left out, where they were asked for (see `kleiber.scaling.uncertainty`).
    """

    method: str
    form: str
    status: str
    n: int
    objective: float | None = None
    ranges: dict[str, list[float]] = field(default_factory=dict)
    estimates: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    identified: dict[str, bool] = field(default_factory=lambda: identified())
    covariance: list[list[float]] | None = None
    warnings: tuple[str, ...] = ()
    optima: tuple[dict[str, Any], ...] = ()
    valleys: tuple[dict[str, Any], ...] = ()
    profiles: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    holdouts: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    usable: bool = False
    witnesses: tuple[dict[str, Any], ...] = ()
    inputs_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON; exponents that are not identified stand under ``refused`` alone."""
        lists = {key: list(getattr(self, key)) for key in ("warnings", "optima", "valleys", "holdouts", "witnesses")}
        full = {"schema": 1, **self.__dict__, **lists, "refused": {}}
        if not self.identified["a"]:
            full["refused"] = {
                key: {"estimate": self.estimates[key], "interval": self.intervals.get(key)}
                for key in REFUSABLE
                if key in self.estimates
            }
            for part in ("estimates", "intervals"):
                full[part] = {key: value for key, value in full[part].items() if key not in REFUSABLE}
        return full

    def summary(self) -> dict[str, Any]:
        """Return what ``kleiber fit --json`` prints: the keys that all methods share."""
        full = self.to_dict()
        return {key: full[key] for key in PUBLIC}


def identified(**known: bool) -> dict[str, bool]:
    """Return whether each parameter is identified: those given, and False for the others."""
    return {**dict.fromkeys(IDENTIFIABLE, False), **known}
