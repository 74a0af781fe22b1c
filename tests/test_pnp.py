"""Layers with a denoiser inside: truths, bounds, what is learned."""

from __future__ import annotations

import pytest
import torch
from conftest import DEGRADATION_SPECS, gradient_methods, small_task
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import central_difference, relative_error
from pretend_device import pretend_device, unwrap
from shared import cheap, iter_callback, method

from benchmark.imaging.denoisers import DENOISERS
from benchmark.imaging.metrics import psnr
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.problems import LOWER_LEVELS
from benchmark.problems.bilevel import require_influence, upper_loss

SHAPE = (3, 16, 16)
#: the starting values of the documentation, and a stepsize, level and relaxation of no distinction
PNP_SPECS = ("pnp", "pnp(stepsize=1.6,noise_level=0.1,regularisation=0.5,relaxation=0.8)")
DRUNET_SPEC = "drunet(learn_stepsize=True,learn_noise_level=True,learn_regularisation=True)"
UNTRAINED = "drunet(denoiser='small_drunet(trained=False,seed=3)')"
METHODS = sorted(gradient_methods())
MANY = [n for n in METHODS if "max_parameters" not in gradient_methods()[n].parameters]
TASK = small_task(lower="pnp(denoiser='wavelet(levels=1)')", size=8)


def flat(gradient) -> torch.Tensor:
    return torch.cat([g.flatten() for g in gradient])


# --- the layer --------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", PNP_SPECS)
@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_the_equilibrium_solves_its_equation(degradation, lower):
    """Aᵀ(Ax − y) + λ(x − D_σ(v)) = 0 with v = x − τAᵀ(Ax − y), whatever ρ."""
    task = small_task(lower=lower, degradation=degradation)
    problem, y = task.lower, task.probe.observation
    found = true_equilibrium(problem, y, tol=1e-12)
    assert found.residual < 1e-11
    with torch.no_grad():
        x, physics = found.x, problem.physics
        data = physics.A_adjoint(physics.A(x) - y)
        sigma = problem.log_noise_level.exp().expand(len(x))
        denoised = problem.denoiser(x - problem.stepsize() * data, sigma)
        force = problem.log_regularisation.exp() * (x - denoised)
    assert relative_error(data, -force) < 1e-7


@pytest.mark.parametrize(
    ("degradation", "lower"),
    [
        ("deblurring(width=0.8)", PNP_SPECS[1]),
        ("inpainting(keep=0.5)", "pnp(denoiser='wavelet(levels=2)')"),
        ("denoising(sigma=0.1)", "pnp(denoiser='wavelet(levels=2)')"),
    ],
)
def test_every_parameter_has_its_gradient(degradation, lower):
    """DEQ and the reference against central differences in τ, σ and λ, one at a time."""
    task = small_task(lower=lower, degradation=degradation, size=8)
    problem, batch = task.lower, task.probe
    theta = problem.theta()
    assert set(theta) == {"stepsize_logit", "log_noise_level", "log_regularisation"}
    tight = {"tol": 1e-13, "adjoint_tol": 1e-12, "equilibrium_solver": "anderson"}
    estimate = method("DEQ", **tight).hypergradient(problem, batch)
    reference = reference_hypergradient(problem, batch)
    assert reference.residual < 1e-10
    assert reference.contraction < 1
    assert relative_error(flat(estimate.gradient), reference.gradient) < 1e-7

    def exact():
        x = true_equilibrium(problem, batch.observation, tol=1e-13, x0=estimate.state).x
        return upper_loss(problem, x, batch).item()

    size = reference.gradient.norm().item()
    for (name, parameter), computed in zip(theta.items(), estimate.gradient, strict=True):
        one = torch.ones_like(parameter)
        slope = central_difference(exact, [parameter], [one], step=3e-6)
        assert abs(computed.item()) > 1e-2 * size, name
        assert computed.item() == pytest.approx(slope, abs=1e-4 * size), name


def test_the_noise_level_is_not_rounded():
    """A layer in float64 moves with σ as its derivative says, down to steps of 1e-6."""
    task = small_task(lower="pnp", degradation="inpainting(keep=0.5)")
    problem, x, y = task.lower, task.probe.truth, task.probe.observation
    assert problem.step(x, y).dtype == torch.float64

    def value():
        return problem.step(x, y).square().sum()

    (derivative,) = torch.autograd.grad(value(), problem.log_noise_level)
    one = torch.ones_like(derivative)
    slope = central_difference(lambda: value().item(), [problem.log_noise_level], [one], step=1e-6)
    assert slope == pytest.approx(derivative.item(), rel=1e-6)


