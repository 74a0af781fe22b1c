"""Each method computes the gradient that the mathematics says it does, on layers of any origin."""

from __future__ import annotations

from functools import cache
from itertools import cycle, product

import pytest
import torch
from conftest import (
    DEGRADATION_SPECS,
    LOWER_SPECS,
    MORE_DEGRADATION_SPECS,
    MORE_LOWER_SPECS,
    plugins,
    small_reference,
    small_task,
)
from covering import covering
from oracles import (
    AffineLayer,
    central_difference,
    relative_error,
)
from shared import cheap, iter_callback, method

from benchmark.measure.reference import true_equilibrium
from benchmark.plugins.inexact_descent import InexactDescent
from benchmark.plugins.search_method import SearchMethod
from benchmark.problems.bilevel import upper_loss
from benchmark.solve.convergence import NotConverged

TIGHT = {"tol": 1e-13, "adjoint_tol": 1e-13}


# --- every lower level ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lower", "degradation"),
    # every degradation with one family, each layer with one degradation
    dict.fromkeys(
        [
            *product(LOWER_SPECS[2:3], DEGRADATION_SPECS),
            *zip(LOWER_SPECS, cycle(DEGRADATION_SPECS[1:]), strict=False),
            *product(MORE_LOWER_SPECS, DEGRADATION_SPECS[:1]),
        ]
    ),
)
def test_deq_and_the_reference_agree_with_central_differences(lower, degradation):
    task = small_task(lower=lower, degradation=degradation, size=8)
    problem, batch = task.lower, task.probe
    estimate = method("DEQ", **TIGHT, max_layers=20_000).hypergradient(problem, batch)
    reference = small_reference(lower=lower, degradation=degradation, size=8)
    assert reference.residual < 1e-10

    theta = list(problem.theta().values())
    flat = torch.cat([g.flatten() for g in estimate.gradient])
    assert relative_error(flat, reference.gradient) < 1e-8

    def exact():
        x = true_equilibrium(problem, batch.observation, tol=1e-14, x0=estimate.state).x
        return upper_loss(problem, x, batch).item()

    generator = torch.Generator().manual_seed(1)
    # half along the gradient itself, half along a direction of chance
    chance = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in theta]
    length = torch.cat([v.flatten() for v in chance]).norm()
    direction = [
        0.5 * (g / flat.norm() + v / length) for g, v in zip(estimate.gradient, chance, strict=True)
    ]
    slope = central_difference(exact, theta, direction, step=1e-5)
    computed = sum(float((g * v).sum()) for g, v in zip(estimate.gradient, direction, strict=True))
    assert abs(slope - computed) < 5e-6 * flat.norm()


@pytest.mark.parametrize("lower", LOWER_SPECS)
def test_biased_methods_equal_their_series_on_every_lower_level(lower):
    """JFB and Restarted-JFB against the series assembled from explicit Jacobians.

    The direct term through R_θ is the gradient of the loss in θ at a fixed state.
    """
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)", size=8)
    problem, batch = task.lower, task.probe[:1]
    T = problem.layer(batch.observation)
    x = method("DEQ", tol=1e-14, max_layers=50_000).deploy(problem, batch.observation)
    jacobian = torch.autograd.functional.jacobian(T, x, vectorize=True)
    jacobian = jacobian.reshape(x.numel(), x.numel())
    leaf = x.clone().requires_grad_()
    image, theta = T(x), list(problem.theta().values())
    options = {"allow_unused": True, "materialize_grads": True}
    loss = upper_loss(problem, leaf, batch)
    g, *direct = torch.autograd.grad(loss, [leaf, *theta], **options)
    g = g.flatten()

    def series(terms):
        w, power = torch.zeros_like(g), g
        for _ in range(terms):
            w, power = w + power, jacobian.T @ power
        parts = torch.autograd.grad(image, theta, w.view_as(image), retain_graph=True)
        return torch.cat([(p + q).flatten() for p, q in zip(parts, direct, strict=True)])

    def flat(estimator):
        found = estimator.hypergradient(problem, batch)
        return torch.cat([p.flatten() for p in found.gradient])

    assert relative_error(flat(method("JFB", tol=1e-14, max_layers=50_000)), series(1)) < 1e-6
    restarted = method("Restarted-JFB", restarts=200, layers=4)
    assert relative_error(flat(restarted), series(4)) < 1e-6


