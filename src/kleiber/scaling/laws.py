"""The form of the law and its arithmetic: L(N, D) = E + A / N^α + B / D^β (Hoffmann et al. 2022, arXiv:2203.15556)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARAMETERS", "chinchilla", "optimum_exponents"]

T = TypeVar("T", float, NDArray[np.float64])

PARAMETERS = ("E", "A", "B", "alpha", "beta")


def chinchilla(
    E: float, A: float, B: float, alpha: float, beta: float, N: NDArray[np.float64], D: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the loss of the law at (N, D)."""
    return E + A * N**-alpha + B * D**-beta


def optimum_exponents(alpha: T, beta: T) -> tuple[T, T]:
    """Return (a, b): with C = 6·N·D fixed, the best N grows as C^a and the best D as C^b; a = β / (α + β)."""
    return beta / (alpha + beta), alpha / (alpha + beta)
