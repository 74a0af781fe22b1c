"""State and adjoint together: each step, the closed form, its cost, and a primal-dual layer."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins, small_task
from oracles import AffineLayer, relative_error

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.piggyback import piggyback
from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import reference_hypergradient
from benchmark.solve.convergence import NotConverged


def test_each_step_is_that_of_both_recursions():
    """x ← Mx + Bθ + y and w ← s(x − target) + Mᵀw by matrices, from anywhere."""
    oracle = AffineLayer.make(kappa=0.9)
    problem = EquilibriumLoss.of_lower_level(oracle.problem(), oracle.batch())
    x, w = (t.clone() for t in (oracle.y, oracle.target))
    found = piggyback(problem, x, w, tol=1e-14, max_layers=7)
    x, w = x.flatten(1), w.flatten(1)
    for _ in range(7):
        gap = oracle.scale() * (x - oracle.target.flatten(1))
        w = gap + w @ oracle.matrix
        x = x @ oracle.matrix.T + oracle.injection @ oracle.theta.detach() + oracle.y.flatten(1)
    assert relative_error(found.x.flatten(1), x) < 1e-12
    assert relative_error(found.w.flatten(1), w) < 1e-12
    assert (found.steps == 7).all() and not found.converged.any()


@pytest.mark.parametrize("kappa", [0.5, 0.95])
def test_it_ends_at_the_closed_form_for_a_layer_and_a_product_a_step(kappa):
    oracle = AffineLayer.make(kappa=kappa)
    counted = CountedProblem(oracle.problem())
    solver = plugins()["Piggyback"].get_instance(tol=1e-13)
    found = solver.hypergradient(counted, oracle.batch())
    assert relative_error(found.gradient[0] / oracle.scale(), oracle.gradient()) < 1e-10
    assert counted.layer_evals == counted.vjp_evals > 20


def test_samples_rest_where_they_would_alone():
    oracle = AffineLayer.make(kappa=0.8)
    problem, batch = oracle.problem(), oracle.batch()
    zero, budget = torch.zeros_like(oracle.y), {"tol": 1e-6, "max_layers": 500}
    loss = EquilibriumLoss.of_lower_level(problem, batch)
    together = piggyback(loss, zero, zero, **budget)
    for i in range(len(batch)):
        alone = EquilibriumLoss.of_lower_level(problem, batch[[i]])
        one = piggyback(alone, zero[[i]], zero[[i]], **budget)
        assert together.steps[i] == one.steps[0]
        assert relative_error(together.x[i], one.x[0]) < 1e-12
        # ℓ is a mean over the samples
        assert relative_error(together.w[i] * len(batch), one.w[0]) < 1e-12


def test_a_primal_dual_layer_is_differentiated_to_the_tolerance():
    task = small_task(lower="tv(weight=0.1,ridge=0.3,smoothing=0.1)", size=8)
    exact = reference_hypergradient(task.lower, task.probe).gradient
    errors = []
    for tol in (1e-4, 1e-8):
        solver = plugins()["Piggyback"].get_instance(tol=tol)
        found = solver.hypergradient(task.lower, task.probe).gradient
        errors.append(relative_error(torch.cat([g.flatten() for g in found]), exact))
    assert errors[1] < 1e-6 < errors[0] < 1e-1


def test_what_ends_early_says_so():
    oracle = AffineLayer.make(kappa=0.9)
    solver = plugins()["Piggyback"].get_instance(max_layers=3)
    with pytest.warns(NotConverged, match="state and adjoint together did not converge"):
        solver.hypergradient(oracle.problem(), oracle.batch())