@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_with_a_proximity_operator_it_is_wavelet_l1(degradation):
    """λ → ∞ and D_σ = prox of σ‖W·‖₁: the layer, x* and ∂F/∂log σ of wavelet_l1 at λ = σ/τ."""
    weight = 0.07
    wavelets = "wavelet='db2',levels=2"
    convex = small_task(lower=f"wavelet_l1({wavelets},weight={weight})", degradation=degradation)
    level = weight / convex.lower.lipschitz
    spec = f'pnp(denoiser="wavelet({wavelets})",noise_level={level})'
    plugged = small_task(lower=spec, degradation=degradation)
    with torch.no_grad():
        plugged.lower.log_regularisation.fill_(60.0)
    batch = convex.probe
    assert torch.equal(batch.observation, plugged.probe.observation)
    steps = [t.lower.step(batch.truth, batch.observation) for t in (convex, plugged)]
    assert relative_error(steps[1].detach(), steps[0].detach()) < 1e-13
    ours = reference_hypergradient(plugged.lower, batch)
    theirs = reference_hypergradient(convex.lower, batch)
    assert ours.trusted and theirs.trusted
    # all of θ is numbers here: one entry each
    gradient = dict(zip(plugged.lower.theta(), ours.gradient.tolist(), strict=True))
    total = theirs.gradient.sum().item()
    assert gradient["log_noise_level"] == pytest.approx(total, rel=1e-6)
    # at fixed σ the weight is σ/τ, and d log τ / d logit = 1 − τL/2 = 1/2 at τ = 1/L
    assert gradient["stepsize_logit"] == pytest.approx(-0.5 * total, rel=1e-5)


def test_the_equilibrium_does_not_depend_on_the_relaxation():
    states = []
    for relaxation in (1, 0.5):
        spec = f"pnp(relaxation={relaxation})"
        task = small_task(lower=spec, degradation="deblurring(width=0.8)")
        states.append(true_equilibrium(task.lower, task.probe.observation, tol=1e-13).x)
    assert relative_error(states[1], states[0]) < 1e-9


def test_inpainting_starts_from_what_is_near():
    task = small_task(lower="pnp", degradation="inpainting(keep=0.5,sigma=0)")
    problem, batch = task.lower, task.probe
    start, back = problem.init(batch.observation), problem.physics.A_adjoint(batch.observation)
    assert torch.equal(problem.physics.A(start), batch.observation)
    assert psnr(start, batch.truth) > psnr(back, batch.truth) + 3


def test_layers_have_noise_levels_of_their_own():
    """A block of equal levels is its layer repeated; each level has its part of the gradient."""
    single, block = (
        small_task(lower=f"pnp(layers={layers})", degradation="inpainting(keep=0.5)")
        for layers in (1, 3)
    )
    x, y = single.probe.truth, single.probe.observation
    repeated = x
    for _ in range(3):
        repeated = single.lower.step(repeated, y)
    assert relative_error(block.lower.step(x, y).detach(), repeated.detach()) < 1e-14
    found = method("Unrolling", layers=1).hypergradient(block.lower, block.probe)
    together = method("Unrolling", layers=3).hypergradient(single.lower, single.probe)
    gradient, total = (
        dict(zip(task.lower.theta(), estimate.gradient, strict=True))["log_noise_level"]
        for task, estimate in ((block, found), (single, together))
    )
    assert gradient.shape == (3,)
    assert gradient.unique().numel() == 3
    assert gradient.sum().item() == pytest.approx(total.item(), rel=1e-9)


@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_equilibria_do_not_depend_on_the_start(degradation):
    task = small_task(lower="pnp", degradation=degradation, size=8)
    problem, y = task.lower, task.probe.observation
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(task.probe.truth.shape, generator=generator, dtype=torch.float64)
    from_init, from_chance = (
        true_equilibrium(problem, y, tol=1e-12, x0=x0).x for x0 in (None, start)
    )
    assert relative_error(from_chance, from_init) < 1e-6


@settings(max_examples=30, deadline=None)
@given(logit=st.floats(-1e6, 1e6))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_stepsize_stays_inside_its_bounds(logit, dtype):
    problem = TASK.to(device=torch.device("cpu"), dtype=dtype).lower
    with torch.no_grad():
        problem.stepsize_logit.fill_(logit)
    assert 0 < problem.stepsize() < 2 / problem.lipschitz


@pytest.mark.parametrize(
    ("denoiser", "degradation"),
    [
        ("wavelet(levels=1)", "denoising(sigma=0.1)"),
        ("wavelet(levels=1)", "inpainting(keep=0.5)"),
        ("small_drunet", "inpainting(keep=0.5)"),
    ],
)
def test_a_learning_rate_far_too_high_stays_inside_the_bounds(denoiser, degradation):
    """40 steps of Adam at 1, in float32: every θ is finite, every stepsize in (0, 2/L).

    40 in the logit of the stepsize, whose sigmoid float32 rounds to 1 from 17 on.
    """
    lower = f"pnp(denoiser='{denoiser}',stepsize=1.5)"
    task = small_task(lower=lower, degradation=degradation, size=8)
    solver = method("Unrolling", layers=2, steps=40, learning_rate=1.0)
    solver.set_objective(task.to(device=torch.device("cpu"), dtype=torch.float32))
    stepsizes = []

    def callback():
        assert all(p.isfinite().all() for p in solver.lower.theta().values())
        stepsizes.append(solver.lower.stepsize().item() * solver.lower.lipschitz)
        return True

    solver.run(callback)
    assert solver.get_result()["training"].status == "ok"
    assert len(stepsizes) == 41
    assert min(stepsizes) > 0
    assert max(stepsizes) < 2
    assert max(stepsizes) > min(stepsizes) + 0.1, "the stepsize was to be driven about"


