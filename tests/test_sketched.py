"""Inverses along the range of a sketch: exact where the rank suffices, nearer with it elsewhere."""

from __future__ import annotations

import torch
from conftest import LOWER_SPECS, plugins, small_task
from oracles import relative_error

from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import reference_hypergradient
from benchmark.solve.sketched import sketched
from benchmark.solve.system import ProjectedSystem


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(told, b, rank: int, forward=None):
    generator = torch.Generator().manual_seed(1)
    return sketched(told, b, forward=forward, rank=rank, generator=generator)


def test_half_a_projection_is_solved_on_its_range():
    """P keeps twelve coordinates, G has rank five and eigenvalues of both signs; A = I − GP."""
    basis = torch.linalg.qr(drawn(20, 20))[0]
    rates = torch.zeros(20).double()
    rates[:5] = torch.linspace(-0.9, 0.95, 5)
    g, p = basis @ torch.diag(rates) @ basis.T, torch.diag((torch.arange(20) < 12).double())
    told = ProjectedSystem(P=lambda x: x @ p, G=lambda x: x @ g)
    matrix, b = torch.eye(20) - g @ p, drawn(3, 20, seed=2)
    exact = torch.linalg.solve(matrix, b.T).T
    assert relative_error(solved(told, b, rank=5).x, exact) < 1e-9
    assert relative_error(solved(told, b, rank=99).x, exact) < 1e-9
    rough = solved(told, b, rank=2)
    assert relative_error(rough.x, exact) > 1e-3
    true = torch.linalg.vector_norm(b - rough.x @ matrix.T, dim=1) / b.norm(dim=1)
    assert torch.allclose(rough.residual, true)


def test_a_layer_that_is_not_symmetric_is_seen_from_both_sides():
    """J of rank 4, far from normal; the right formula by dense matrices where 3 do not suffice."""
    left, right = drawn(2, 20, 4)
    jacobian = left @ right.T
    jacobian *= 0.9 / torch.linalg.eigvals(jacobian).abs().max()
    b = drawn(3, 20, seed=2)
    told = {"told": lambda w: w - w @ jacobian, "forward": lambda w: w @ jacobian.T}
    exact = torch.linalg.solve(torch.eye(20) - jacobian.T, b.T).T
    assert relative_error(solved(b=b, rank=4, **told).x, exact) < 1e-8
    omega = torch.randn(3, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q = torch.linalg.qr(jacobian.T @ omega.T)[0]
    approximate = torch.linalg.solve(torch.eye(20) - q @ q.T @ jacobian.T, b.T).T
    assert relative_error(solved(b=b, rank=3, **told).x, approximate) < 1e-9


def test_its_hypergradient_comes_near_with_its_directions_and_costs_as_many_products():
    task = small_task(lower=LOWER_SPECS[2], degradation="deblurring(width=0.8)", size=8)
    exact = reference_hypergradient(task.lower, task.probe).gradient
    errors = []
    for directions in (2, 20, 60):
        counted = CountedProblem(task.lower)
        solver = plugins()["Sketched-DEQ"].get_instance(directions=directions, tol=1e-9)
        found = solver.hypergradient(counted, task.probe).gradient
        errors.append(relative_error(torch.cat([g.flatten() for g in found]), exact))
        assert counted.vjp_evals <= 2 * directions + 4
    assert 3 * errors[2] < errors[1] < errors[0]
