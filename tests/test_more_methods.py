"""Each method against what its docstring says that it computes, and each of its options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LOWER_SPECS, plugins, small_task
from oracles import AffineLayer, LayerProblem, relative_error

from benchmark.metering import CountedProblem, live_memory
from benchmark.problem import Batch
from benchmark.reference import reference_hypergradient


def method(name: str, **parameters):
    return plugins()[name].get_instance(**parameters)


def estimate(solver, oracle: AffineLayer) -> torch.Tensor:
    """ĝ on ``oracle``, in the units of its ``gradient``."""
    (gradient,) = solver.hypergradient(oracle.problem(), oracle.batch()).gradient
    return gradient / oracle.scale()


def flat(found) -> torch.Tensor:
    return torch.cat([g.flatten() for g in found.gradient])


def cost(solver, lower, batch) -> tuple[int, int]:
    """The layers and the products with Jᵀ of one hypergradient."""
    counted = CountedProblem(lower)
    solver.hypergradient(counted, batch)
    return counted.layer_evals, counted.vjp_evals


# --- the truncated Neumann series ---------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, 2, 3, 10])
def test_neumann_is_the_truncated_series(terms):
    oracle = AffineLayer.make(kappa=0.8)
    found = estimate(method("Neumann", tol=1e-14, terms=terms), oracle)
    assert relative_error(found, oracle.gradient(terms=terms)) < 1e-11


def test_neumann_needs_one_graph_and_as_many_products_as_terms():
    task = small_task(lower=LOWER_SPECS[2], size=32)

    def memory(name, **options):
        solver = method(name, **options)
        return live_memory(lambda: solver.hypergradient(task.lower, task.probe))

    short, long = (method("Neumann", terms=terms) for terms in (2, 12))
    layers, products = cost(short, task.lower, task.probe)
    assert cost(long, task.lower, task.probe) == (layers, products + 10)
    assert memory("Neumann", terms=30) <= memory("Neumann", terms=3)
    assert memory("Neumann", terms=30) < memory("Restarted-JFB", restarts=1, layers=30) / 2


# --- the phantom gradient -----------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.3, 1.0])
@pytest.mark.parametrize("layers", [1, 4])
def test_phantom_is_the_series_of_the_damped_layer(layers, damping):
    oracle = AffineLayer.make(kappa=0.8)
    found = estimate(method("Phantom", tol=1e-14, layers=layers, damping=damping), oracle)
    g = (oracle.equilibrium() - oracle.target).flatten(1).T
    damped = (1 - damping) * torch.eye(len(g), dtype=g.dtype) + damping * oracle.matrix.T
    w = sum(torch.linalg.matrix_power(damped, k) @ g for k in range(layers))
    assert relative_error(found, damping * (oracle.injection.T @ w).sum(1)) < 1e-11


# --- checkpointed unrolling ---------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 7, 9, 10])
def test_checkpointed_unrolling_is_unrolling(layers):
    task = small_task(lower=LOWER_SPECS[4], degradation="inpainting(keep=0.5)")
    plain, checkpointed = (
        method(name, layers=layers).hypergradient(task.lower, task.probe)
        for name in ("Unrolling", "Checkpointed-Unrolling")
    )
    assert torch.equal(checkpointed.state, plain.state)
    assert torch.equal(checkpointed.loss, plain.loss)
    assert relative_error(flat(checkpointed), flat(plain)) < 1e-13


def test_checkpointed_unrolling_gives_time_for_memory():
    task = small_task(lower=LOWER_SPECS[2], size=32)
    memory = {}
    for name in ("Unrolling", "Checkpointed-Unrolling"):
        solver = method(name, layers=100)
        memory[name] = live_memory(lambda s=solver: s.hypergradient(task.lower, task.probe))
        layers, products = cost(solver, task.lower, task.probe)
        assert (layers, products) == (100 if name == "Unrolling" else 200, 100)
    # 10 graphs and 10 states instead of 100 graphs
    assert memory["Checkpointed-Unrolling"] < memory["Unrolling"] / 3


# --- finite differences and simultaneous perturbation -------------------------------------------


@pytest.mark.parametrize("lower", LOWER_SPECS)
def test_finite_differences_agree_with_the_reference(lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    solver = method("Finite-Differences", step=1e-5, tol=1e-13)
    found = flat(solver.hypergradient(task.lower, task.probe))
    assert relative_error(found, reference_hypergradient(task.lower, task.probe).gradient) < 1e-5


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
    oracle = AffineLayer.make(kappa=0.5)
    # F is quadratic here: no error of the step
    found = estimate(method("SPSA", directions=400, tol=1e-6, step=0.1), oracle)
    # standard deviation √((P − 1)/D) with P = 5
    assert relative_error(found, oracle.gradient()) < 3 * (4 / 400) ** 0.5
    assert estimate(method("SPSA", directions=1), oracle).abs().std() < 1e-6, "all ±the same slope"


def test_simultaneous_perturbation_draws_anew_and_repeatably():
    """The mean over calls approaches ∇F as well; seeds differ, runs with the same one do not."""
    oracle = AffineLayer.make(kappa=0.5)
    problem, batch = oracle.problem(), oracle.batch()

    def calls(number, seed=None):
        solver = method("SPSA", directions=1, tol=1e-6, step=0.1)
        if seed is not None:
            solver.set_objective(replace(small_task(lower=LOWER_SPECS[0], size=8), seed=seed))
        found = [flat(solver.hypergradient(problem, batch)) for _ in range(number)]
        return torch.stack(found) / oracle.scale()

    drawn = calls(150)
    assert relative_error(drawn.mean(0), oracle.gradient()) < 3 * (4 / 150) ** 0.5
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


# --- options that several methods share ---------------------------------------------------------

TO_A_TOLERANCE = ["Neumann", "Phantom", "Finite-Differences", "SPSA"]


@pytest.mark.parametrize("name", TO_A_TOLERANCE)
def test_the_tolerance_and_the_bound_on_layers_are_kept(name):
    oracle = AffineLayer.make(kappa=0.95)
    problem, batch = oracle.problem(), oracle.batch()
    loose, tight = (cost(method(name, tol=tol), problem, batch)[0] for tol in (1e-2, 1e-10))
    assert loose < tight
    with pytest.warns(UserWarning, match="did not converge"):
        assert cost(method(name, max_layers=4), problem, batch)[0] < tight


@pytest.mark.parametrize("name", TO_A_TOLERANCE)
def test_polish_is_what_meets_a_tolerance_in_float32(name):
    task = small_task(lower=LOWER_SPECS[2]).to(device=torch.device("cpu"), dtype=torch.float32)
    polished = method(name, tol=1e-10).hypergradient(task.lower, task.probe)
    assert flat(polished).dtype == polished.state.dtype == torch.float32
    with pytest.raises(ValueError, match="out of reach in float32"):
        method(name, tol=1e-10, polish=False).hypergradient(task.lower, task.probe)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("Neumann", "terms", 0, "terms must be an integer of at least 1, got 0"),
        ("Phantom", "damping", 1.5, "damping must be a number above 0, at most 1, got 1.5"),
    ],
)
def test_bad_parameters_are_named(name, parameter, value, expected):
    with pytest.raises(ValueError) as raised:
        method(name, **{parameter: value})
    assert expected in str(raised.value)
    assert name in str(raised.value)
