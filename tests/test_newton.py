"""A Newton step after a rough solution: exact where T is affine, its error squared elsewhere."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins, small_task
from oracles import AffineLayer, relative_error, tanh_layer

from benchmark.measure.reference import reference_hypergradient
from benchmark.solve.fixed_point import picard
from benchmark.solve.newton import NewtonCorrected


def gradient_error(name: str, problem, batch, exact, **options) -> float:
    found = plugins()[name].get_instance(**options).hypergradient(problem, batch)
    return relative_error(torch.cat([g.flatten() for g in found.gradient]), exact)


def test_an_affine_layer_needs_no_tolerance():
    oracle = AffineLayer.make(kappa=0.95)
    exact = oracle.gradient() * oracle.scale()
    loose = {"tol": 1e-1, "adjoint_tol": 1e-12}
    case = (oracle.problem(), oracle.batch(), exact)
    assert gradient_error("Newton-DEQ", *case, **loose) < 1e-9
    assert gradient_error("DEQ", *case, **loose) > 1e-3


def test_the_error_of_a_smooth_layer_is_squared():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix *= 0.95 / torch.linalg.matrix_norm(matrix, 2)
    y = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    T, x0 = tanh_layer(torch.ones(6).double(), matrix, y), torch.zeros_like(y)
    exact = picard(T, x0, tol=1e-14, max_layers=5000).x
    for tol in (1e-2, 1e-3, 1e-4):
        rough, fine = (
            relative_error(solve(T, x0, tol=tol, max_layers=999).x, exact)
            for solve in (picard, NewtonCorrected("picard", tol=1e-13))
        )
        assert fine < 20 * rough**2


def test_soft_thresholding_is_solved_once_its_support_is_known():
    spec = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)")
    case = (task.lower, task.probe, reference_hypergradient(task.lower, task.probe).gradient)
    loose = {"tol": 1e-5, "adjoint_tol": 1e-12}
    assert gradient_error("Newton-DEQ", *case, **loose) < 1e-9
    assert gradient_error("DEQ", *case, **loose) > 1e-6


def test_a_step_that_leads_away_is_not_taken():
    """From x > 0 the slope 0.99 points to −100; T(x) = −1 is where it ends."""

    def T(x):
        return 0.99 * x.relu() - 1

    x0 = torch.tensor([[0.5], [-3.0]], dtype=torch.float64)
    found = NewtonCorrected("picard", tol=1e-12)(T, x0, tol=0.9, max_layers=1)
    assert torch.equal(found.x[0], T(T(x0))[0])
    assert found.x[1].item() == -1


@pytest.mark.parametrize("T", [lambda x: torch.full_like(x, 2.0), lambda x: x * 0 + 2])
def test_a_layer_that_forgets_its_state(T):
    found = NewtonCorrected("picard", tol=1e-12)(T, torch.zeros(2, 3), tol=1e-3, max_layers=5)
    assert torch.equal(found.x, torch.full((2, 3), 2.0))
    assert found.converged.all()