@pytest.mark.parametrize("extreme", [-40.0, 40.0])
@pytest.mark.parametrize("name", ["log_noise_level", "log_regularisation"])
def test_extreme_parameters_are_finite(name, extreme):
    task = small_task(lower="pnp")
    with torch.no_grad():
        task.lower.theta()[name].add_(extreme)
    x = task.lower.step(task.probe.truth, task.probe.observation)
    loss = upper_loss(task.lower, x, task.probe)
    gradient = torch.autograd.grad(loss, list(task.lower.theta().values()))
    assert flat(gradient).isfinite().all()


def test_float32_is_close_to_float64():
    task = small_task(lower="pnp")
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    x, y = task.probe.truth, task.probe.observation
    with torch.no_grad():
        exact, rounded = task.lower.step(x, y), single.lower.step(x.float(), y.float())
    assert rounded.dtype == torch.float32
    assert relative_error(rounded.double(), exact) < 1e-6


# --- learning ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::benchmark.solve.convergence.NotConverged")
@pytest.mark.parametrize(
    ("name", "lower"),
    [
        # of those that learn as many parameters as a denoiser has, a few where it is frozen
        *((name, "pnp") for name in METHODS if name not in MANY or name in MANY[::4]),
        *((name, DRUNET_SPEC) for name in MANY[::2]),
        *((name, UNTRAINED) for name in MANY[1::2]),
    ],
)
def test_every_method_learns(name, lower):
    """An outer step: finite, θ moves, what is frozen does not."""
    task = small_task(lower=lower, degradation="denoising(sigma=0.1)", size=8)
    solver = cheap(gradient_methods()[name], steps=1, learning_rate=1e-3)
    solver.set_objective(task)
    before = {name: value.clone() for name, value in task.lower.state_dict().items()}
    solver.run(iter_callback(2))
    result = solver.get_result()
    assert (result["training"].status, result["outer_step"]) == ("ok", 1)
    learned = task.lower.theta()
    denoisers = [name for name in learned if name.startswith("denoiser.")]
    assert len(denoisers) == (0 if lower == "pnp" else len(list(task.lower.denoiser.parameters())))
    for name, value in solver.lower.state_dict().items():
        assert value.isfinite().all()
        assert torch.equal(value, before[name]) == (name not in learned), name


def test_the_denoiser_s_weights_have_their_gradient():
    """∂F/∂(weights) of the reference against a central difference along it."""
    task = small_task(lower=DRUNET_SPEC, degradation="inpainting(keep=0.5)")
    problem, batch = task.lower, task.probe
    reference = reference_hypergradient(problem, batch)
    assert reference.trusted
    theta = list(problem.theta().values())
    sizes = [p.numel() for p in theta]
    unit = reference.gradient / reference.gradient.norm()
    direction = [part.view_as(p) for part, p in zip(unit.split(sizes), theta, strict=True)]

    def exact():
        x = true_equilibrium(problem, batch.observation, tol=1e-13).x
        return upper_loss(problem, x, batch).item()

    slope = central_difference(exact, theta, direction, step=1e-6)
    assert slope == pytest.approx(reference.gradient.norm().item(), rel=1e-4)


@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_another_device_gives_the_same_gradient(degradation):
    task = small_task(lower=DRUNET_SPEC, degradation=degradation)
    estimator = method("Unrolling", layers=2)
    plain = estimator.hypergradient(task.lower, task.probe)
    with pretend_device() as device:
        moved = task.to(device=device, dtype=torch.float64)
        found = estimator.hypergradient(moved.lower, moved.probe)
        assert relative_error(flat([unwrap(g) for g in found.gradient]), flat(plain.gradient)) == 0


# --- parameters without influence ---------------------------------------------------------------


class BlindDenoiser(torch.nn.Module):
    """Ignores its noise level."""

    def forward(self, v, sigma):
        return 0.9 * v


def test_a_parameter_without_influence_is_named(monkeypatch):
    monkeypatch.setitem(DENOISERS, "blind", lambda image_shape: BlindDenoiser())
    with pytest.raises(ValueError, match="no influence of log_noise_level: the gradient"):
        small_task(lower="pnp(denoiser='blind')")
    small_task(lower="pnp(denoiser='blind',learn_noise_level=False)")


def test_learning_nothing_is_named():
    with pytest.raises(ValueError, match="nothing is learned"):
        small_task(
            lower="pnp(learn_stepsize=False,learn_noise_level=False,learn_regularisation=False)"
        )


@pytest.mark.parametrize("name", sorted(LOWER_LEVELS))
def test_every_lower_level_passes_its_check(name):
    task = small_task(lower=name, size=24)
    require_influence(task.lower, task.probe)
