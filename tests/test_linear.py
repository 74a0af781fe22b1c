"""The batched linear solvers against dense solves, on random systems."""

from __future__ import annotations

import warnings

import numpy as np
import plain_solvers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.solve.krylov import _orthogonalise, bicgstab, cg, gmres
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


def test_float32_is_not_asked_for_more_than_it_can_give():
    a, b, exact = systems(2, 20, kappa=0.9, seed=5)
    found = gmres(product(a.float()), b.float(), tol=1e-12, max_steps=500)
    assert found.converged.all()
    assert found.x.dtype == torch.float32
    assert (found.x.double() - exact).norm() < 1e-3 * exact.norm()


# --- product by product, against the same methods written for one vector ------------------------


def one_system(n: int = 9, *, kappa: float = 0.9, seed: int = 11):
    """A (n, n), b and a start, as arrays, and as the solvers take them; A is not symmetric."""
    a, b, _ = systems(1, n, kappa=kappa, seed=seed)
    return a, b, random(1, n, seed=seed + 2)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("restart", [1, 2, 4, 50])
def test_gmres_minimises_the_residual_over_the_krylov_space(restart, given):
    a, b, near = one_system()
    matrix, right, x = a[0].numpy(), b[0].numpy(), near[0].numpy() if given else None
    for max_steps in range(2, 11):
        counted = Counted(product(a))
        x0 = near if given else None
        found = gmres(counted, b, tol=1e-14, max_steps=max_steps, restart=restart, x0=x0)
        exact = plain_solvers.gmres(matrix, right, restart=restart, products=max_steps, x=x)
        np.testing.assert_allclose(found.x[0], exact, rtol=0, atol=1e-12)
        # one product is left over where a cycle cannot begin with it: its residual takes another
        assert max_steps - 1 <= found.steps.item() == counted.calls <= max_steps


@pytest.mark.parametrize("tol", [0.5, 1e-1, 1e-2, 1e-4, 1e-8])
def test_gmres_stops_at_the_first_product_that_is_good_enough(tol):
    a, b, _ = one_system(20)
    matrix, right = a[0].numpy(), b[0].numpy()
    points = (plain_solvers.gmres(matrix, right, restart=50, products=k + 1) for k in range(21))
    residuals = np.array([np.linalg.norm(right - matrix @ x) for x in points])
    residuals /= np.linalg.norm(right)
    enough = int(np.argmax(residuals <= tol))
    found = gmres(product(a), b, tol=tol, max_steps=100)
    assert found.steps.item() == enough + 1
    assert found.residual.item() == pytest.approx(residuals[enough], rel=1e-6)


def test_a_vector_that_cancels_is_orthogonalised_again():
    """Of 1 + 10⁻⁹ along a new direction the first pass leaves rounding along the old ones too."""
    q = torch.linalg.qr(random(2, 30, 30, seed=1))[0].mT
    old, new = q[:, :5].contiguous(), q[:, 5]
    along = random(2, 5, seed=2)
    for small in (1.0, 1e-3, 1e-9, 1e-12):
        found = _orthogonalise((along[:, None] @ old)[:, 0] + small * new, old)
        assert (old @ found.w[..., None]).abs().max() < 1e-14 * small + 1e-25
        np.testing.assert_allclose(found.length, small, rtol=1e-15 / small + 1e-14)
        np.testing.assert_allclose(found.along, along, rtol=1e-13)
        np.testing.assert_allclose(found.before, (along.norm(dim=1) ** 2 + small**2) ** 0.5)
    # whatever the size of the vector
    large = _orthogonalise(1e6 * ((along[:, None] @ old)[:, 0] + 1e-9 * new), old)
    assert (old @ large.w[..., None]).abs().max() < 1e-16
    inside = _orthogonalise((along[:, None] @ old)[:, 0], old)
    assert inside.length.tolist() == [0, 0], "what is left is rounding"


