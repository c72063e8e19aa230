"""Minimise the Huber loss of ln(E + A/N^α + B/D^β) against ln L, thousands of times a second.

E, A and B are linear once α and β are fixed, so the starts come from a grid over those two with non-negative least
squares for the rest (variable projection), and are polished by a damped Newton method with exact second derivatives,
compiled. Gauss-Newton alone was tried first: along a nearly flat valley, where the second derivatives are what is
left, it crept and gave up after 300 steps. Rejected: the published 4,500 quasi-Newton starts with numerical
gradients, 60 % of which end elsewhere, in two minutes instead of a blink.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["EXPONENTS", "FREE", "Problem", "Restriction", "Solution", "huber", "log_law"]

GRID = np.geomspace(0.02, 2.0, 24)  # exponents that the start looks at
EVERY = 3  # of the grid's exponents begin a polish, besides the best pair
EXPONENTS = (0.01, 3.0)  # what a fit may end at
STEPS = 3000
NEVER = -700.0  # the logarithm of nothing


class Restriction(NamedTuple):
    """A linear restriction of θ = (ln E, ln A', ln B', α, β): θ = matrix · φ + offset, and the names of φ."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def fixed(cls, index: int, value: float) -> Restriction:
        """Hold one of θ at a value."""
        return cls(np.delete(np.eye(5), index, 1), np.eye(5)[index] * value)

    @classmethod
    def ratio(cls, a: float) -> Restriction:
        """Hold a = β / (α + β)."""
        return cls(np.delete(np.eye(5), 4, 1) + a / (1 - a) * np.outer(np.eye(5)[4], np.eye(4)[3]), np.zeros(5))


FREE = Restriction(np.eye(5), np.zeros(5))


class Solution(NamedTuple):
    """Many minimisations: θ (m, 5), objectives (m,), and whether each has settled (m,)."""

    theta: NDArray[np.float64]
    objective: NDArray[np.float64]
    settled: NDArray[np.bool_]


