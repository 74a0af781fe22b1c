"""A penalty on the Jacobian: what it is, that F and ∇F hold it, and what it does to a layer."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins, small_task
from oracles import central_difference, relative_error
from shared import iter_callback

from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import true_equilibrium
from benchmark.problems.bilevel import upper_loss
from benchmark.problems.jacobian_penalty import jacobian_penalty

SPEC = "drunet(noise_level=0.2,stepsize=1.5,jacobian_weight={})"


def task_of(weight: float):
    return small_task(lower=SPEC.format(weight), degradation="denoising(sigma=0.1)", size=8)


def test_it_is_the_size_of_the_jacobian_seen_from_one_direction():
    """J = diag(rates) and signs: Σ rates²/n, whatever the signs; its gradient, by hand."""
    rates = torch.tensor([0.5, -2.0, 1.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 3, dtype=torch.float64)
    found = jacobian_penalty(lambda x: rates * x, x)
    assert found.item() == pytest.approx((0.25 + 4 + 1) / 3)
    (gradient,) = torch.autograd.grad(found, rates)
    assert torch.allclose(gradient, 2 * rates.detach() / 3)
    # each sample has its own
    square = jacobian_penalty(lambda x: x**2 / 2, x)
    assert square.item() == pytest.approx(x.square().mean().item())
    with torch.no_grad():
        assert not jacobian_penalty(lambda x: rates * x, x).requires_grad


def test_f_and_its_gradient_hold_it():
    plain, task = task_of(0), task_of(0.3)
    lower, batch = task.lower, task.probe[:1]
    x = true_equilibrium(lower, batch.observation, tol=1e-11).x
    with torch.no_grad():
        added = upper_loss(lower, x, batch) - upper_loss(plain.lower, x, batch)
        expected = 0.3 * jacobian_penalty(lower.layer(batch.observation), x)
    assert added.item() == pytest.approx(expected.item(), rel=1e-9)
    counted = CountedProblem(lower)
    solver = plugins()["DEQ"].get_instance(tol=1e-10, adjoint_tol=1e-10)
    found = solver.hypergradient(counted, batch)
    theta = list(lower.theta().values())
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in theta]
    size = torch.cat([v.flatten() for v in direction]).norm()
    direction = [v / size for v in direction]

    def value():
        at = true_equilibrium(lower, batch.observation, tol=1e-12, x0=x).x
        with torch.no_grad():
            return upper_loss(lower, at, batch).item()

    slope = central_difference(value, theta, direction, step=1e-6)
    pairs = list(zip(found.gradient, direction, strict=True))
    assert slope == pytest.approx(sum(float((g * v).sum()) for g, v in pairs), rel=1e-4)
    plainly = solver.hypergradient(plain.lower, batch).gradient
    flat = [torch.cat([g.flatten() for g in gradient]) for gradient in (found.gradient, plainly)]
    assert relative_error(*flat) > 0.1


def test_a_layer_that_is_trained_with_it_contracts_more():
    sizes = []
    for weight in (0.0, 1.0):
        task = task_of(weight)
        solver = plugins()["JFB"].get_instance(steps=3, learning_rate=1e-3, tol=1e-4)
        solver.set_objective(task)
        solver.run(iter_callback(4))
        trained, y = solver.lower, task.probe.observation
        x = true_equilibrium(trained, y, tol=1e-6).x
        sizes.append(jacobian_penalty(trained.layer(y), x).item())
    assert sizes[1] < 0.9 * sizes[0]


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="jacobian_weight must be a number of at least 0, got -1"):
        task_of(-1)
