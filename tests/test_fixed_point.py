"""The equilibrium solvers: right, safe where acceleration fails, each sample on its own."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import plain_solvers
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


@settings(max_examples=30, deadline=None)
@example(name="fista", kappa=0.671875, samples=1, seed=1)
# momentum alone takes more than 4,000 layers here, where the plain iteration takes some thirty
@example(name="fista", kappa=0.6171875, samples=1, seed=5103)
@given(
    name=st.sampled_from(sorted(EQUILIBRIUM_SOLVERS)),
    kappa=st.floats(0.0, 0.97),
    samples=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_finds_the_equilibrium_of_any_affine_contraction(name, kappa, samples, seed):
    """J is not symmetric and has eigenvalues of both signs: momentum is not made for it."""
    oracle = AffineLayer.make(kappa=kappa, samples=samples, seed=seed)
    found = EQUILIBRIUM_SOLVERS[name](oracle.layer(), zeros(oracle), tol=1e-13, max_layers=2000)
    assert found.converged.all()
    assert relative_error(found.x, oracle.equilibrium()) < 1e-10


@cache
def exact_equilibrium(lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)")
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    return anderson(T, x0, tol=1e-14, max_layers=20_000).x


@pytest.mark.parametrize("lower", LOWER_SPECS[::2])
def test_solvers_agree_on_every_lower_level(solve, lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)")
    T = task.lower.layer(task.probe.observation)
    x0 = task.lower.init(task.probe.observation)
    found = solve(T, x0, tol=1e-11, max_layers=20_000)
    assert found.converged.all()
    with torch.no_grad():
        assert (T(found.x) - found.x).norm() <= 1e-10 * found.x.norm()
    assert relative_error(found.x, exact_equilibrium(lower)) < 1e-7


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


@pytest.mark.parametrize("radius", [0.36, 0.42, 0.54, 0.67, 0.9])
@pytest.mark.parametrize("angle", [0.26, 0.52, 0.79, 1.31, 1.83, 2.09, 3.14])
def test_momentum_does_not_creep(radius, angle):
    """Where J turns or reverses: up to 54 times the layers of the plain iteration were taken."""
    turn = radius * torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    settings = {"tol": 1e-12, "max_layers": 4000}
    x0 = torch.zeros(1, 2).double()
    plain, found = (s(lambda x: x @ turn.T + 1, x0, **settings) for s in (picard, fista))
    assert found.converged.all()
    assert found.steps < 4 * plain.steps + 10


@pytest.mark.parametrize("samples", [0, 3])
def test_complex_states_and_no_samples(solve, samples):
    """x ← rx + 1, r complex; Anderson's solver could not divide by a complex number."""
    rates = torch.tensor([[0.5 + 0.3j, 0.2j, -0.7]], dtype=torch.complex128)
    x0 = torch.zeros(samples, 3, dtype=torch.complex128)
    found = solve(lambda x: rates * x + 1, x0, tol=1e-11, max_layers=500)
    assert found.converged.all() and found.x.dtype == x0.dtype
    assert len(found.residual) == len(found.steps) == samples
    assert not found.residual.is_complex()
    assert torch.allclose(found.x, (1 / (1 - rates)).expand(samples, 3))


def test_a_residual_that_rounding_leaves_is_no_convergence_in_a_coarse_dtype():
    """32 units of rounding of bfloat16 are 0.25: a state that moves by a seventh had converged."""
    x0 = torch.ones(1, 2, dtype=torch.bfloat16)
    found = picard(lambda x: x + x.new_tensor([[0.14, 0.0]]), x0, tol=1e-5, max_layers=3)
    assert 0.04 < found.residual.item() < 0.25
    assert not found.converged.any()


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


