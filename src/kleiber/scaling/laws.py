"""The form of the law and its arithmetic: L(N, D) = E + A / N^α + B / D^β (Hoffmann et al. 2022, arXiv:2203.15556)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PARAMETERS", "chinchilla", "log_loss", "optimum_exponents"]

PARAMETERS = ("E", "A", "B", "alpha", "beta")


def chinchilla(E: float, A: float, B: float, alpha: float, beta: float, N: NDArray, D: NDArray) -> NDArray[np.float64]:
    """Return the loss of the law at (N, D)."""
    return E + A * N**-alpha + B * D**-beta


def optimum_exponents(alpha: float, beta: float) -> tuple[float, float]:
    """Return (a, b): with C = 6·N·D fixed, the best N grows as C^a and the best D as C^b; a = β / (α + β)."""
    return beta / (alpha + beta), alpha / (alpha + beta)


def log_loss(theta: NDArray, x: NDArray, y: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ln L and its derivatives, for many parameter vectors at once.

    Parameters
    ----------
    theta
        (M, 5): ln E, ln A', ln B', α, β, with A' and B' at x = 0 and y = 0.
    x, y
        (n,): ln N and ln D, each less its mean, which keeps the problem well conditioned.

    Returns
    -------
    (M, n) and (M, n, 5).
    """
    e, a, b, alpha, beta = (theta[:, i, None] for i in range(5))
    terms = np.stack(np.broadcast_arrays(e, a - alpha * x, b - beta * y), -1)
    top = terms.max(-1, keepdims=True)
    parts = np.exp(terms - top)
    total = parts.sum(-1, keepdims=True)
    p = parts / total
    slopes = np.concatenate([p, -p[..., 1:2] * x[None, :, None], -p[..., 2:3] * y[None, :, None]], -1)
    return (top + np.log(total))[..., 0], slopes
