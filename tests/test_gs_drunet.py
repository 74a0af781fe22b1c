"""A gradient-step denoiser: its equilibria are stationary, its gradients those of differences."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from conftest import plugins, small_task
from oracles import central_difference, relative_error
from torch import nn

from benchmark.measure.reference import true_equilibrium
from benchmark.problems.bilevel import upper_loss

TIGHT = {"tol": 1e-10, "adjoint_tol": 1e-10}


@cache
def solved():
    """A task of one image, and its equilibrium."""
    task = small_task(
        lower="gs_drunet(regularisation=0.5)", degradation="denoising(sigma=0.1)", size=8
    )
    batch = task.probe[:1]
    found = true_equilibrium(task.lower, batch.observation, tol=1e-12)
    assert found.residual < 1e-11
    return task.lower, batch, found.x


def directions(x, number: int):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(number, *x.shape, generator=generator, dtype=x.dtype)
    return drawn / drawn.flatten(1).norm(dim=1).view(-1, *[1] * x.ndim)


def test_an_equilibrium_is_a_stationary_point_of_the_function():
    lower, batch, x = solved()
    moved = x.clone()

    def energy():
        with torch.no_grad():
            return lower.energy(moved, batch.observation).item()

    for v in directions(x, 6):
        assert abs(central_difference(energy, [moved], [v], step=1e-5)) < 1e-8
    # elsewhere its slope is what the layer goes along
    with torch.no_grad():
        moved += 0.01 * directions(x, 1)[0]
        step = moved - lower.step(moved, batch.observation)
    tau = 1 / (lower.data_lipschitz + 0.5)
    for v in directions(x, 6):
        slope = central_difference(energy, [moved], [v], step=1e-5)
        assert slope == pytest.approx(float((step * v).sum()) / tau, rel=1e-5)


def test_the_jacobian_is_symmetric_and_changes_continuously():
    lower, batch, x = solved()
    assert lower.known.symmetric and not lower.known.unique
    assert not any(isinstance(part, nn.ReLU) for part in lower.modules())
    u, v = directions(x, 2)
    leaf = x.clone().requires_grad_()
    image = lower.step(leaf, batch.observation)
    ju, jv = (torch.autograd.grad(image, leaf, w, retain_graph=True)[0] for w in (u, v))
    assert float((ju * v).sum()) == pytest.approx(float((jv * u).sum()), rel=1e-9)


def test_its_hypergradient_is_that_of_differences():
    """By both adjoint solvers, along λ, σ and a random change of the weights."""
    lower, batch, x = solved()
    found = {
        solver: plugins()["DEQ"]
        .get_instance(adjoint_solver=solver, **TIGHT)
        .hypergradient(lower, batch)
        for solver in ("cg", "gmres")
    }
    flat = {
        name: torch.cat([g.flatten() for g in estimate.gradient])
        for name, estimate in found.items()
    }
    assert relative_error(flat["cg"], flat["gmres"]) < 1e-6
    theta, generator = lower.theta(), torch.Generator().manual_seed(1)

    def value():
        x_here = true_equilibrium(lower, batch.observation, tol=1e-11, x0=x).x
        return upper_loss(lower, x_here, batch).item()

    for names in (["log_regularisation"], ["log_noise_level"], list(theta)[:-2]):
        direction = {
            name: torch.randn(p.shape, generator=generator, dtype=p.dtype) * (name in names)
            for name, p in theta.items()
        }
        size = torch.cat([v.flatten() for v in direction.values()]).norm()
        direction = [v / size for v in direction.values()]
        slope = central_difference(value, list(theta.values()), direction, step=1e-5)
        computed = sum(
            float((g * v).sum()) for g, v in zip(found["cg"].gradient, direction, strict=True)
        )
        assert slope == pytest.approx(computed, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("regularisation=0", "regularisation must be a positive number, got 0"),
        ("stepsize=2", "stepsize must lie strictly between 0 and 2, got 2"),
        ("learn_denoiser=1", "learn_denoiser must be True or False, got 1"),
    ],
)
def test_bad_options_are_named(options, expected):
    with pytest.raises(ValueError, match=expected):
        small_task(lower=f"gs_drunet({options})", size=8)