def huber(residuals: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Return the Huber loss of each residual r: ``r²/2`` inside δ, ``δ(|r| - δ/2)`` outside.

    Any shape; the result has that of `residuals`.
    """
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def log_law(
    theta: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ln L at one θ, (n,), and its derivatives by θ, (n, 5)."""
    parts = np.exp(np.stack([np.full_like(x, theta[0]), theta[1] - theta[3] * x, theta[2] - theta[4] * y], 1))
    total = parts.sum(1)
    p = parts / total[:, None]
    return np.log(total), np.column_stack([p, -p[:, 1] * x, -p[:, 2] * y])


@dataclass(frozen=True)
class Problem:
    """Points in logarithms, x of N and y of D less their means, and what is minimised over them.

    Attributes
    ----------
    lowest
        The smallest ln L; bounds are relative to it.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    delta: float
    lowest: float
    restriction: Restriction = FREE

    def starts(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return θ of the best pair of exponents on the grid, then of a coarser grid, (m, 5)."""
        weight = np.exp(-z)
        U, V = np.exp(-np.outer(GRID, self.x)) * weight, np.exp(-np.outer(GRID, self.y)) * weight
        shape = (len(GRID), len(GRID))
        gram, target = np.empty((*shape, 3, 3)), np.empty((*shape, 3))
        gram[..., 0, 0], target[..., 0] = weight @ weight, weight.sum()
        gram[..., 1, 1], target[..., 1] = (U * U).sum(1)[:, None], U.sum(1)[:, None]
        gram[..., 2, 2], target[..., 2] = (V * V).sum(1), V.sum(1)
        gram[..., 0, 1] = gram[..., 1, 0] = (U @ weight)[:, None]
        gram[..., 0, 2] = gram[..., 2, 0] = V @ weight
        gram[..., 1, 2] = gram[..., 2, 1] = U @ V.T
        best, gain = np.zeros((*shape, 3)), np.full(shape, -np.inf)
        for size in (1, 2, 3):
            for support in map(list, combinations(range(3), size)):
                part = gram[..., support, :][..., support] * (1 + 1e-12 * np.eye(size))
                found = np.linalg.solve(part, target[..., support][..., None])[..., 0]
                explained = (found * target[..., support]).sum(-1)
                better = (found >= 0).all(-1) & (explained > gain)
                gain = np.where(better, explained, gain)
                full = np.zeros((*shape, 3))
                full[..., support] = found
                best = np.where(better[..., None], full, best)
        alpha, beta = np.broadcast_arrays(GRID[:, None], GRID)
        theta = np.concatenate([np.log(np.maximum(best, 1e-9)), alpha[..., None], beta[..., None]], -1)
        top = theta.reshape(-1, 5)[[int(gain.argmax())]]
        return np.concatenate([top, theta[::EVERY, ::EVERY].reshape(-1, 5)])

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the smallest and the largest θ, (5,) each, that a fit may end at."""
        low, high = np.full(5, EXPONENTS[0]), np.full(5, EXPONENTS[1])
        low[:3], high[:3] = self.lowest - np.array([7.0, 25.0, 25.0]), self.lowest + np.array([1.0, 25.0, 25.0])
        return low, high

    def on_bound(self, theta: NDArray[np.float64]) -> list[int]:
        """Return which free components of one θ, (5,), sit on a bound."""
        low, high = self.bounds()
        margin = 1e-6 * (high - low)
        free = np.abs(self.restriction.matrix).sum(1) > 0
        return [int(i) for i in np.flatnonzero(free & ((theta <= low + margin) | (theta >= high - margin)))]

    def solve(
        self, theta: NDArray[np.float64], z: NDArray[np.float64], count: NDArray[np.float64] | None = None
    ) -> Solution:
        """Polish starts θ (m, 5); z, and how often each point counts, are (n,) for all of them, or (m, n)."""
        matrix, offset = (np.ascontiguousarray(part, float) for part in self.restriction)
        low, high = self.bounds()
        lead = np.abs(matrix).argmax(0)  # each φ is bounded as the θ it stands for
        phi = np.ascontiguousarray((np.atleast_2d(theta) - offset) @ np.linalg.pinv(matrix).T)
        phi = np.clip(phi, low[lead], high[lead])
        z = np.array(np.broadcast_to(z, (len(phi), len(self.x))))  # writable, else it is compiled again
        count = np.array(np.broadcast_to(1.0 if count is None else count, z.shape))
        objective, settled = np.empty(len(phi)), np.empty(len(phi), np.bool_)
        bounds = low[lead], high[lead]
        _polish_all(phi, matrix, offset, *bounds, self.x, self.y, z, count, self.delta, objective, settled)
        return Solution(phi @ matrix.T + offset, objective, settled)


@njit(cache=True, nogil=True)
def _objective(theta, x, y, z, count, delta):
    E, A, B = np.exp(theta[0]), np.exp(theta[1]), np.exp(theta[2])
    total = 0.0
    for i in range(x.size):
        r = abs(np.log(E + A * np.exp(-theta[3] * x[i]) + B * np.exp(-theta[4] * y[i])) - z[i])
        total += count[i] * (0.5 * r * r if r <= delta else delta * (r - 0.5 * delta))
    return total


@njit(cache=True, nogil=True)
def _derivatives(theta, x, y, z, count, delta, gradient, hessian, convex):
    """Fill the gradient, the exact Hessian, and the reweighted Gauss-Newton matrix, which is never indefinite."""
    E, A, B = np.exp(theta[0]), np.exp(theta[1]), np.exp(theta[2])
    slope, bend = np.empty(5), np.zeros((5, 5))
    for j in range(5):
        gradient[j] = 0.0
        for k in range(5):
            hessian[j, k], convex[j, k] = 0.0, 0.0
    for i in range(x.size):
        n, d = A * np.exp(-theta[3] * x[i]), B * np.exp(-theta[4] * y[i])
        total = E + n + d
        r = np.log(total) - z[i]
        inside = abs(r) <= delta
        force = count[i] * (r if inside else (delta if r > 0 else -delta))
        stiff = count[i] if inside else 0.0
        weight = count[i] if inside else count[i] * delta / abs(r)
        slope[0], slope[1], slope[2] = E / total, n / total, d / total
        slope[3], slope[4] = -slope[1] * x[i], -slope[2] * y[i]
        # ∂²ln L = (what each logarithm bends by itself) - slope · slopeᵀ
        bend[0, 0], bend[1, 1], bend[2, 2] = slope[0], slope[1], slope[2]
        bend[3, 1], bend[4, 2] = slope[3], slope[4]
        bend[3, 3], bend[4, 4] = -slope[3] * x[i], -slope[4] * y[i]
        for j in range(5):
            gradient[j] += force * slope[j]
            for k in range(j + 1):
                convex[j, k] += weight * slope[j] * slope[k]
                hessian[j, k] += (stiff - force) * slope[j] * slope[k] + force * bend[j, k]
    for j in range(5):
        for k in range(j):
            hessian[k, j], convex[k, j] = hessian[j, k], convex[j, k]


@njit(cache=True, nogil=True)
def _solve_positive(system, right, out):
    """Solve a small symmetric system by Cholesky in place; False unless it is positive definite."""
    p = right.size
    for j in range(p):
        for k in range(j):
            system[j, j] -= system[j, k] * system[j, k]
        if not system[j, j] > 0.0:
            return False
        system[j, j] = np.sqrt(system[j, j])
        for i in range(j + 1, p):
            for k in range(j):
                system[i, j] -= system[i, k] * system[j, k]
            system[i, j] /= system[j, j]
    for j in range(p):
        out[j] = right[j]
        for k in range(j):
            out[j] -= system[j, k] * out[k]
        out[j] /= system[j, j]
    for j in range(p - 1, -1, -1):
        for k in range(j + 1, p):
            out[j] -= system[k, j] * out[k]
        out[j] /= system[j, j]
    return True


@njit(cache=True, nogil=True)
def _expand(matrix, offset, phi, theta):
    for i in range(5):
        theta[i] = offset[i]
        for j in range(phi.size):
            theta[i] += matrix[i, j] * phi[j]


@njit(cache=True, nogil=True)
def _contract(matrix, full, small):
    """Fill matrixᵀ · full · matrix, by loops: compiling numpy's products would take longer than any fit."""
    for j in range(small.shape[0]):
        for k in range(small.shape[0]):
            small[j, k] = 0.0
            for i in range(5):
                for m in range(5):
                    small[j, k] += matrix[i, j] * full[i, m] * matrix[m, k]


@njit(cache=True, nogil=True)
def _damped(system, matrix, damping, scale):
    for j in range(scale.size):
        for k in range(scale.size):
            system[j, k] = matrix[j, k]
        system[j, j] += damping * scale[j]


@njit(cache=True, nogil=True)
def _polish(phi, matrix, offset, low, high, x, y, z, count, delta):
    """Improve φ in place; return the objective and whether no step can improve it further."""
    p = phi.size
    theta, full_gradient, full_hessian, full_convex = np.empty(5), np.empty(5), np.empty((5, 5)), np.empty((5, 5))
    step, trial, gradient, scale = np.empty(p), np.empty(p), np.empty(p), np.empty(p)
    hessian, convex, system = np.empty((p, p)), np.empty((p, p)), np.empty((p, p))
    _expand(matrix, offset, phi, theta)
    objective = _objective(theta, x, y, z, count, delta)
    floor = x.size * 1e-30  # squares of rounding errors
    damping, is_new = 1e-3, True
    for _ in range(STEPS):
        if is_new:
            _expand(matrix, offset, phi, theta)
            _derivatives(theta, x, y, z, count, delta, full_gradient, full_hessian, full_convex)
            _contract(matrix, full_hessian, hessian)
            _contract(matrix, full_convex, convex)
            least = 1e-300
            for j in range(p):
                gradient[j], scale[j] = 0.0, convex[j, j]
                least += 1e-12 * scale[j]
                for i in range(5):
                    gradient[j] += matrix[i, j] * full_gradient[i]
            for j in range(p):
                scale[j] += least
                if (phi[j] <= low[j] and gradient[j] > 0) or (phi[j] >= high[j] and gradient[j] < 0):
                    gradient[j] = 0.0
                    for k in range(p):
                        hessian[j, k], hessian[k, j], convex[j, k], convex[k, j] = 0.0, 0.0, 0.0, 0.0
        _damped(system, hessian, damping, scale)
        if not _solve_positive(system, gradient, step):
            _damped(system, convex, damping, scale)
            _solve_positive(system, gradient, step)
        gain = 0.0
        for j in range(p):
            gain += 0.5 * gradient[j] * step[j]
            trial[j] = min(max(phi[j] - step[j], low[j]), high[j])
        _expand(matrix, offset, trial, theta)
        reached = _objective(theta, x, y, z, count, delta)
        is_new = reached <= objective
        if is_new:
            done = gain <= 1e-13 * objective + floor and damping < 1.0
            objective = reached
            damping = max(damping / 8.0, 1e-13)
            for j in range(p):
                phi[j] = trial[j]
            if done:
                return objective, True
        else:
            if gain <= 1e-11 * objective + floor:  # what is left to gain is less than rounding lets one see
                return objective, True
            damping *= 5.0
            if damping > 1e12:
                return objective, False
    return objective, False


@njit(cache=True, nogil=True)
def _polish_all(phi, matrix, offset, low, high, x, y, z, count, delta, objective, settled):
    for i in range(phi.shape[0]):
        objective[i], settled[i] = _polish(phi[i], matrix, offset, low, high, x, y, z[i], count[i], delta)