def test_a_sample_that_is_lost_ends_as_it_would_alone(solve):
    """Beside one that goes on for long: a T(x) that overflows ends the plain iteration."""

    def cubed(x):
        return (3 * x + 1) ** 3

    x0, settings = torch.ones(2, 1).double(), {"tol": 1e-10, "max_layers": 5000}
    lost = torch.tensor([[True], [False]])
    both = solve(lambda x: torch.where(lost, cubed(x), 0.99 * x + 1), x0, **settings)
    alone = solve(cubed, x0[:1], **settings)
    assert both.converged.tolist() == [False, True]
    assert alone.steps[0] == both.steps[0] < 400


@pytest.mark.parametrize("solve", [fista, anderson])
def test_an_acceleration_that_leaves_where_T_is_finite_is_called_back(solve):
    def T(x):
        # from 0 to 1 a contraction to 1e-6, slow enough for momentum to fall out
        return torch.where(x > 0, 0.97 * x + 3e-8, torch.inf)

    found = solve(T, torch.ones(1, 1).double(), tol=1e-9, max_layers=3000)
    assert found.converged.all()
    assert found.x.item() == pytest.approx(1e-6, rel=1e-6)


# --- step by step, against the same methods written for one vector ------------------------------


class Recorded:
    """A layer for one sample, written for a vector, that keeps the points it is given."""

    def __init__(self, T):
        self.T, self.points = T, []

    def __call__(self, x):
        self.points.append(x[0].numpy())
        return torch.from_numpy(self.T(x[0].numpy()))[None]


def symmetric(eigenvalues, *, seed: int):
    """x ↦ Q diag(λ) Qᵀ x + b: a gradient step where the λ lie in [0, 1)."""
    random = np.random.default_rng(seed)
    q = np.linalg.qr(random.normal(size=(len(eigenvalues),) * 2))[0]
    matrix, b = q @ np.diag(eigenvalues) @ q.T, random.normal(size=len(eigenvalues))
    return lambda x: matrix @ x + b


