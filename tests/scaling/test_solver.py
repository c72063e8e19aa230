"""The solver's parts by themselves: derivatives against differences, systems against numpy, minima against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from kleiber.scaling import solver
from kleiber.scaling.solver import EXPONENTS, GRID, Problem, Restriction, huber, log_law

TRUTH = np.array([0.5, -0.3, -0.7, GRID[12], GRID[9]])  # ln E, ln A', ln B', α, β: both exponents are the grid's
SEEDS = st.integers(0, 2**32 - 1)


def points(seed: int = 0, n: int = 14, noise: float = 0.0, theta=TRUTH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and z of points of a law, with noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-2, 2, (2, n))
    x, y = x - x.mean(), y - y.mean()
    return x, y, log_law(theta, x, y)[0] + noise * rng.standard_normal(n)


def problem(seed: int = 0, noise: float = 0.0, delta: float = 0.01, **options) -> tuple[Problem, np.ndarray]:
    x, y, z = points(seed, noise=noise)
    return Problem(x, y, delta, float(z.min()), **options), z


def central(function, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Return the derivative of a function by each component, as columns."""
    sides = [(function(at + step * one), function(at - step * one)) for one in np.eye(len(at))]
    return np.stack([(up - down) / (2 * step) for up, down in sides], -1)


def derivatives(theta, x, y, z, count, delta):
    gradient, hessian, convex = np.full(5, 7.0), np.full((5, 5), 7.0), np.full((5, 5), 7.0)
    solver._derivatives(theta, x, y, z, count, delta, gradient, hessian, convex)
    return gradient, hessian, convex


def test_the_law_by_hand():
    """E = 2, A = 3 and B = 4 at N = 4 and D = 9, with square roots."""
    theta = np.array([np.log(2), np.log(3), np.log(4), 0.5, 0.5])
    value, _ = log_law(theta, np.log([4.0]), np.log([9.0]))
    assert np.exp(value) == pytest.approx([2 + 3 / 2 + 4 / 3])


@given(SEEDS)
@settings(max_examples=10)
def test_derivatives_are_those_of_differences(seed):
    """On both sides of δ, with points that count several times."""
    rng = np.random.default_rng(seed)
    x, y, z = points(seed, noise=0.02)
    theta, count, delta = TRUTH + 0.01 * rng.standard_normal(5), rng.integers(0, 4, len(x)).astype(float), 0.015
    size = np.abs(log_law(theta, x, y)[0] - z)
    z = np.where(np.abs(size - delta) < 1e-3, z + 0.005, z)  # none sits at the kink of a second derivative
    np.testing.assert_allclose(central(lambda t: log_law(t, x, y)[0], theta), log_law(theta, x, y)[1], atol=1e-8)

    def objective(t):
        return solver._objective(t, x, y, z, count, delta)

    residuals = log_law(theta, x, y)[0] - z
    assert objective(theta) == pytest.approx((count * huber(residuals, delta)).sum(), rel=1e-12)
    gradient, hessian, convex = derivatives(theta, x, y, z, count, delta)
    np.testing.assert_allclose(gradient, central(objective, theta), atol=1e-7)
    slopes = central(lambda t: derivatives(t, x, y, z, count, delta)[0], theta)
    inside = np.abs(residuals) <= delta
    if not (np.abs(np.abs(residuals) - delta) < 1e-5).any():
        np.testing.assert_allclose(hessian, slopes, atol=1e-6)
    by_theta = log_law(theta, x, y)[1]
    weight = count * np.where(inside, 1.0, delta / np.abs(residuals))
    np.testing.assert_allclose(convex, (weight[:, None] * by_theta).T @ by_theta, atol=1e-12)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=20)
