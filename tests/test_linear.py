"""The batched linear solvers against dense solves, on random systems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.solve.krylov import bicgstab, cg, gmres
from benchmark.solve.linear import ADJOINT_SOLVERS, anderson, neumann
from benchmark.solve.system import ProjectedSystem

#: on I − M with M a symmetric contraction, all of them are sound
SOLVERS = {
    **ADJOINT_SOLVERS,
    "cg": lambda matvec, b, **options: cg(symmetric(matvec), b, **options),
}


def random(*size: int, seed: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def systems(samples: int, n: int, *, kappa: float, seed: int):
    """I − M per sample with ‖M‖₂ = κ, right-hand sides, and the exact solutions."""
    m = random(samples, n, n, seed=seed)
    m = kappa * m / torch.linalg.matrix_norm(m, 2)[:, None, None]
    a = torch.eye(n, dtype=torch.float64) - m
    b = random(samples, n, seed=seed + 1)
    return a, b, torch.linalg.solve(a, b)


def symmetric_systems(samples: int, n: int, *, kappa: float, seed: int):
    """As ``systems``, with M symmetric: positive definite."""
    m = random(samples, n, n, seed=seed)
    m = m + m.mT
    m = kappa * m / torch.linalg.matrix_norm(m, 2)[:, None, None]
    a = torch.eye(n, dtype=torch.float64) - m
    b = random(samples, n, seed=seed + 1)
    return a, b, torch.linalg.solve(a, b)


def symmetric(matvec) -> ProjectedSystem:
    """A symmetric A as ``cg`` takes it, in the ordinary inner product."""
    return ProjectedSystem(P=lambda x: x, G=lambda x: x - matvec(x))


def true_residual(a, b, x):
    return torch.linalg.vector_norm(b - product(a)(x), dim=1) / torch.linalg.vector_norm(b, dim=1)


class Counted:
    """A matvec that counts its calls."""

    def __init__(self, matvec):
        self.matvec, self.calls = matvec, 0

    def __call__(self, x):
        self.calls += 1
        return self.matvec(x)


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
    assert torch.allclose(found.residual, true, rtol=1e-6, atol=1e-13)
    assert (found.x - exact).norm() < 1e-9 * exact.norm()


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(1, 4), n=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_neumann_solves_a_contraction(samples, n, seed):
    a, b, exact = systems(samples, n, kappa=0.8, seed=seed)
    found = neumann(product(a), b, tol=1e-13, max_steps=500)
    assert found.converged.all()
    assert (found.x - exact).norm() < 1e-11 * exact.norm()


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["anderson", "bicgstab"]),
    samples=st.integers(1, 4),
    n=st.integers(1, 30),
    kappa=st.floats(0, 0.9),
    seed=st.integers(0, 10_000),
)
def test_methods_without_a_growing_basis_solve_any_contraction(name, samples, n, kappa, seed):
    a, b, exact = systems(samples, n, kappa=kappa, seed=seed)
    found = SOLVERS[name](product(a), b, tol=1e-12, max_steps=2000)
    assert found.converged.all()
    assert torch.allclose(found.residual, true_residual(a, b, found.x), rtol=1e-6, atol=1e-13)
    assert (found.x - exact).norm() < 1e-10 * exact.norm()


@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(1, 4),
    n=st.integers(1, 30),
    kappa=st.floats(0, 0.99),
    seed=st.integers(0, 10_000),
)
def test_cg_solves_symmetric_positive_definite_systems(samples, n, kappa, seed):
    a, b, exact = symmetric_systems(samples, n, kappa=kappa, seed=seed)
    found = cg(symmetric(product(a)), b, tol=1e-12, max_steps=500)
    assert found.converged.all()
    assert (found.steps <= n + 25).all()
    assert torch.allclose(found.residual, true_residual(a, b, found.x), rtol=1e-6, atol=1e-13)
    assert (found.x - exact).norm() < 1e-9 * exact.norm()


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 30),
    rank=st.integers(0, 30),
    kappa=st.floats(0, 0.99),
    seed=st.integers(0, 10_000),
)
def test_cg_solves_the_adjoint_of_a_thresholded_gradient_step(n, rank, kappa, seed):
    """A = I − G P is not symmetric, and P has any rank."""
    a, b, _ = symmetric_systems(3, n, kappa=kappa, seed=seed)
    g = torch.eye(n, dtype=torch.float64) - a
    q = torch.linalg.qr(random(3, n, n, seed=seed + 2))[0]
    q = q[:, :, : min(rank, n)]
    p = q @ q.mT
    exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - g @ p, b)
    found = cg(ProjectedSystem(P=product(p), G=product(g)), b, tol=1e-11, max_steps=500)
    assert found.converged.all()
    assert (found.steps <= n + 25).all()
    assert (found.x - exact).norm() < 1e-8 * exact.norm()


def test_cg_asks_for_a_self_adjoint_system():
    with pytest.raises(ValueError, match="a gradient step followed by a projection"):
        cg(lambda x: x, torch.ones(1, 3), tol=1e-6, max_steps=10)


def test_cg_stops_where_curvature_is_not_positive():
    """Per sample: the indefinite one ends unconverged, the definite one is solved beside it."""
    a, b, exact = symmetric_systems(2, 12, kappa=0.9, seed=1)
    a[0] -= 1.5 * torch.eye(12)
    counted = Counted(product(a))
    found = cg(symmetric(counted), b, tol=1e-12, max_steps=400)
    assert found.converged.tolist() == [False, True]
    assert (found.x[1] - exact[1]).norm() < 1e-10 * exact[1].norm()
    assert found.residual[0] == pytest.approx(float(true_residual(a, b, found.x)[0]))
    assert found.steps[0] <= 12
    assert counted.calls < 60, "an indefinite sample is not tried again"
    # −I: the first direction already shows it
    assert cg(symmetric(lambda x: -x), b, tol=1e-9, max_steps=400).steps.tolist() == [3, 3]


def test_cg_on_an_asymmetric_system_claims_nothing_untrue():
    a, b, _ = systems(4, 20, kappa=0.95, seed=2)
    found = cg(symmetric(product(a)), b, tol=1e-11, max_steps=300)
    true = true_residual(a, b, found.x)
    assert torch.equal(found.converged, true <= 1e-11 * (1 + 1e-6))
    assert not found.converged.all()
    assert found.x.isfinite().all()


def test_bicgstab_survives_breakdowns():
    """‖b − A x‖ is the truth where the recurrence divides by zero."""
    # a shift: the shadow is orthogonal to A r at once
    shifted = bicgstab(
        lambda x: x.roll(1, 1), torch.eye(5, dtype=torch.float64)[:1], tol=1e-9, max_steps=50
    )
    assert not shifted.converged.any()
    assert shifted.residual.tolist() == [1.0]
    # a rotation: ω = 0, no progress after a step
    skew = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]], dtype=torch.float64)
    b = torch.ones(1, 2, dtype=torch.float64)
    turned = bicgstab(product(skew), b, tol=1e-9, max_steps=50)
    assert not turned.converged.any()
    assert turned.x.isfinite().all()
    # one such sample does not disturb another
    both = bicgstab(
        product(torch.cat([skew, torch.diag(torch.tensor([1.0, 3.0]))[None].double()])),
        b.expand(2, 2),
        tol=1e-12,
        max_steps=50,
    )
    assert both.converged.tolist() == [False, True]
    assert torch.allclose(both.x[1], torch.tensor([1, 1 / 3], dtype=torch.float64))


@pytest.mark.parametrize("solve", [anderson, bicgstab, gmres])
def test_an_ill_conditioned_system_is_solved_or_reported(solve):
    """Singular values over sixteen decades: a recurrence would claim more than is there."""
    q = torch.linalg.qr(random(2, 40, 40, seed=0))[0]
    a = q @ torch.diag(torch.logspace(0, -16, 40, dtype=torch.float64)) @ q.roll(1, 0).mT
    b = random(2, 40, seed=1)
    found = solve(product(a), b, tol=1e-10, max_steps=400)
    true = true_residual(a, b, found.x)
    assert torch.allclose(found.residual, true, rtol=1e-3)
    assert torch.equal(found.converged, true <= 1e-10)
    assert not found.converged.all()


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_warm_start_saves_products(name):
    a, b, exact = symmetric_systems(3, 40, kappa=0.9, seed=4)
    solve = SOLVERS[name]
    cold = solve(product(a), b, tol=1e-10, max_steps=1000)
    near = exact + 1e-6 * exact.norm() * random(3, 40, seed=5)
    warm = solve(product(a), b, tol=1e-10, max_steps=1000, x0=near)
    assert warm.converged.all()
    assert (warm.steps < cold.steps).all()
    assert (warm.x - exact).norm() < 1e-8 * exact.norm()
    counted = Counted(product(a))
    solved = solve(counted, b, tol=1e-10, max_steps=1000, x0=exact.requires_grad_())
    assert solved.converged.all()
    assert solved.steps.tolist() == [1, 1, 1]
    assert counted.calls == 1
    assert torch.equal(solved.x, exact)
    assert not solved.x.requires_grad


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_budget_of_products_is_kept(name):
    a, b, exact = symmetric_systems(2, 40, kappa=0.99, seed=6)
    for x0 in (None, 0.5 * exact):
        for max_steps in (1, 2, 3, 8, 21):
            counted = Counted(product(a))
            found = SOLVERS[name](counted, b, tol=1e-13, max_steps=max_steps, x0=x0)
            assert counted.calls <= max_steps
            assert found.steps.max() <= max_steps
            assert not found.converged.any()
            # the residual is that of the x returned, whatever stopped the solver
            assert torch.allclose(found.residual, true_residual(a, b, found.x))


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_awkward_right_hand_sides(name):
    """Zero (whatever the start), not a number, and not contiguous: each by itself."""
    a, b, exact = symmetric_systems(3, 12, kappa=0.5, seed=7)
    a[2] *= torch.nan
    b[1] = 0
    b = b.T.contiguous().T
    found = SOLVERS[name](product(a), b, tol=1e-11, max_steps=300, x0=torch.ones(12, 3).double().T)
    assert found.converged.tolist() == [True, True, False]
    assert (found.x[0] - exact[0]).norm() < 1e-9 * exact[0].norm()
    assert found.x[1].abs().max() == 0
    assert found.steps.max() < 100, "nothing can come of NaN"


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


@pytest.mark.parametrize("solve", SOLVERS.values())
def test_each_sample_stops_on_its_own(solve):
    a, b, _ = symmetric_systems(3, 12, kappa=0.7, seed=3)
    a[1] = torch.eye(12)  # solved by the first product
    b[2] = 0
    together = solve(product(a), b, tol=1e-10, max_steps=300)
    assert together.converged.all()
    assert together.x[2].abs().max() == 0
    assert together.steps[1] <= 3 < together.steps[0]
    for i in range(3):
        alone = solve(product(a[i : i + 1]), b[i : i + 1], tol=1e-10, max_steps=300)
        assert alone.steps[0] == together.steps[i]
        assert torch.allclose(alone.x[0], together.x[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("solve", SOLVERS.values())
def test_images_keep_their_shape(solve):
    b = random(2, 3, 4, 5, seed=0)
    found = solve(lambda x: 0.5 * x, b, tol=1e-12, max_steps=100)
    assert torch.allclose(found.x, 2 * b)


@pytest.mark.parametrize("solve", SOLVERS.values())
def test_failure_is_reported(solve):
    singular = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))[None]
    found = solve(product(singular), torch.ones(1, 2, dtype=torch.float64), tol=1e-8, max_steps=50)
    assert not found.converged.any()
    assert found.residual[0] == pytest.approx(0.5**0.5, rel=1e-6)
    assert found.x.isfinite().all()
    diverging = solve(lambda x: 5 * x.roll(1, 1), random(1, 30, seed=0), tol=1e-9, max_steps=7)
    assert not diverging.converged.any()
    assert diverging.steps[0] <= 7


@pytest.mark.parametrize("solve", SOLVERS.values())
@pytest.mark.parametrize(("option", "value"), [("tol", 0.0), ("tol", -1.0), ("max_steps", 0)])
def test_bad_settings_are_named(solve, option, value):
    settings = {"tol": 1e-6, "max_steps": 10} | {option: value}
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        solve(lambda x: x, torch.ones(1, 2), **settings)


@pytest.mark.parametrize("seed", [36, 68, 194, 230, 262, 266])
def test_what_a_singular_system_cannot_give_is_left(seed):
    """No solution, and the shortest x of the smallest residual; ‖x‖ was 10¹⁶."""
    g = np.random.default_rng(seed)
    n = int(g.integers(2, 12))
    rank = int(g.integers(1, n))
    q = np.linalg.qr(g.normal(size=(n, n)))[0][:, :rank]
    a = q * g.uniform(0.5, 1, rank) @ q.T
    b = g.normal(size=n)
    found = gmres(
        product(torch.from_numpy(a)[None]), torch.from_numpy(b)[None], tol=1e-10, max_steps=100
    )
    assert not found.converged.any()
    best = np.linalg.lstsq(a, b, rcond=1e-12)[0]
    assert found.residual.item() == pytest.approx(np.linalg.norm(b - a @ best) / np.linalg.norm(b))
    assert found.x.norm() < 100 * np.linalg.norm(best)


@pytest.mark.parametrize("name", sorted(SOLVERS.keys() - {"cg"}))
@pytest.mark.parametrize("samples", [0, 2])
def test_complex_systems_and_none(name, samples):
    rates = torch.tensor([[0.5 + 0.3j, 0.2j, -0.7]], dtype=torch.complex128)
    b = (1 + 2j) * torch.ones(samples, 3, dtype=torch.complex128)
    for x0 in (None, 0.5 * b):
        found = SOLVERS[name](lambda x: x - rates * x, b, tol=1e-11, max_steps=500, x0=x0)
        assert found.converged.all() and found.x.dtype == b.dtype
        assert len(found.residual) == samples and not found.residual.is_complex()
        assert torch.allclose(found.x, b / (1 - rates))


def test_float32_is_not_asked_for_more_than_it_can_give():
    a, b, exact = systems(2, 20, kappa=0.9, seed=5)
    found = gmres(product(a.float()), b.float(), tol=1e-12, max_steps=500)
    assert found.converged.all()
    assert found.x.dtype == torch.float32
    assert (found.x.double() - exact).norm() < 1e-3 * exact.norm()