def test_bicgstab_step_by_step():
    a, b, _ = one_system(12, kappa=0.6)
    iterates = plain_solvers.bicgstab(a[0].numpy(), b[0].numpy(), steps=6)
    residuals = [np.linalg.norm(b[0].numpy() - a[0].numpy() @ x) for x in iterates]
    assert (np.diff(residuals) < 0).all(), "else the best would not be the last"
    for steps in range(1, 7):
        for products in (2 * steps + 1, 2 * steps + 2):  # one more is no step
            found = bicgstab(product(a), b, tol=1e-14, max_steps=products)
            np.testing.assert_allclose(found.x[0], iterates[steps], rtol=0, atol=1e-10)
            assert found.steps.item() == 2 * steps + 1
    for k in range(1, 7):  # it stops where that is enough, after a product for the true residual
        tol = 1.001 * residuals[k] / residuals[0]
        found = bicgstab(product(a), b, tol=tol, max_steps=100)
        assert found.converged.all()
        assert found.steps.item() == 2 * k + 1


def test_bicgstab_returns_its_best_iterate():
    a, b, _ = one_system(12, kappa=1.6, seed=3)
    iterates = plain_solvers.bicgstab(a[0].numpy(), b[0].numpy(), steps=8)
    residuals = [np.linalg.norm(b[0].numpy() - a[0].numpy() @ x) for x in iterates]
    best = [int(np.argmin(residuals[: k + 1])) for k in range(9)]
    assert any(i < k for k, i in enumerate(best)), "else this would be the test above"
    for k in range(1, 9):
        found = bicgstab(product(a), b, tol=1e-14, max_steps=2 * k + 1)
        np.testing.assert_allclose(found.x[0], iterates[best[k]], rtol=0, atol=1e-9)


def test_cg_step_by_step():
    a, b, _ = symmetric_systems(1, 12, kappa=0.9, seed=3)
    g = torch.eye(12, dtype=torch.float64) - a
    q = torch.linalg.qr(random(1, 12, 12, seed=4))[0][:, :, :7]
    p = q @ q.mT
    system = ProjectedSystem(P=product(p), G=product(g))
    iterates = plain_solvers.cg(p[0].numpy(), g[0].numpy(), b[0].numpy(), steps=6)
    for steps in range(7):
        # a product for the last P and the first G, one for the true residual
        found = cg(system, b, tol=1e-14, max_steps=steps + 2)
        np.testing.assert_allclose(found.x[0], iterates[steps], rtol=0, atol=1e-11)
        assert found.steps.item() == steps + 2


def test_neumann_step_by_step():
    """From b the k-th iterate is Σ_{i<k} Mⁱ b, with the residual Mᵏ b; from x⁰ it is Mᵏ further."""
    a, b, near = one_system()
    m = torch.eye(9, dtype=torch.float64) - a
    series = power = b
    for k in range(1, 12):
        found = neumann(product(a), b, tol=1e-14, max_steps=k)
        power = product(m)(power)
        assert torch.allclose(found.x, series, rtol=0, atol=1e-13)
        assert found.residual.item() == pytest.approx(float(power.norm() / b.norm()))
        assert found.steps.item() == k
        series = series + power
    found = neumann(product(a), b, tol=1e-14, max_steps=3, x0=near)
    exact = b + product(m)(b + product(m)(near))
    assert torch.allclose(found.x, exact, rtol=0, atol=1e-13)


def test_anderson_step_by_step():
    """Ten differences; the twelfth product is the first that could tell eleven from them."""
    a, b, _ = symmetric_systems(1, 60, kappa=0.98, seed=8)
    matrix, right = a[0].numpy(), b[0].numpy()
    points = []

    def matvec(x):
        points.append(x[0].numpy())
        return product(a)(x)

    anderson(matvec, b, tol=1e-13, max_steps=14)
    ten, eleven = (
        plain_solvers.solve(
            lambda x: x + right - matrix @ x,
            right,
            propose=plain_solvers.mixing(depth),
            layers=14,
        )[0]
        for depth in (10, 11)
    )
    np.testing.assert_allclose(points, ten, rtol=0, atol=1e-8)
    assert np.abs(ten - eleven).max() > 1e-6


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_tolerance_itself_is_within_the_tolerance(name):
    a, b, _ = symmetric_systems(1, 30, kappa=0.9, seed=9)
    stopped = SOLVERS[name](product(a), b, tol=1e-14, max_steps=7)
    assert not stopped.converged.any()
    again = SOLVERS[name](product(a), b, tol=stopped.residual.item(), max_steps=7)
    assert again.converged.all()


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_nothing_is_said_of_numbers_that_overflow(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for matvec in (lambda x: -1e200 * x, lambda x: x * torch.nan, lambda x: 0 * x):
            SOLVERS[name](matvec, 1e200 * torch.ones(1, 2).double(), tol=1e-5, max_steps=40)


def test_a_cycle_that_gains_nothing_is_the_last():
    """x₀ = 1 is all that diag(1, 0) can do for (1, 1): a second cycle sees it."""
    singular = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))[None]
    b = torch.ones(1, 2, dtype=torch.float64)
    # what its cycles need: two or four products in the first, then two, and a residual each
    for name, products in (("gmres", 3 + 3), ("bicgstab", 5 + 3), ("cg", 4 + 0)):
        counted = Counted(product(singular))
        found = SOLVERS[name](counted, b, tol=1e-10, max_steps=1000)
        assert found.residual.item() == pytest.approx(0.5**0.5)
        assert (name, counted.calls) == (name, products)


