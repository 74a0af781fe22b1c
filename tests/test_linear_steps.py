"""The linear solvers product by product, against the same methods written for one vector."""

from __future__ import annotations

import warnings

import numpy as np
import plain_solvers
import pytest
import torch
from test_linear import SOLVERS, Counted, product, random, symmetric, symmetric_systems, systems

from benchmark.solve.growing import Vectors
from benchmark.solve.krylov import _orthogonalise, bicgstab, cg, gmres
from benchmark.solve.linear import anderson, neumann
from benchmark.solve.system import ProjectedSystem


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
    along, past = random(2, 5, seed=2), Vectors(new, most=9)
    for k in range(5):
        past.slot(k).copy_(old[:, k])
    for small in (1.0, 1e-3, 1e-9, 1e-12):
        found = _orthogonalise((along[:, None] @ old)[:, 0] + small * new, past)
        assert (old @ found.w[..., None]).abs().max() < 1e-14 * small + 1e-25
        np.testing.assert_allclose(found.length, small, rtol=1e-15 / small + 1e-14)
        np.testing.assert_allclose(found.along, along, rtol=1e-13)
        np.testing.assert_allclose(found.before, (along.norm(dim=1) ** 2 + small**2) ** 0.5)
    # whatever the size of the vector
    large = _orthogonalise(1e6 * ((along[:, None] @ old)[:, 0] + 1e-9 * new), past)
    assert (old @ large.w[..., None]).abs().max() < 1e-16
    inside = _orthogonalise((along[:, None] @ old)[:, 0], past)
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