THRESHOLDED = symmetric(np.linspace(0, 0.95, 9), seed=4)
ROTATION = 0.95 * np.array([[0.8, -0.6], [0.6, 0.8]])
#: layers and the size of their states
LAYERS = {
    "a gradient step": (symmetric(np.linspace(0, 0.98, 6), seed=0), 6),
    "a worse conditioned one": (symmetric(np.array([0.0, 0.5, 0.9, 0.99]), seed=1), 4),
    "reverses directions": (symmetric(np.linspace(-0.9, 0.9, 7), seed=2), 7),
    "rotates": (lambda x: ROTATION @ x + 1, 2),
    "soft threshold": (lambda x: np.sign(THRESHOLDED(x)) * (abs(THRESHOLDED(x)) - 0.3).clip(0), 9),
    # momentum falls off: below zero points are thrown far away, again and again
    "a cliff": (lambda x: np.where(x > 0, 0.97 * x, x - 1000), 2),
    # every step is as long as the one before: a stall, three times
    "no equilibrium": (lambda x: x + 1, 2),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("method", ["fista", "anderson"])
def test_accelerations_step_by_step(method, name):
    T, n = LAYERS[name]
    recorded, x0 = Recorded(T), np.ones(n)
    if method == "fista":
        propose = plain_solvers.nesterov(x0)
        found = fista(recorded, torch.from_numpy(x0)[None], tol=1e-9, max_layers=330)
    else:
        propose = plain_solvers.mixing(3)
        found = anderson(recorded, torch.from_numpy(x0)[None], tol=1e-9, max_layers=330, depth=3)
    layers = len(recorded.points)
    points, best = plain_solvers.solve(T, x0, propose=propose, layers=layers)
    scale = np.abs(points).max()
    np.testing.assert_allclose(recorded.points, points, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(found.x[0], best, rtol=0, atol=1e-9 * scale)
    assert found.steps.item() == layers


def test_anderson_keeps_ten_differences_by_default():
    """With twelve layers a difference has left, with eleven it has not."""
    T, x0 = symmetric(np.linspace(0, 0.999, 60), seed=3), np.ones(60)
    recorded = Recorded(T)
    anderson(recorded, torch.from_numpy(x0)[None], tol=1e-12, max_layers=13)
    ten, eleven = (
        plain_solvers.solve(T, x0, propose=plain_solvers.mixing(depth), layers=13)[0]
        for depth in (10, 11)
    )
    np.testing.assert_allclose(recorded.points, ten, rtol=0, atol=1e-6)
    assert np.abs(ten[:12] - eleven[:12]).max() < 1e-6
    assert np.abs(ten[12] - eleven[12]).max() > 1e-4


def test_picard_step_by_step():
    """x ← x/2 + (1, 0): after k layers (2 − 2¹⁻ᵏ, 2⁻ᵏ) from (0, 1), all of it exact."""
    b = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    x0 = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    for k in range(1, 30):
        found = picard(lambda x: x / 2 + b, x0, tol=1e-13, max_layers=k)
        x = torch.tensor([[2 - 2.0 ** (1 - k), 2.0**-k]], dtype=torch.float64)
        assert torch.equal(found.x, x)
        # the step before was twice as far from (2, 0): it moved by 2⁻ᵏ (2, −1)
        assert found.residual.item() == pytest.approx(2.0**-k * 5**0.5 / x.norm().item())
        assert found.steps.tolist() == [k]


def test_the_tolerance_itself_is_within_the_tolerance(solve):
    T, x0 = lambda x: 0.9 * x.roll(1, 1).sin() + 1, torch.arange(3.0).double()[None]
    for k in (1, 3, 6):
        stopped = solve(T, x0, tol=1e-14, max_layers=k)
        assert not stopped.converged.any()
        tol = stopped.residual.item()
        on_it = solve(T, x0, tol=tol, max_layers=50)
        assert on_it.converged.all()
        assert on_it.steps.item() == k
        assert solve(T, x0, tol=tol * (1 - 1e-12), max_layers=50).steps > k


def test_a_state_far_beyond_the_first_is_measured_by_a_thousand_times_the_first():
    """A step of 10⁶ at 10⁶ is no nearer to an equilibrium than one of 10⁶ at 2000."""
    x0 = torch.ones(1, 1).double()
    found = picard(lambda x: x + torch.where(x == 1, 1, 1e6), x0, tol=1e-3, max_layers=2)
    assert found.residual.item() == 1e6 / 2000
    # a first value of zero is no measure
    found = picard(lambda x: x + 1, -x0, tol=1e-3, max_layers=2)
    assert found.residual.item() == 1


def test_what_float32_cannot_reach_is_not_asked_for(solve):
    found = solve(lambda x: 0.5 * x + 1, torch.zeros(1, 3), tol=1e-30, max_layers=100)
    assert found.converged.all()
    assert found.steps < 30
    assert found.residual.dtype == found.x.dtype == torch.float32
    assert found.residual <= 32 * 2.0**-23


def test_nothing_is_said_of_numbers_that_overflow(solve):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(lambda x: x**3 + 2, torch.ones(1, 2), tol=1e-5, max_layers=400)
        solve(lambda x: x * torch.nan, torch.ones(1, 2), tol=1e-5, max_layers=400)
        solve(lambda x: x * torch.inf, torch.ones(1, 2), tol=1e-5, max_layers=400)
        solve(lambda x: 0 * x, 100 * torch.ones(1, 2).double(), tol=1e-5, max_layers=400)


def test_the_scale_of_a_state_does_not_matter(solve):
    """Powers of two pass through all arithmetic unchanged."""
    T, n = LAYERS["reverses directions"]

    def scaled(scale):
        x0 = torch.zeros(1, n).double()
        layer = Recorded(lambda x: scale * T(x / scale))
        return solve(layer, x0, tol=1e-9, max_layers=500)

    found = scaled(1.0)
    for scale in (2.0**-60, 2.0**60):
        assert torch.equal(scaled(scale).steps, found.steps)
        assert torch.allclose(scaled(scale).x / scale, found.x, rtol=1e-9)