def test_a_gain_of_a_hundredth_is_worth_another_cycle():
    """A rotation by φ leaves gmres(1) with sin φ of the residual in each cycle."""
    b = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for sine, products in ((0.98, 40), (0.995, 2)):
        cosine = (1 - sine**2) ** 0.5
        a = torch.tensor([[[cosine, -sine], [sine, cosine]]], dtype=torch.float64)
        counted = Counted(product(a))
        found = gmres(counted, b, tol=1e-10, max_steps=40, restart=1)
        assert counted.calls == found.steps.item() == products
        assert found.residual.item() == pytest.approx(sine ** (products / 2))


@pytest.mark.parametrize("solve", [cg, gmres, bicgstab, neumann])
def test_a_sample_that_is_done_waits_for_the_others_unchanged(solve):
    """One system is next to the identity, one far from it: each ends as it would alone."""
    a, b, _ = symmetric_systems(2, 20, kappa=0.95, seed=6)
    a[0] = 0.01 * a[0] + 0.99 * torch.eye(20)
    told = symmetric if solve is cg else lambda matvec: matvec
    both = solve(told(product(a)), b, tol=1e-9, max_steps=900)
    assert both.converged.all() and both.steps[0] < both.steps[1] / 2
    for i in range(2):
        alone = solve(told(product(a[i : i + 1])), b[i : i + 1], tol=1e-9, max_steps=900)
        assert alone.steps[0] == both.steps[i]
        assert torch.allclose(alone.x[0], both.x[i], rtol=1e-12)
        assert torch.allclose(alone.residual[0], both.residual[i], rtol=1e-3)


@pytest.mark.parametrize("solve", [cg, gmres, bicgstab, neumann, anderson])
def test_the_scale_of_the_right_hand_side_does_not_matter(solve):
    """Powers of two pass through all arithmetic unchanged."""
    a, b, _ = symmetric_systems(2, 12, kappa=0.9, seed=7)
    told = symmetric if solve is cg else lambda matvec: matvec
    found = solve(told(product(a)), b, tol=1e-8, max_steps=200)
    assert found.converged.all()
    for scale in (2.0**-60, 2.0**60):
        scaled = solve(told(product(a)), scale * b, tol=1e-8, max_steps=200)
        assert torch.equal(scaled.steps, found.steps)
        assert torch.allclose(scaled.x / scale, found.x, rtol=1e-9)


def test_a_breakdown_of_bicgstab_is_seen_at_once():
    """b = e₁ and a first row of e₁ᵀ: the second residual is orthogonal to the shadow e₁.

    Two products, one for the residual, and again from there in the plane of the other two: two
    steps, and one for the residual.
    """
    a = torch.tensor([[[1.0, 0, 0], [1, 2, 1], [0.5, -1, 3]]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    found = bicgstab(product(a), b, tol=1e-10, max_steps=50)
    assert found.converged.all() and found.steps.item() == 2 + 1 + 4 + 1
    # a rotation by 90°: A r is orthogonal to r, and nothing is gained
    a = torch.tensor([[[0.0, -1], [1, 0]]], dtype=torch.float64)
    found = bicgstab(product(a), b[:, :2], tol=1e-10, max_steps=50)
    assert found.residual.item() == 1 and found.x.tolist() == [[0, 0]]
