"""The equilibrium solvers: right, safe where acceleration fails, each sample on its own."""

from __future__ import annotations

import pytest
import torch
from conftest import LOWER_SPECS, small_task
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import AffineLayer, relative_error

from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS, anderson, fista, iterate, picard


@pytest.fixture(params=sorted(EQUILIBRIUM_SOLVERS))
def solve(request):
    return EQUILIBRIUM_SOLVERS[request.param]


def zeros(oracle: AffineLayer) -> torch.Tensor:
    return torch.zeros_like(oracle.y)


@settings(max_examples=60, deadline=None)
@example(name="fista", kappa=0.671875, samples=1, seed=1)
@given(
    name=st.sampled_from(sorted(EQUILIBRIUM_SOLVERS)),
    kappa=st.floats(0.0, 0.97),
    samples=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_finds_the_equilibrium_of_any_affine_contraction(name, kappa, samples, seed):
    """J is not symmetric and has eigenvalues of both signs: momentum is not made for it."""
    oracle = AffineLayer.make(kappa=kappa, samples=samples, seed=seed)
    found = EQUILIBRIUM_SOLVERS[name](oracle.layer(), zeros(oracle), tol=1e-13, max_layers=4000)
    assert found.converged.all()
    assert relative_error(found.x, oracle.equilibrium()) < 1e-10


@pytest.mark.parametrize("lower", LOWER_SPECS)
def test_solvers_agree_on_every_lower_level(solve, lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)")
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    found = solve(T, x0, tol=1e-11, max_layers=20_000)
    assert found.converged.all()
    with torch.no_grad():
        assert (T(found.x) - found.x).norm() <= 1e-10 * found.x.norm()
    exact = anderson(T, x0, tol=1e-14, max_layers=20_000)
    assert relative_error(found.x, exact.x) < 1e-7


def test_acceleration_needs_fewer_layers():
    task = small_task(
        lower="wavelet_l1(wavelet='db2',levels=2)", degradation="inpainting(keep=0.3)"
    )
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    plain = picard(T, x0, tol=1e-8, max_layers=20_000).steps.max()
    for accelerated in (fista, anderson):
        assert accelerated(T, x0, tol=1e-8, max_layers=20_000).steps.max() < plain / 2


@pytest.mark.parametrize("degradation", ["denoising(sigma=0.1)", "inpainting(keep=0.5)"])
def test_momentum_does_no_harm_above_a_stepsize_of_one_over_l(degradation):
    """The layer's Jacobian has eigenvalues down to −0.8; in denoising that is all of them."""
    task = small_task(lower="wavelet_l1(levels=2,stepsize=1.8)", degradation=degradation)
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    plain = picard(T, x0, tol=1e-10, max_layers=5000)
    found = fista(T, x0, tol=1e-10, max_layers=5000)
    assert found.converged.all()
    assert (found.steps < plain.steps / 2).all()
    assert relative_error(found.x, plain.x) < 1e-6


def test_a_rise_or_a_stall_falls_back_to_the_plain_iteration():
    """x ← −0.95x + 1: Nesterov's momentum alone diverges, the plain iteration takes 0.95ᵏ."""
    found = fista(lambda x: 1 - 0.95 * x, torch.zeros(1, 3).double(), tol=1e-10, max_layers=2000)
    assert found.converged.all()
    assert torch.allclose(found.x, torch.full((1, 3), 1 / 1.95).double())


def test_each_sample_converges_on_its_own(solve):
    rates = torch.tensor([[0.1], [0.9], [0.0]], dtype=torch.float64)
    found = solve(
        lambda x: rates * x.sin() + 1, torch.zeros(3, 1).double(), tol=1e-10, max_layers=999
    )
    assert found.converged.all()
    assert found.steps[2] <= found.steps[0] < found.steps[1]
    for i in range(3):
        alone = solve(
            lambda x, r=rates[i]: r * x.sin() + 1,
            torch.zeros(1, 1).double(),
            tol=1e-10,
            max_layers=999,
        )
        assert alone.steps[0] == found.steps[i]
        assert torch.equal(alone.x[0], found.x[i])


def test_a_solve_that_cannot_converge_says_so(solve):
    # x = x² − x + 3 has no real solution
    diverging = solve(lambda x: x**2 - x + 3, torch.ones(2, 3), tol=1e-5, max_layers=200)
    assert not diverging.converged.any()
    broken = solve(lambda x: x * torch.nan, torch.ones(2, 3), tol=1e-5, max_layers=500)
    assert not broken.converged.any()
    assert broken.steps.max() < 500, "nothing can come of NaN"


def test_overflow_is_no_convergence():
    found = picard(lambda x: 2 * x + 1, torch.ones(2, 3), tol=1e-5, max_layers=300)
    assert not found.converged.any()


def test_one_broken_sample_leaves_the_others_alone(solve):
    bad = torch.tensor([[1.0], [torch.nan]], dtype=torch.float64)
    found = solve(lambda x: bad * x.cos(), torch.zeros(2, 1).double(), tol=1e-12, max_layers=500)
    assert found.converged.tolist() == [True, False]
    assert found.x[0].item() == pytest.approx(0.7390851332151607)


def test_nothing_is_changed_and_no_graph_is_kept(solve):
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x0 = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    found = solve(lambda x: weight * x + 1, x0, tol=1e-9, max_layers=100)
    assert not found.x.requires_grad
    assert torch.equal(x0, torch.ones(1, 2).double())


def test_the_equilibrium_may_be_zero(solve):
    found = solve(lambda x: torch.relu(x - 0.3), torch.ones(1, 4), tol=1e-5, max_layers=100)
    assert found.converged.all()
    assert found.x.abs().max() == 0


def test_iterate_composes():
    assert iterate(lambda x: 2 * x, torch.ones(1), steps=5).item() == 32
    assert iterate(lambda x: 2 * x, torch.ones(1), steps=0).item() == 1
    with pytest.raises(ValueError, match="steps must be an integer of at least 0, got -1"):
        iterate(lambda x: x, torch.ones(1), steps=-1)


@pytest.mark.parametrize(("option", "value"), [("tol", -1e-3), ("tol", 0), ("max_layers", 0)])
def test_bad_settings_are_named(solve, option, value):
    settings = {"tol": 1e-6, "max_layers": 10} | {option: value}
    with pytest.raises(ValueError, match=f"{option} must be .* got {value}"):
        solve(lambda x: x, torch.ones(1, 2), **settings)
