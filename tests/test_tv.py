"""Total variation: duality gaps, closed forms, and hypergradients through image and dual."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import small_task
from oracles import relative_error

from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.plugins.task import make_task


def perturbed(options: str, degradation: str, *, size: int = 8):
    """A task whose weights are drawn at random around their start."""
    task = small_task(lower=f"tv({options})", degradation=degradation, size=size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        noise = torch.randn(task.lower.log_weights.shape, generator=generator, dtype=torch.float64)
        task.lower.log_weights.add_(0.5 * noise)
    return task


def dense_differences(side: int) -> torch.Tensor:
    """(2, side², side²): to the right and below, zero at the edges."""
    d = torch.diag(torch.ones(side - 1), 1) - torch.eye(side)
    d[-1] = 0
    eye = torch.eye(side)
    return torch.stack([torch.kron(eye, d), torch.kron(d, eye)]).double()


def primal_and_dual(problem, y, x, u):
    """The objective at x, and its dual at u, by dense matrices; u must be in the unit ball.

    f(x) = ½‖Ax − y‖² + ε/2‖x‖², f*(v) = ½(v + Aᵀy)ᵀ(AᵀA + εI)⁻¹(v + Aᵀy) − ½‖y‖².
    """
    shape, side = x.shape[1:], x.shape[-1]
    n, delta = math.prod(shape), problem.smoothing
    a = problem.physics.A(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1).T
    weights = problem.log_weights.detach().exp().expand(2, shape[0])
    k = torch.einsum("dc,dij->dcij", weights, dense_differences(side))
    kx = torch.einsum("dcij,ncj->ndci", k, x.flatten(2))
    u = u.reshape(len(x), 2, shape[0], -1)
    size = kx.square().sum(1).sqrt() if problem.isotropic else kx.abs()
    inside = u.square().sum(1).sqrt() if problem.isotropic else u.abs()
    assert inside.max() <= 1 + 1e-12
    if delta:
        size = torch.where(size <= delta, size**2 / (2 * delta), size - delta / 2)
    data = (x.flatten(1) @ a.T - y.flatten(1)).square().sum(1) / 2
    primal = data + problem.ridge / 2 * x.flatten(1).square().sum(1) + size.flatten(1).sum(1)
    v = y.flatten(1) @ a - torch.einsum("dcij,ndci->ncj", k, u).flatten(1)
    hessian = a.T @ a + problem.ridge * torch.eye(n, dtype=torch.float64)
    conjugate = (v * torch.linalg.solve(hessian, v.T).T).sum(1) - y.flatten(1).square().sum(1)
    return primal, -(conjugate + delta * u.flatten(1).square().sum(1)) / 2


@pytest.mark.parametrize(
    ("isotropic", "smoothing", "degradation"),
    [
        (False, 0.0, "inpainting(keep=0.5)"),
        (True, 0.0, "denoising(sigma=0.1)"),
        (False, 0.05, "denoising(sigma=0.1)"),
        (True, 0.05, "deblurring(width=0.8)"),
    ],
)
def test_at_the_equilibrium_there_is_no_duality_gap(isotropic, smoothing, degradation):
    options = f"isotropic={isotropic},smoothing={smoothing},ridge=0.5,per_channel=True"
    task = perturbed(options, degradation)
    y = task.probe.observation
    found = true_equilibrium(task.lower, y, tol=1e-12)
    x, u = found.x[:, :3], found.x[:, 3:]
    primal, dual = primal_and_dual(task.lower, y, x, u)
    assert ((primal - dual).abs() < 1e-9 * primal).all()
    rough = task.lower.init(y)
    for _ in range(5):
        rough = task.lower.step(rough, y).detach()
    primal, dual = primal_and_dual(task.lower, y, rough[:, :3], rough[:, 3:])
    assert (primal - dual > 1e-6 * primal).all()


def two_halves(isotropic: bool):
    """An image of two grey halves, 0.2 and 0.8, observed as it is."""
    truth = torch.full((1, 3, 8, 8), 0.2, dtype=torch.float64)
    truth[..., 4:] = 0.8
    images = {"train": truth, "test": truth, "degradation": "denoising(sigma=1e-9)"}
    lower = f"tv(weight=0.1,isotropic={isotropic},smoothing=0)"
    return make_task(**images, lower=lower, probe_size=1, seed=0)


@pytest.mark.parametrize("isotropic", [False, True])
def test_a_step_shrinks_by_its_weight_over_its_width(isotropic):
    """x* moves each half by λ/4 towards the other; ∇F by log λ is then closed, by the other 0."""
    task = two_halves(isotropic)
    truth, y = task.probe.truth, task.probe.observation
    x = true_equilibrium(task.lower, y, tol=1e-13).x[:, :3]
    exact = truth + 0.1 / 4 * torch.where(truth < 0.5, 1.0, -1.0)
    assert relative_error(x, exact) < 1e-7
    reference = reference_hypergradient(task.lower, task.probe)
    # F = (λ/4)²
    assert reference.gradient[0].item() == pytest.approx(2 * (0.1 / 4) ** 2, rel=1e-6)
    assert abs(reference.gradient[1].item()) < 1e-9


def test_the_equilibrium_does_not_depend_on_the_stepsize_nor_its_gradient():
    images = []
    for stepsize in (0.5, 1.5):
        options = f"ridge=0.1,smoothing=0.05,stepsize={stepsize},learn_stepsize=True"
        task = perturbed(options, "inpainting(keep=0.5)")
        images.append(true_equilibrium(task.lower, task.probe.observation, tol=1e-13).x[:, :3])
        reference = reference_hypergradient(task.lower, task.probe)
        assert reference.gradient[:2].norm() > 1e-4
        assert abs(reference.gradient[2].item()) < 1e-9
    assert relative_error(images[0], images[1]) < 1e-9


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("tv(weight=0)", "weight must be a positive number, got 0"),
        ("tv(smoothing=-1)", "smoothing must be a number of at least 0, got -1"),
        ("tv(stepsize=2)", "stepsize .* strictly between 0 and 2, got 2"),
        ("tv(isotropic=1)", "isotropic must be True or False, got 1"),
    ],
)
def test_bad_options_are_named(spec, expected):
    with pytest.raises(ValueError, match=expected):
        small_task(lower=spec, size=8)
