"""Systems that hand on directions: solutions, what is handed on, and what it saves."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins
from oracles import AffineLayer, relative_error

from benchmark.solve.krylov import gmres
from benchmark.solve.recycled import recycled


def slow_system(n: int = 40, slow: int = 3):
    """A = I − J, not symmetric, with ``slow`` directions that are hardly there, and two b."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    basis = torch.linalg.qr(torch.randn(n, n, **draw))[0]
    rates = torch.cat([torch.logspace(-3, -2, slow), torch.linspace(0.5, 1.5, n - slow)]).double()
    skew = torch.randn(n, n, **draw)
    matrix = basis @ torch.diag(rates) @ basis.T + 1e-4 * (skew - skew.T)
    return matrix, torch.randn(2, 3, n, **draw), basis[:, :slow]


def solved(matrix, b, space=None, **options):
    spec = {"tol": 1e-10, "max_steps": 300, "keep": 3} | options
    return recycled(lambda x: x @ matrix.T, b, space, **spec)


def test_it_takes_as_many_products_as_gmres_and_finds_the_same():
    matrix, (b, _), _ = slow_system()
    exact = torch.linalg.solve(matrix, b.T).T
    found = solved(matrix, b).solution
    other = gmres(lambda x: x @ matrix.T, b, tol=1e-10, max_steps=300)
    assert relative_error(found.x, exact) < 1e-6
    assert found.converged.all()
    assert (found.steps - other.steps).abs().max() <= 1
    true = torch.linalg.vector_norm(b - found.x @ matrix.T, dim=1) / b.norm(dim=1)
    assert torch.allclose(found.residual, true)


def test_what_is_handed_on_is_what_was_slow():
    matrix, (b, later), slow = slow_system()
    first = solved(matrix, b)
    overlap = torch.linalg.svdvals(torch.linalg.qr(first.space.mT)[0].mT @ slow)
    assert overlap.min() > 0.99
    alone, helped = (solved(matrix, later, space).solution for space in (None, first.space))
    assert relative_error(helped.x, alone.x) < 1e-6
    # three of its products are those of what was handed on
    assert (helped.steps < alone.steps - 3).all()


def test_a_round_takes_no_more_memory_than_it_says_and_still_ends():
    """More directions are needed than are held at once."""
    generator = torch.Generator().manual_seed(0)
    rates = torch.logspace(-3, 0, 200, dtype=torch.float64)
    b = torch.randn(2, 200, generator=generator, dtype=torch.float64)
    found = recycled(lambda x: rates * x, b, None, tol=1e-8, max_steps=2000, keep=8)
    assert found.solution.converged.all()
    assert found.solution.steps.max() > 60
    assert relative_error(found.solution.x, b / rates) < 1e-4


def test_samples_are_by_themselves_and_zero_is_solved_by_zero():
    matrix, (b, _), _ = slow_system()
    b[1] = 0
    together = solved(matrix, b)
    assert torch.equal(together.solution.x[1], torch.zeros_like(b[1]))
    for i in (0, 2):
        alone = solved(matrix, b[[i]])
        assert relative_error(together.solution.x[[i]], alone.solution.x) < 1e-7
        assert together.solution.steps[i] == alone.solution.steps[0]


def test_its_gradient_is_the_closed_form_each_time():
    oracle = AffineLayer.make(kappa=0.95)
    problem, batch = oracle.problem(), oracle.batch(index=(0, 1, 2))
    solver = plugins()["Recycled-DEQ"].get_instance(tol=1e-13, adjoint_tol=1e-12)
    for _ in range(3):
        (gradient,) = solver.hypergradient(problem, batch).gradient
        assert relative_error(gradient / oracle.scale(), oracle.gradient()) < 1e-9
    assert solver.carried.get("space", batch, None).shape == (3, 4, 24)


def test_directions_that_are_combinations_of_others_cost_a_product_each_and_no_more():
    """The images of all but three of these are, to rounding, in the span of the others'."""
    rates = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64).repeat(1, 8)
    draw = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    b = torch.randn(1, 24, **draw)
    space = torch.randn(1, 1, 24, **draw) * (1 + 1e-14 * torch.randn(1, 6, 24, **draw))
    done = recycled(lambda x: rates * x, b, space, tol=1e-12, max_steps=500, keep=6)
    assert done.solution.converged.all() and done.solution.steps.item() <= 6 + 6
    assert relative_error(done.solution.x, b / rates) < 1e-11
    again = recycled(lambda x: rates * x, b + 1, done.space, tol=1e-12, max_steps=500, keep=6)
    assert again.solution.converged.all() and again.solution.steps.item() <= 6 + 6


@pytest.mark.parametrize(
    ("dtype", "tol"), [(torch.complex128, 1e-11), (torch.complex64, 1e-5), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("samples", [0, 2])
def test_complex_systems_coarse_dtypes_and_none(dtype, tol, samples):
    rates = torch.tensor([[0.5, 0.2, -0.7, 0.1]], dtype=dtype)
    if dtype.is_complex:
        rates = rates * (1 + 0.6j)
    b, space = torch.ones(samples, 4, dtype=dtype), None
    for scale in (1, 2):
        found = recycled(lambda x: x - rates * x, scale * b, space, tol=tol, max_steps=50, keep=2)
        space = found.space
        assert found.solution.converged.all() and found.solution.x.dtype == dtype
        assert len(found.solution.residual) == samples
        expected = (scale / (1 - rates)).expand(samples, 4)
        torch.testing.assert_close(found.solution.x, expected, rtol=3 * tol, atol=3 * tol)
