"""Methods on layers whose gradient is known: the paper authors' numbers and closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import (
    AffineLayer,
    central_difference,
    relative_error,
    soft_threshold_layer,
    tanh_layer,
)
from shared import method
from torchwavelets import DWT2D, IDWT2D

from benchmark.solve.fixed_point import picard

DATA = Path(__file__).parent / "data"
TIGHT = {"tol": 1e-13, "adjoint_tol": 1e-13}


def gradient_of(estimator, oracle: AffineLayer) -> torch.Tensor:
    x = estimator.equilibrium(oracle.layer(), torch.zeros_like(oracle.y))
    (gradient,) = torch.autograd.grad(oracle.loss(x), oracle.theta)
    return gradient


# --- the paper authors' own numbers ---------------------------------------------------------


def golden_cases():
    facts = json.loads((DATA / "g_inpainting.json").read_text())
    return [
        pytest.param(facts, case, id="restarts={restarts},layers={layers}".format(**case))
        for case in facts["cases"]
    ]


@pytest.mark.parametrize(("facts", "case"), golden_cases())
def test_authors_numbers(facts, case):
    arrays = np.load(DATA / "g_inpainting.npz")
    truth, y, mask = (torch.from_numpy(arrays[k]) for k in ("x", "y", "mask"))
    analysis = DWT2D(facts["levels"], facts["wavelet"], mode="periodization")
    synthesis = IDWT2D(facts["wavelet"], mode="periodization")
    log_lambda = torch.tensor(np.log(facts["lam"]), requires_grad=True)
    log_tau = torch.tensor(np.log(facts["stepsize"]), requires_grad=True)
    log_scales = torch.tensor(
        facts["log_scale_weights_fine_to_coarse_then_approx"],
        dtype=torch.float64,
        requires_grad=True,
    )

    def T(x):
        low, details = analysis(x - log_tau.exp() * mask * (mask * x - y))
        *fine, coarse = (log_tau + log_lambda + log_scales).exp()

        def shrink(d, t):
            return d.sign() * torch.relu(d.abs() - t)

        return synthesis(
            (shrink(low, coarse), [shrink(d, t) for d, t in zip(details, fine, strict=True)])
        )

    if case["restarts"] == 0:
        estimator = method("Unrolling", layers=case["layers"])
    else:
        estimator = method("Restarted-JFB", restarts=case["restarts"], layers=case["layers"])
    loss = ((estimator.equilibrium(T, y) - truth) ** 2).mean()
    d_lambda, d_tau, d_scales = torch.autograd.grad(loss, [log_lambda, log_tau, log_scales])
    assert loss.item() == pytest.approx(case["loss"], rel=1e-10)
    assert d_lambda.item() == pytest.approx(case["d_log_lambda"], rel=1e-8)
    assert d_tau.item() == pytest.approx(case["d_log_stepsize"], rel=1e-8)
    assert d_scales.tolist() == pytest.approx(case["d_log_scale_weights"], rel=1e-8)


# --- closed forms ---------------------------------------------------------------------------


@pytest.mark.parametrize("equilibrium_solver", ["picard", "fista", "anderson"])
@pytest.mark.parametrize("adjoint_solver", ["neumann", "gmres"])
@pytest.mark.parametrize("kappa", [0.3, 0.95])
def test_deq_is_the_closed_form(kappa, equilibrium_solver, adjoint_solver):
    oracle = AffineLayer.make(kappa=kappa)
    solvers = {"equilibrium_solver": equilibrium_solver, "adjoint_solver": adjoint_solver}
    estimate = gradient_of(method("DEQ", **TIGHT, **solvers), oracle)
    assert relative_error(estimate, oracle.gradient()) < 1e-9


def test_deq_at_its_defaults_is_the_closed_form():
    oracle = AffineLayer.make(kappa=0.9)
    assert relative_error(gradient_of(method("DEQ"), oracle), oracle.gradient()) < 1e-8


def test_jfb_is_the_first_term_of_the_series():
    oracle = AffineLayer.make(kappa=0.8)
    estimate = gradient_of(method("JFB", tol=1e-14), oracle)
    assert relative_error(estimate, oracle.gradient(terms=1)) < 1e-11


@pytest.mark.parametrize("layers", [1, 3, 10])
def test_restarted_jfb_is_the_truncated_series(layers):
    oracle = AffineLayer.make(kappa=0.7)
    estimate = gradient_of(method("Restarted-JFB", restarts=100 // layers, layers=layers), oracle)
    assert relative_error(estimate, oracle.gradient(terms=layers)) < 1e-11


def test_unrolling_converges_to_the_closed_form():
    oracle = AffineLayer.make(kappa=0.7)
    assert (
        relative_error(gradient_of(method("Unrolling", layers=3), oracle), oracle.gradient()) > 0.01
    )
    estimate = gradient_of(method("Unrolling", layers=150), oracle)
    assert relative_error(estimate, oracle.gradient()) < 1e-12


@pytest.mark.parametrize("layers", [1, 2, 5, 10])
@pytest.mark.parametrize("tau", [0.4, 1.5, 1.95])
def test_relative_error_is_exactly_the_contraction_to_the_depth(tau, layers):
    generator = torch.Generator().manual_seed(0)
    y, truth = torch.randn(2, 2, 8, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))[0]
    log_weight = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    T = soft_threshold_layer(y, log_weight, tau=tau, rotation=rotation)

    def gradient(estimator):
        x = estimator.equilibrium(T, y)
        return torch.autograd.grad(((x - truth) ** 2).mean(), log_weight)[0].item()

    exact = gradient(method("DEQ", **TIGHT))
    restarts = 800 // layers
    estimate = gradient(method("Restarted-JFB", restarts=restarts, layers=layers))
    assert abs(estimate - exact) / abs(exact) == pytest.approx(abs(1 - tau) ** layers, rel=1e-8)


def test_deq_agrees_with_central_differences_on_a_smooth_layer():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix *= 0.9 / torch.linalg.matrix_norm(matrix, 2)
    y, target = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    theta = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    T = tanh_layer(theta, matrix, y)

    def loss(x):
        return ((x - target) ** 2).mean()

    x = method("DEQ", **TIGHT).equilibrium(T, torch.zeros_like(y))
    (gradient,) = torch.autograd.grad(loss(x), theta)

    def exact():
        return loss(picard(T, torch.zeros_like(y), tol=1e-14, max_layers=2000).x).item()

    for direction in torch.eye(6, dtype=torch.float64):
        slope = central_difference(exact, [theta], [direction], step=1e-5)
        assert slope == pytest.approx((gradient @ direction).item(), rel=1e-6, abs=1e-9)
