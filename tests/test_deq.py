"""DEQ and its options: what it reports, what it carries over, how its adjoint is solved."""

from __future__ import annotations

import warnings

import pytest
import torch
from conftest import plugins, small_task
from test_refined import LOWER, SLOW, start

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat
from benchmark.imaging.metrics import gradient_error
from benchmark.measure.counting import CountedProblem


def test_deq_reports_its_estimate():
    task = small_task(**SLOW)
    found = plugins()["DEQ"].get_instance(gradient_tol=1e-3).hypergradient(task.lower, task.probe)
    assert 0 < found.error <= 1e-3
    plain = plugins()["DEQ"].get_instance().hypergradient(task.lower, task.probe)
    assert plain.error != plain.error


@pytest.mark.parametrize("parameters", [{}, {"gradient_tol": 1e-6}])
def test_warm_starts_save_layers_and_products(parameters):
    """A second step at the same θ finds state and adjoint where the first left them."""
    task = small_task(**SLOW)
    solver = plugins()["DEQ"].get_instance(warm_start=True, **parameters)
    costs, gradients = [], []
    for _ in range(2):
        counted = CountedProblem(task.lower)
        gradients.append(flat(solver.hypergradient(counted, task.probe).gradient))
        costs.append((counted.layer_evals, counted.vjp_evals))
    assert costs[1][0] < costs[0][0] / 2
    assert costs[1][1] < costs[0][1] / 2
    assert gradient_error(*gradients) < 1e-5


def test_the_probe_leaves_what_is_carried_alone():
    task = small_task(**SLOW)
    solver = plugins()["DEQ"].get_instance(warm_start=True)
    costs = []
    for _ in range(2):
        counted = CountedProblem(task.lower)
        solver.hypergradient_on_probe(counted, task.probe)
        costs.append(counted.layer_evals)
    assert costs[0] == costs[1]


def test_test_images_are_never_carried_over():
    task = small_task(**SLOW)
    solver = plugins()["JFB"].get_instance(warm_start=True)
    states = [solver.hypergradient(task.lower, task.test).state for _ in range(2)]
    assert torch.equal(*states)
    assert task.test.index is None


def test_layer_and_linearization_agree():
    """The implicit function theorem by a custom backward pass, and by explicit products."""
    task = small_task(lower=LOWER[5], degradation="inpainting(keep=0.5)")
    solver = plugins()["DEQ"].get_instance()
    x = solver.equilibrium(task.lower.layer(task.probe.observation), start(task))
    loss = torch.nn.functional.mse_loss(task.lower.reconstruct(x), task.probe.truth)
    by_layer = torch.autograd.grad(loss, list(task.lower.theta().values()))
    explicit = solver.hypergradient(task.lower, task.probe).gradient
    assert gradient_error(flat(by_layer), flat(explicit)) < 1e-7


def test_products_with_the_jacobians():
    task = small_task(lower=LOWER[4], degradation="inpainting(keep=0.5)")
    x = start(task)
    at = Linearization(EquilibriumLoss.of_lower_level(task.lower, task.probe), x)
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2))
    _, jv = torch.func.jvp(task.lower.layer(task.probe.observation), (x,), (v,))
    assert torch.allclose((at.jt(w) * v).sum(), (w * jv).sum(), rtol=1e-10)
    assert torch.allclose(at.adjoint_system()(w), w - at.jt(w), rtol=1e-12)
    direct = flat(d for d in at.direct if d is not None)
    assert direct.norm() > 0
    assert torch.equal(flat(at.gradient(torch.zeros_like(w)))[-len(direct) :], direct)


@pytest.mark.parametrize("spec", LOWER[1:4])
def test_conjugate_gradients_need_no_more_products_than_gmres(spec):
    """And no basis: J = P G with a projection P. Also where I − PGP is close to singular."""
    task = small_task(lower=spec, degradation="inpainting(keep=0.3)")
    products, gradients = [], []
    for solver in ("cg", "gmres(restart=1000)"):
        counted = CountedProblem(task.lower)
        deq = plugins()["DEQ"].get_instance(adjoint_solver=solver, tol=1e-12)
        gradients.append(flat(deq.hypergradient(counted, task.probe).gradient))
        products.append(counted.vjp_evals)
    assert products[0] < 1.2 * products[1]
    assert gradient_error(*gradients) < 1e-6


def test_the_adjoint_solver_is_chosen_by_the_layer():
    """By default: conjugate gradients, with no basis to hold, where the layer has the structure."""
    spent = {}
    for spec in ("wavelet_l1(wavelet='db2',levels=2)", "wavelet_l12(wavelet='db2',levels=2)"):
        task = small_task(lower=spec, degradation="inpainting(keep=0.5)")
        for solver in ("auto", "cg", "gmres"):
            if solver == "cg" and not task.lower.splits:
                continue
            deq = plugins()["DEQ"].get_instance(adjoint_solver=solver)
            found = flat(deq.hypergradient(task.lower, task.probe).gradient)
            spent[spec[:11], solver] = found
    assert torch.equal(spent["wavelet_l1(", "auto"], spent["wavelet_l1(", "cg"])
    assert not torch.equal(spent["wavelet_l1(", "auto"], spent["wavelet_l1(", "gmres"])
    assert torch.equal(spent["wavelet_l12", "auto"], spent["wavelet_l12", "gmres"])
    assert plugins()["DEQ"].get_instance().adjoint_solver == "auto"


def test_a_solver_that_needs_structure_is_skipped_where_it_is_missing():
    task = small_task(lower="pnp", degradation="inpainting(keep=0.5)", size=16)
    deq = plugins()["DEQ"].get_instance(adjoint_solver="cg")
    skipped, why = deq.skip(task)
    assert skipped
    assert "a gradient step followed by soft-thresholding" in why
    assert deq.skip(small_task(**SLOW)) == (False, None)
    assert plugins()["DEQ"].get_instance().skip(task) == (False, None)


def test_warnings_are_not_given_where_all_is_met():
    task = small_task(**SLOW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugins()["DEQ"].get_instance(gradient_tol=1e-4).hypergradient(task.lower, task.probe)
