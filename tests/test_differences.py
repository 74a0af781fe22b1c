"""Finite differences, simultaneous perturbation and forward mode: no graph of an adjoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LOWER_SPECS, small_reference, small_task
from oracles import AffineLayer, LayerProblem, relative_error
from shared import flat, method
from test_more_methods import cost, estimate

from benchmark.problems.bilevel import Batch

# --- finite differences and simultaneous perturbation -------------------------------------------


@pytest.mark.parametrize("lower", LOWER_SPECS[::2])
def test_finite_differences_agree_with_the_reference(lower):
    """One of each family: how its equilibria are solved does not depend on its options."""
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    solver = method("Finite-Differences", step=1e-5, tol=1e-13)
    found = flat(solver.hypergradient(task.lower, task.probe))
    reference = small_reference(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    assert relative_error(found, reference.gradient) < 1e-5


def quadratic_in(theta_power):
    """x* = 2θᵖ y, so that F = (2θᵖ − 1)² for y = truth = 1."""
    theta = torch.tensor([0.5, 0.8], dtype=torch.float64)
    y = torch.ones(1, 2, dtype=torch.float64)
    problem = LayerProblem(theta, lambda theta, x, y: 0.5 * x + theta**theta_power * y)
    return problem, Batch(y, y)


def test_the_error_of_finite_differences_is_quadratic_in_the_step():
    problem, batch = quadratic_in(2)
    # F = ½ Σ (2θ² − 1)²
    expected = 4 * problem.weight.detach() * (2 * problem.weight.detach() ** 2 - 1)
    errors = [
        relative_error(
            flat(method("Finite-Differences", step=h, tol=1e-14).hypergradient(problem, batch)),
            expected,
        )
        for h in (1e-1, 1e-2)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


def test_simultaneous_perturbation_is_right_on_average():
    oracle = AffineLayer.make(kappa=0.1)
    # F is quadratic here: no error of the step
    found = estimate(method("SPSA", directions=200, tol=1e-5, step=1.0), oracle)
    # standard deviation √((P − 1)/D) with P = 5
    assert relative_error(found, oracle.gradient()) < 3 * (4 / 200) ** 0.5
    assert estimate(method("SPSA", directions=1), oracle).abs().std() < 1e-6, "all ±the same slope"


def test_simultaneous_perturbation_draws_anew_and_repeatably():
    """The mean over calls approaches ∇F as well; seeds differ, runs with the same one do not."""
    oracle = AffineLayer.make(kappa=0.1)
    problem, batch = oracle.problem(), oracle.batch()

    def calls(number, seed=None):
        solver = method("SPSA", directions=1, tol=1e-5, step=1.0)
        if seed is not None:
            solver.set_objective(replace(small_task(lower=LOWER_SPECS[0], size=8), seed=seed))
        found = [flat(solver.hypergradient(problem, batch)) for _ in range(number)]
        return torch.stack(found) / oracle.scale()

    drawn = calls(100)
    assert relative_error(drawn.mean(0), oracle.gradient()) < 3 * (4 / 100) ** 0.5
    assert torch.equal(calls(3), drawn[:3])
    assert torch.equal(calls(3, seed=7), calls(3, seed=7))
    assert not torch.equal(calls(3, seed=7), calls(3, seed=8))


@pytest.mark.parametrize("name", ["Finite-Differences", "SPSA"])
def test_differences_cost_two_equilibria_a_direction(name):
    task = small_task(lower=LOWER_SPECS[2])
    spec = {"max_layers": 1, "tol": 1.0}
    directions = {"directions": 6} if name == "SPSA" else {}
    assert cost(method(name, **spec, **directions), task.lower, task.probe) == (13, 0)
    a, b = (method(name, step=h).hypergradient(task.lower, task.probe) for h in (1e-1, 1e-3))
    assert 1e-8 < relative_error(flat(a), flat(b)) < 0.5


@pytest.mark.parametrize("name", ["Finite-Differences", "Forward-Mode"])
def test_too_many_parameters_are_refused(name):
    task = small_task(lower=LOWER_SPECS[2])
    with pytest.raises(ValueError, match="6 parameters are learned, max_parameters is 5"):
        method(name, max_parameters=5).hypergradient(task.lower, task.probe)
    method(name, max_parameters=6).hypergradient(task.lower, task.probe)


# --- forward mode -------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", LOWER_SPECS[::2])
def test_forward_mode_agrees_with_the_reference(lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    found = method("Forward-Mode", tol=1e-12).hypergradient(task.lower, task.probe)
    reference = small_reference(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    assert relative_error(flat(found), reference.gradient) < 1e-7


@pytest.mark.parametrize("equilibrium_solver", ["picard", "anderson"])
@pytest.mark.parametrize("tangent_solver", ["neumann", "gmres"])
def test_forward_mode_is_the_closed_form(equilibrium_solver, tangent_solver):
    oracle = AffineLayer.make(kappa=0.9)
    solvers = {"equilibrium_solver": equilibrium_solver, "tangent_solver": tangent_solver}
    found = estimate(method("Forward-Mode", tol=1e-13, **solvers), oracle)
    assert relative_error(found, oracle.gradient()) < 1e-10


def test_forward_mode_counts_its_products_as_layers():
    """P columns and, for each, as many products with J as its solver takes."""
    oracle = AffineLayer.make(kappa=0.5)
    counts = [
        cost(method("Forward-Mode", tol=tol), oracle.problem(), oracle.batch())
        for tol in (1e-2, 1e-10)
    ]
    assert [products for _, products in counts] == [1, 1]
    assert counts[0][0] > 2 * 5
    assert counts[1][0] > counts[0][0] + 5 * 5