def test_small_systems_are_solved(seed, p):
    rng = np.random.default_rng(seed)
    root, right, out = rng.standard_normal((p, p)), rng.standard_normal(p), np.empty(p)
    system = root @ root.T + 0.1 * np.eye(p)
    expected = np.linalg.solve(system, right)
    assert solver._solve_positive(system.copy(), right, out)
    np.testing.assert_allclose(out, expected, rtol=1e-8, atol=1e-10)
    system[-1, -1] -= 1.0 / np.linalg.inv(system)[-1, -1] + 0.1  # now its last pivot is -0.1
    assert not solver._solve_positive(system.copy(), right, out)
    assert not solver._solve_positive(np.zeros((p, p)), right, out)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=10)
def test_products_are_those_of_numpy(seed, p):
    rng = np.random.default_rng(seed)
    matrix, full, phi, offset = (rng.standard_normal(shape) for shape in ((5, p), (5, 5), (p,), (5,)))
    theta, small, system, scale = np.empty(5), np.full((p, p), 7.0), np.empty((p, p)), rng.uniform(1, 2, p)
    solver._expand(matrix, offset, phi, theta)
    np.testing.assert_allclose(theta, matrix @ phi + offset)
    solver._contract(matrix, full, small)
    np.testing.assert_allclose(small, matrix.T @ full @ matrix, atol=1e-12)
    solver._damped(system, small, 0.5, scale)
    np.testing.assert_allclose(system, small + 0.5 * np.diag(scale))


def test_restrictions_hold_what_they_say():
    phi = np.array([0.1, 0.2, 0.3, 0.4])
    matrix, offset = Restriction.fixed(3, 0.7)
    assert (matrix @ phi + offset).tolist() == [0.1, 0.2, 0.3, 0.7, 0.4]
    for a in (0.2, 0.6):
        matrix, offset = Restriction.ratio(a)
        theta = matrix @ phi + offset
        assert theta[:4] == pytest.approx(phi)
        assert theta[4] / (theta[3] + theta[4]) == pytest.approx(a)


def test_bounds_and_what_sits_on_them():
    one, z = problem()
    low, high = one.bounds()
    assert low == pytest.approx([z.min() - 7, z.min() - 25, z.min() - 25, *EXPONENTS[:1] * 2])
    assert high == pytest.approx([z.min() + 1, z.min() + 25, z.min() + 25, *EXPONENTS[1:] * 2])
    assert one.on_bound(TRUTH) == []
    for i in range(5):
        inside = low + 1e-5 * (high - low)
        assert one.on_bound(inside) == []
        for bound in (low, high):
            at = TRUTH.copy()
            at[i] = bound[i]
            assert one.on_bound(at) == [i]
            held = Problem(one.x, one.y, one.delta, one.lowest, Restriction.fixed(i, bound[i]))
            assert held.on_bound(at) == []


def test_a_law_of_the_grid_is_its_own_first_start():
    one, z = problem()
    starts = one.starts(z)
    np.testing.assert_allclose(starts[0], TRUTH, atol=1e-4)
    exponents = {tuple(pair) for pair in starts[1:, 3:].tolist()}
    assert exponents == {(a, b) for a in GRID[::3].tolist() for b in GRID[::3].tolist()}
    assert len(starts) == 1 + len(exponents)


def test_the_parts_of_a_start_are_never_negative_and_the_best():
    """Against scipy's non-negative least squares of (E + A/N^α + B/D^β) / L = 1, with a law that has no floor."""
    x, y, z = points(3, noise=0.05, theta=np.array([-9.0, -0.3, 0.2, 0.1, 0.15]))
    starts = Problem(x, y, 0.01, float(z.min())).starts(z)
    rows = []
    for theta in starts:
        parts = np.stack([np.ones_like(x), np.exp(-theta[3] * x), np.exp(-theta[4] * y)], 1) * np.exp(-z)[:, None]
        expected, rest = nnls(parts, np.ones_like(x))
        rows.append(rest)
        found = np.where(theta[:3] > np.log(2e-9), np.exp(theta[:3]), 0.0)
        assert np.linalg.norm(parts @ found - 1) == pytest.approx(rest, rel=1e-6)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert rows[0] == min(rows)
    assert (starts[:, :3] < np.log(2e-9)).any()