@cache
def shared_task(lower, degradation):
    return small_task(lower=lower, degradation=degradation)


def learns(plugin, lower, degradation):
    """Two outer steps: finite, θ moves, the task does not."""
    task = shared_task(lower, degradation)
    solver = cheap(plugin, steps=2)
    solver.set_objective(task)
    before = {name: p.clone() for name, p in task.lower.theta().items()}
    solver.run(iter_callback(3))
    result = solver.get_result()
    assert (result["training"].status, result["outer_step"]) == ("ok", 2)
    for name, value in result["theta"].items():
        assert value.isfinite().all()
        # what looks at F stays where it is unless it finds better
        looks = isinstance(solver, SearchMethod | InexactDescent)
        assert looks or not torch.equal(value, before[name])
        assert torch.equal(task.lower.theta()[name], before[name]), "the shared task has changed"


def one_each(specs):
    """The last spec of each name."""
    return sorted({spec.partition("(")[0]: spec for spec in specs}.values())


#: of families those with more options, of operators those that take less time
FAMILIES = one_each(LOWER_SPECS + MORE_LOWER_SPECS)
OPERATORS = one_each(reversed(DEGRADATION_SPECS + MORE_DEGRADATION_SPECS))
PAIRS = covering(
    {
        "name": sorted(plugins()),
        "lower": FAMILIES,
        "degradation": OPERATORS,
    }
)


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(("name", "lower", "degradation"), PAIRS)
def test_every_method_runs_on_every_lower_level_and_operator(name, lower, degradation):
    """All pairs of them."""
    learns(plugins()[name], lower, degradation)


def test_the_stepsize_gradient_vanishes_in_a_convex_problem():
    spec = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1,stepsize=1.2,learn_stepsize=True)"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)")
    estimate = method("DEQ", **TIGHT).hypergradient(task.lower, task.probe)
    gradient = dict(zip(task.lower.theta(), estimate.gradient, strict=True))
    assert gradient["log_weights"].norm() > 1e-4
    assert abs(gradient["stepsize_logit"].item()) < 1e-11
    truncated = method("Unrolling", layers=3).hypergradient(task.lower, task.probe)
    truncated = dict(zip(task.lower.theta(), truncated.gradient, strict=True))
    assert abs(truncated["stepsize_logit"].item()) > 1e-6


# --- what is said when something is wrong -----------------------------------------------------


def test_a_solve_that_stops_early_says_so():
    oracle = AffineLayer.make(kappa=0.99)
    with pytest.warns(NotConverged, match=r"the equilibrium did not converge for 3 of 3 samples"):
        method("JFB", max_layers=5).equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    oracle = AffineLayer.make(kappa=2.5)
    with pytest.warns(NotConverged, match="relative residual"):
        x = method("DEQ", max_layers=30).equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    assert x.shape == oracle.y.shape


@pytest.mark.parametrize(
    ("name", "parameter", "value", "expected"),
    [
        ("Unrolling", "layers", 0, "layers must be an integer of at least 1, got 0"),
        ("Restarted-JFB", "restarts", -1, "restarts must be an integer of at least 0, got -1"),
        ("JFB", "tol", -1e-3, "tol must be a positive number, got -0.001"),
        ("DEQ", "adjoint_tol", "1e-6", "got '1e-6' (YAML reads 1e-6 as text: write 1.0e-6)"),
        ("DEQ", "adjoint_solver", "lu", "unknown adjoint solver 'lu': expected one of "),
        ("DEQ", "equilibrium_solver", "x", "unknown equilibrium solver 'x': expected one of "),
        ("JFB", "learning_rate", 0, "learning_rate must be a positive number, got 0"),
        ("JFB", "optimizer", "lion", "unknown optimizer 'lion': expected one of "),
        ("JFB", "steps", 2.5, "steps must be an integer of at least 0, got 2.5"),
    ],
)
def test_bad_parameters_are_named(name, parameter, value, expected):
    with pytest.raises(ValueError) as raised:
        method(name, **{parameter: value})
    assert expected in str(raised.value)
    assert name in str(raised.value)
