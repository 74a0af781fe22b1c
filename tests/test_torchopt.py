"""TorchOpt's implicit differentiation through its own solver computes what it says it does."""

from __future__ import annotations

import pytest
import torch
from conftest import LOWER_SPECS, small_task
from oracles import AffineLayer, relative_error

from benchmark.measure.counting import CountedLayer
from benchmark.measure.reference import reference_hypergradient

pytest.importorskip("torchopt")


def method(**parameters):
    from conftest import plugins

    return plugins()["TorchOpt"].get_instance(**parameters)


def test_the_error_follows_the_tolerance_and_so_does_the_cost():
    oracle = AffineLayer.make(kappa=0.9)
    before = None
    for tol in (1e-3, 1e-6, 1e-9):
        T = CountedLayer(oracle.layer())
        x = method(tol=1e-13, b_tol=tol).equilibrium(T, torch.zeros_like(oracle.y))
        (gradient,) = torch.autograd.grad(oracle.loss(x), oracle.theta)
        found = relative_error(gradient, oracle.gradient()), T.vjp_evals
        assert found[0] < 100 * tol
        if before is not None:
            assert found[0] < before[0] and found[1] > before[1]
        before = found


def test_on_a_wavelet_task():
    task = small_task(lower=LOWER_SPECS[2], degradation="inpainting(keep=0.5)", size=8)
    exact = reference_hypergradient(task.lower, task.probe).gradient
    found = method(tol=1e-12, b_tol=1e-9).hypergradient(task.lower, task.probe)
    flat = torch.cat([g.flatten() for g in found.gradient])
    assert relative_error(flat, exact) < 1e-7
