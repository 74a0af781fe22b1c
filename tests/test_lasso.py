"""The lasso on a random design: scikit-learn's minimisers, and the hypergradient in closed form."""

from __future__ import annotations

import pytest
import torch
from conftest import plugins, small_task
from oracles import relative_error
from sklearn import linear_model

from benchmark.measure.reference import true_equilibrium
from benchmark.plugins.task import make_task

SIDE, OBSERVATIONS = 8, 48
TIGHT = {"tol": 1e-13, "adjoint_tol": 1e-13, "max_layers": 50_000}


def random_design(options: str = ""):
    """Coefficients 1×8×8, a tenth of them not zero, seen by 48 random rows; and A (48, 64)."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    truth = torch.randn(2, 1, SIDE, SIDE, **draw) * (torch.rand(2, 1, SIDE, SIDE, **draw) < 0.1)
    noise = "deepinv.GaussianNoise(sigma=0.05)"
    design = f"deepinv.CompressedSensing(m={OBSERVATIONS},noise='{noise}')"
    lower = f"lasso({options})"
    task = make_task(train=truth, test=truth, degradation=design, lower=lower, probe_size=2, seed=0)
    unit = torch.eye(SIDE**2, dtype=torch.float64).view(-1, 1, SIDE, SIDE)
    return task, task.lower.physics.A(unit).flatten(1).T


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_equilibrium_is_scikit_learns(ridge):
    task, matrix = random_design(f"ridge={ridge}")
    y = task.probe.observation
    found = true_equilibrium(task.lower, y, tol=1e-12).x.flatten(1)
    weight = task.lower.log_weights.exp().item()
    total = weight + task.lower.ridge
    model = linear_model.ElasticNet(
        alpha=total, l1_ratio=weight / total, fit_intercept=False, tol=1e-13, max_iter=100_000
    )
    for one, observed in zip(found, y.flatten(1), strict=True):
        expected = torch.from_numpy(model.fit(matrix.numpy(), observed.numpy()).coef_)
        assert 0 < expected.count_nonzero() < OBSERVATIONS
        assert relative_error(one, expected) < 1e-7


def closed_form(task, matrix) -> torch.Tensor:
    """∂F/∂θ_p = −e^θ_p s_p (H⁻¹g_S)_p on the support of each sample, H = A_SᵀA_S/n; (64,)."""
    batch, gradient = task.probe, torch.zeros(SIDE**2, dtype=torch.float64)
    x = true_equilibrium(task.lower, batch.observation, tol=1e-13).x.flatten(1)
    off = 2 * (x - batch.truth.flatten(1)) / x.numel()
    weights = task.lower.log_weights.detach().exp().expand(1, SIDE, SIDE).flatten()
    for one, g in zip(x, off, strict=True):
        kept = one != 0
        columns = matrix[:, kept]
        w = torch.linalg.solve(columns.T @ columns / OBSERVATIONS, g[kept])
        gradient[kept] -= weights[kept] * one[kept].sign() * w
    return gradient


@pytest.mark.parametrize("adjoint_solver", ["cg", "gmres"])
@pytest.mark.parametrize("per_coefficient", [False, True])
def test_the_hypergradient_is_the_closed_form_on_the_support(per_coefficient, adjoint_solver):
    task, matrix = random_design(f"per_coefficient={per_coefficient}")
    expected = closed_form(task, matrix)
    if not per_coefficient:
        expected = expected.sum()
    solver = plugins()["DEQ"].get_instance(adjoint_solver=adjoint_solver, **TIGHT)
    (gradient,) = solver.hypergradient(task.lower, task.probe).gradient
    assert relative_error(gradient.flatten(), expected.flatten()) < 1e-8
    # where no sample has the coefficient its weight has no influence at all
    assert torch.equal(gradient.flatten() == 0, expected.flatten() == 0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lasso(weight=0)", "weight must be a positive number, got 0"),
        ("lasso(ridge=-1)", "ridge must be a number of at least 0, got -1"),
        ("lasso(stepsize=2)", "stepsize .* strictly between 0 and 2, got 2"),
        ("lasso(per_coefficient=1)", "per_coefficient must be True or False, got 1"),
    ],
)
def test_bad_options_are_named(spec, expected):
    with pytest.raises(ValueError, match=expected):
        small_task(lower=spec, size=8)
