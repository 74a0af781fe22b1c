"""Layers of prescribed Jacobians: what is prescribed is there, and where K terms point uphill."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins, small_task
from oracles import relative_error

from benchmark.measure.jacobian import jacobian_norm
from benchmark.measure.reference import reference_hypergradient, true_equilibrium

CASES = [(0.5, 0.0), (0.9, 0.0), (0.9, 2.0)]


def made(radius: float, departure: float):
    spec = f"prescribed(radius={radius},departure={departure})"
    return small_task(lower=spec, degradation="inpainting(keep=0.5)", size=8)


@pytest.mark.parametrize(("radius", "departure"), CASES)
def test_the_jacobian_is_as_prescribed(radius, departure):
    """Its radius, its norm, and ‖J‖²_F − Σ|λ|² = 2η²: Henrici's departure, squared."""
    task = made(radius, departure)
    x, y = task.probe.truth[:1], task.probe.observation[:1]
    size = x.numel()
    matrix = torch.autograd.functional.jacobian(lambda z: task.lower.step(z, y), x)
    matrix = matrix.reshape(size, size)
    values = torch.linalg.eigvals(matrix).abs()
    # eigenvalues of what is not normal are found less exactly
    assert float(values.max()) == pytest.approx(radius, rel=1e-3)
    apart = (matrix.square().sum() - values.square().sum()) / x[0, 0].numel()
    assert float(apart) == pytest.approx(2 * departure**2, abs=1e-6)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert jacobian_norm(task.lower, task.probe[:1]) == pytest.approx(norm, rel=1e-3)
    assert task.lower.known.contraction == (norm < 1)


@pytest.mark.parametrize(("radius", "departure"), CASES)
def test_neither_the_equilibrium_nor_the_gradient_knows_of_the_jacobian(radius, departure):
    """x* = S_θ Aᵀy, and ∂F/∂θ_c = 2/numel ⟨q_c q_cᵀ Aᵀy, S_θ Aᵀy − x̄⟩ at θ = 0, S_θ = I."""
    task = made(radius, departure)
    lower, batch = task.lower, task.probe
    back = lower.physics.A_adjoint(batch.observation)
    found = true_equilibrium(lower, batch.observation, tol=1e-12).x
    assert relative_error(found, back) < 1e-9
    parts = torch.einsum("dc,ndhw->cnhw", lower.basis, back)
    off = torch.einsum("dc,ndhw->cnhw", lower.basis, back - batch.truth)
    gradient = 2 * (parts * off).flatten(1).sum(1) / back.numel()
    reference = reference_hypergradient(lower, batch)
    assert relative_error(reference.gradient, gradient) < 1e-8
    assert reference.contraction == pytest.approx(radius, abs=0.1)


def cosine(radius: float, departure: float, terms: int) -> float:
    """Of K terms at the equilibrium and ∇F."""
    task = made(radius, departure)
    reference = reference_hypergradient(task.lower, task.probe).gradient
    method = plugins()["Neumann"].get_instance(terms=terms, tol=1e-12)
    found = method.hypergradient_on_probe(task.lower, task.probe).gradient
    found = torch.cat([g.flatten() for g in found])
    return float(found @ reference / found.norm() / reference.norm())


def test_terms_of_a_normal_jacobian_go_down_and_of_another_uphill_until_they_are_many():
    normal = [cosine(0.9, 0.0, terms) for terms in (1, 10)]
    assert min(normal) > 0.7
    other = [cosine(0.9, 2.0, terms) for terms in (1, 10, 200)]
    assert min(other[:2]) <= 0 and other[2] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "match"), [("radius=1", "radius"), ("departure=-1", "departure")]
)
def test_what_cannot_be_is_said(options, match):
    with pytest.raises(ValueError, match=match):
        small_task(lower=f"prescribed({options})", degradation="denoising(sigma=0.1)", size=8)
