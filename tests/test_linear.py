"""The batched linear solvers against dense solves, on random systems."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.linear import ADJOINT_SOLVERS, gmres, neumann


def random(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def systems(samples: int, n: int, *, kappa: float, seed: int):
    """I − M per sample with ‖M‖₂ = κ, right-hand sides, and the exact solutions."""
    m = random(samples, n, n, seed=seed)
    m = kappa * m / torch.linalg.matrix_norm(m, 2)[:, None, None]
    a = torch.eye(n, dtype=torch.float64) - m
    b = random(samples, n, seed=seed + 1)
    return a, b, torch.linalg.solve(a, b)


def product(a):
    return lambda x: torch.einsum("nij,nj->ni", a, x)


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 4),
    n=st.integers(1, 30),
    kappa=st.floats(0, 0.99),
    restart=st.integers(1, 40),
    seed=st.integers(0, 10_000),
)
def test_gmres_solves_any_contraction(samples, n, kappa, restart, seed):
    a, b, exact = systems(samples, n, kappa=kappa, seed=seed)
    found = gmres(product(a), b, tol=1e-12, max_steps=5000, restart=restart)
    assert found.converged.all()
    true = torch.linalg.vector_norm(b - product(a)(found.x), dim=1) / b.norm(dim=1)
    assert torch.allclose(found.residual, true, rtol=1e-6, atol=1e-15)
    assert (found.x - exact).norm() < 1e-9 * exact.norm()


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 4), n=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_neumann_solves_a_contraction(samples, n, seed):
    a, b, exact = systems(samples, n, kappa=0.8, seed=seed)
    found = neumann(product(a), b, tol=1e-13, max_steps=500)
    assert found.converged.all()
    assert (found.x - exact).norm() < 1e-11 * exact.norm()


def test_gmres_needs_no_contraction():
    a = random(3, 20, 20, seed=0)
    b = random(3, 20, seed=1)
    found = gmres(product(a), b, tol=1e-11, max_steps=200)
    assert found.converged.all()
    assert torch.allclose(found.x, torch.linalg.solve(a, b), rtol=1e-6)


def test_gmres_ends_in_as_many_products_as_distinct_eigenvalues():
    values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).repeat(7)
    found = gmres(lambda x: values * x, random(2, 21, seed=0), tol=1e-13, max_steps=100)
    assert found.steps.tolist() == [4, 4]  # three for the space, one for the true residual


@pytest.mark.parametrize("solve", ADJOINT_SOLVERS.values())
def test_each_sample_stops_on_its_own(solve):
    a, b, _ = systems(3, 12, kappa=0.7, seed=3)
    a[1] = torch.eye(12)  # solved by the first product
    b[2] = 0
    together = solve(product(a), b, tol=1e-10, max_steps=300)
    assert together.converged.all()
    assert together.x[2].abs().max() == 0
    assert together.steps[1] <= 2 < together.steps[0]
    for i in range(3):
        alone = solve(product(a[i : i + 1]), b[i : i + 1], tol=1e-10, max_steps=300)
        assert alone.steps[0] == together.steps[i]
        assert torch.allclose(alone.x[0], together.x[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("solve", ADJOINT_SOLVERS.values())
def test_images_keep_their_shape(solve):
    b = random(2, 3, 4, 5, seed=0)
    found = solve(lambda x: 0.5 * x, b, tol=1e-12, max_steps=100)
    assert torch.allclose(found.x, 2 * b)


@pytest.mark.parametrize("solve", ADJOINT_SOLVERS.values())
def test_failure_is_reported(solve):
    singular = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))[None]
    found = solve(product(singular), torch.ones(1, 2, dtype=torch.float64), tol=1e-8, max_steps=50)
    assert not found.converged.any()
    assert found.residual[0] == pytest.approx(0.5**0.5, rel=1e-6)
    assert found.x.isfinite().all()
    diverging = solve(lambda x: 5 * x.roll(1, 1), random(1, 30, seed=0), tol=1e-9, max_steps=7)
    assert not diverging.converged.any()
    assert diverging.steps[0] <= 7


@pytest.mark.parametrize("solve", ADJOINT_SOLVERS.values())
@pytest.mark.parametrize(("option", "value"), [("tol", 0.0), ("tol", -1.0), ("max_steps", 0)])
def test_bad_settings_are_named(solve, option, value):
    settings = {"tol": 1e-6, "max_steps": 10} | {option: value}
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        solve(lambda x: x, torch.ones(1, 2), **settings)


def test_float32_is_not_asked_for_more_than_it_can_give():
    a, b, exact = systems(2, 20, kappa=0.9, seed=5)
    found = gmres(product(a.float()), b.float(), tol=1e-12, max_steps=500)
    assert found.converged.all()
    assert found.x.dtype == torch.float32
    assert (found.x.double() - exact).norm() < 1e-3 * exact.norm()