@given(SEEDS)
@settings(max_examples=5)
def test_minima_are_those_of_scipy(seed):
    one, z = problem(seed, noise=0.01)
    start = one.starts(z)[:1]
    found = one.solve(start, z)
    assert found.settled.all()
    assert found.objective[0] <= solver._objective(start[0], one.x, one.y, z, np.ones(len(z)), one.delta)
    residuals = log_law(found.theta[0], one.x, one.y)[0] - z
    assert found.objective[0] == pytest.approx(huber(residuals, one.delta).sum(), rel=1e-12)
    other = minimize(
        lambda t: huber(log_law(t, one.x, one.y)[0] - z, one.delta).sum(),
        start[0],
        bounds=list(zip(*one.bounds(), strict=True)),
        options={"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-10},
    )
    assert found.objective[0] <= other.fun * (1 + 1e-6)


def test_without_noise_the_truth_is_found_from_afar():
    one, z = problem()
    found = one.solve(TRUTH + np.array([[0.2, -0.5, 0.5, 0.1, 0.2], [-0.3, 0.4, 0.3, -0.1, 0.3]]), z)
    assert found.settled.all()
    assert (found.objective < 1e-20).all()
    np.testing.assert_allclose(found.theta, np.stack([TRUTH, TRUTH]), atol=1e-6, rtol=0)


def test_points_that_count_twice_are_two_points():
    one, z = problem(1, noise=0.01)
    count = np.ones(len(z))
    count[[2, 5]] = 2.0, 0.0
    keep = [*range(5), 2, *range(6, len(z))]
    twice = Problem(one.x[keep], one.y[keep], one.delta, one.lowest)
    start = one.starts(z)[:1]
    found, expected = one.solve(start, z, count), twice.solve(start, z[keep])
    assert found.objective == pytest.approx(expected.objective, rel=1e-9)
    assert found.theta == pytest.approx(expected.theta, abs=1e-5)


def test_each_start_may_have_losses_of_its_own():
    one, z = problem(1, noise=0.01)
    _, other = problem(1, noise=0.02)
    start = one.starts(z)[:1]
    both = one.solve(np.concatenate([start, start]), np.stack([z, other]))
    for i, losses in enumerate((z, other)):
        alone = one.solve(start, losses)
        np.testing.assert_array_equal(both.theta[i], alone.theta[0])
        assert both.objective[i] == alone.objective[0]


@pytest.mark.parametrize("i", range(5))
def test_what_is_held_stays_and_the_rest_is_fitted(i):
    one, z = problem(2, noise=0.005)
    free = one.solve(one.starts(z)[:1], z)
    held = Problem(one.x, one.y, one.delta, one.lowest, Restriction.fixed(i, TRUTH[i]))
    found = held.solve(one.starts(z)[:1], z)
    assert found.theta[0, i] == pytest.approx(TRUTH[i], abs=1e-12)
    assert free.objective[0] <= found.objective[0] <= huber(log_law(TRUTH, one.x, one.y)[0] - z, one.delta).sum()
    assert found.settled.all()


def test_an_exponent_beyond_its_bound_ends_on_it():
    """What falls more slowly than N^-0.01 is told from a floor by nothing."""
    theta = np.array([-4.0, 0.5, -0.7, 0.002, 0.4])
    x, y, z = points(4, theta=theta)
    one = Problem(x, y, 0.01, float(z.min()))
    found = one.solve(theta + np.array([0, 0, 0, 0.1, 0]), z)
    low, high = one.bounds()
    assert found.theta[0, 3] == EXPONENTS[0]
    assert 3 in one.on_bound(found.theta[0])
    assert ((low <= found.theta[0]) & (found.theta[0] <= high)).all()
    assert found.settled.all()
