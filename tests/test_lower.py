"""The layers: closed forms, proximity operators, stepsizes, contraction, messages."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from conftest import DEGRADATION_SPECS, LOWER_SPECS, MORE_LOWER_SPECS, small_task
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import relative_error
from pretend_device import pretend_device, unwrap
from torchwavelets import DWT2D

from benchmark.imaging.images import simulated
from benchmark.imaging.wavelets import OrthonormalWavelet
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import Batch, upper_loss


def dense(operator, shape) -> torch.Tensor:
    """The matrix of a linear operator on one image, column by column."""
    n = math.prod(shape)
    basis = torch.eye(n, dtype=torch.float64).view(n, *shape)
    return operator(basis).flatten(1).T


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("degradation", DEGRADATION_SPECS)
def test_tikhonov_is_its_closed_form(degradation, penalised):
    """x* and ∇F by dense linear algebra: a separate computation that shares only A and W."""
    spec = f"tikhonov(wavelet='db2',levels=1,weight=0.3,penalise_approximation={penalised})"
    task = small_task(lower=spec, degradation=degradation, size=8)
    problem, batch = task.lower, task.probe
    shape = batch.truth.shape[1:]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in problem.theta().values():
            p.add_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    a = dense(problem.physics.A, shape)
    analysis = problem.transform.analysis
    details = dense(lambda x: analysis(x)[1][0], shape).view(3, 3, -1, math.prod(shape))
    # (channels, orientations, positions, pixels) → one block per orientation
    bands = [details[:, j].flatten(0, 1) for j in range(3)]
    logs = [problem.log_weights[0, j, 0] for j in range(3)]
    if penalised:
        bands.append(dense(lambda x: analysis(x)[0], shape))
        logs.append(problem.log_approximation_weight[0])
    hessian = a.T @ a + sum(w.exp() * b.T @ b for w, b in zip(logs, bands, strict=True))
    right = batch.observation.flatten(1) @ a
    exact = torch.linalg.solve(hessian, right.T).T.view_as(batch.truth)
    loss = ((exact - batch.truth) ** 2).mean()
    gradient = torch.stack(torch.autograd.grad(loss, logs))

    found = true_equilibrium(problem, batch.observation, tol=1e-13)
    assert relative_error(found.x, exact.detach()) < 1e-9
    reference = reference_hypergradient(problem, batch)
    assert reference.trusted
    assert relative_error(reference.gradient, gradient) < 1e-8


@settings(max_examples=20, deadline=None)
@given(
    wavelet=st.sampled_from(["haar", "db4", "sym5", "coif1"]),
    levels=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_the_transform_is_orthonormal_and_the_library_s(wavelet, levels, sides):
    size = tuple(2**levels * 4 * side for side in sides)
    transform = OrthonormalWavelet(wavelet, levels, size)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, details = transform.analysis(x)
    pyramid = transform.arrange(low, details)
    assert pyramid.shape == x.shape
    for found, expected in zip(transform.split(pyramid)[1], details, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(transform.split(pyramid)[0], low)
    energy = (low**2).sum() + sum((d**2).sum() for d in details)
    assert energy.item() == pytest.approx((x**2).sum().item(), rel=1e-12)
    assert torch.allclose(transform.synthesis(low, details), x, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = DWT2D(levels, wavelet, mode="periodization")(x)
    assert torch.allclose(low, library[0], atol=1e-12)
    for ours, theirs in zip(details, library[1], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    t=st.floats(1e-3, 3),
    seed=st.integers(0, 1000),
    name=st.sampled_from(["tikhonov", "wavelet_l1"]),
)
def test_shrink_is_the_proximity_operator(t, seed, name):
    """p = prox(d) minimises ½‖p − d‖² + t·r(p): no nearby point does better."""
    penalty = {
        "tikhonov": lambda p: (p**2).sum() / 2,
        "wavelet_l1": lambda p: p.abs().sum(),
        "wavelet_l12": lambda p: p.square().sum((1, 2)).sqrt().sum(),
    }[name]
    problem = small_task(lower=f"{name}(wavelet='haar',levels=1)").lower
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(1, 3, 3, 2, 2, generator=generator, dtype=torch.float64)
    threshold = torch.tensor(t, dtype=torch.float64)
    p = problem.shrink(d, threshold)

    def energy(q):
        return 0.5 * ((q - d) ** 2).sum() + t * penalty(q)

    for scale in (1e-1, 1e-3):
        for _ in range(5):
            q = p + scale * torch.randn(d.shape, generator=generator, dtype=torch.float64)
            assert energy(p) < energy(q)


def test_the_equilibrium_minimises_the_objective():
    spec = "wavelet_l1(wavelet='db2',levels=2,weight=0.1)"
    task = small_task(lower=spec, degradation="deblurring(width=0.8)")
    problem, y = task.lower, task.probe.observation
    x = true_equilibrium(problem, y, tol=1e-13).x

    def energy(z):
        details = problem.transform.analysis(z)[1]
        penalty = sum(d.abs().sum() for d in details) * 0.1
        return float(0.5 * ((problem.physics.A(z) - y) ** 2).sum() + penalty)

    generator = torch.Generator().manual_seed(0)
    for scale in (1e-1, 1e-3, 1e-5):
        z = x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        assert energy(x) < energy(z)


def test_the_equilibrium_does_not_depend_on_the_stepsize():
    options = "wavelet='db2',levels=2,ridge=0.1"
    states = []
    for stepsize in (0.5, 1.0, 1.9):
        spec = f"wavelet_l1({options},stepsize={stepsize})"
        task = small_task(lower=spec, degradation="inpainting(keep=0.5)")
        states.append(true_equilibrium(task.lower, task.probe.observation, tol=1e-13).x)
    assert relative_error(states[0], states[1]) < 1e-10
    assert relative_error(states[2], states[1]) < 1e-10


@settings(max_examples=30, deadline=None)
@given(ridge=st.floats(0.01, 1), stepsize=st.floats(0.05, 1.95), seed=st.integers(0, 1000))
def test_a_ridge_makes_a_contraction(ridge, stepsize, seed):
    spec = f"wavelet_l1(wavelet='haar',levels=1,ridge={ridge},stepsize={stepsize})"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)", size=8)
    problem = task.lower
    tau = problem.stepsize().item()
    kappa = max(abs(1 - tau * ridge), abs(1 - tau * problem.lipschitz))
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64)
    y = task.probe.observation
    with torch.no_grad():
        moved = (problem.step(a, y) - problem.step(b, y)).norm()
    assert moved <= kappa * (a - b).norm() * (1 + 1e-9)
    assert kappa < 1


@pytest.mark.parametrize("logit", [-1e3, -40.0, -17.0, -1.0, 0.0, 1.0, 17.0, 40.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_stepsize_stays_inside_its_bounds(logit, dtype):
    """Also where a sigmoid is 0 or 1 in that precision."""
    task = small_task(lower="tikhonov(wavelet='haar',levels=1,ridge=0.5)")
    problem = task.to(device=torch.device("cpu"), dtype=dtype).lower
    with torch.no_grad():
        problem.stepsize_logit.fill_(logit)
    assert 0 < problem.stepsize() < 2 / problem.lipschitz


@pytest.mark.parametrize("lower", LOWER_SPECS + MORE_LOWER_SPECS)
def test_a_step_leaves_its_argument_alone(lower):
    task = small_task(lower=lower)
    x = task.lower.init(task.probe.observation)
    kept = x.clone()
    task.lower.step(x, task.probe.observation)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("lower", LOWER_SPECS + MORE_LOWER_SPECS)
def test_what_is_known_of_a_layer_holds(lower):
    task = small_task(lower=lower, size=8)
    problem, y = task.lower, task.probe.observation
    known, x0 = problem.known, problem.init(y)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, *x0.shape, generator=generator, dtype=torch.float64)
    if known.contraction:
        with torch.no_grad():
            assert (problem.step(a, y) - problem.step(b, y)).norm() < (a - b).norm()
    if known.unique:
        found = [true_equilibrium(problem, y, tol=1e-12, x0=start).x for start in (x0, a)]
        images = [problem.reconstruct(x).detach() for x in found]
        assert relative_error(*images) < 1e-9
    assert known.symmetric == problem.splits


@pytest.mark.parametrize("lower", LOWER_SPECS + MORE_LOWER_SPECS)
def test_a_step_and_its_gradient_on_another_device(lower):
    task = small_task(lower=lower, degradation="inpainting(keep=0.5)")

    def found(task):
        y = task.probe.observation
        image = task.lower.reconstruct(task.lower.step(task.lower.init(y), y))
        theta = list(task.lower.theta().values())
        loss = image.square().sum()
        return [image.detach(), *torch.autograd.grad(loss, theta)]

    with pretend_device() as device:
        moved = found(task.to(device=device, dtype=torch.float64))
    for there, here in zip(moved, found(task), strict=True):
        assert torch.allclose(unwrap(there), here, atol=1e-12)


def test_theta_is_what_the_options_say():
    def shapes(options):
        problem = small_task(lower=f"wavelet_l1(wavelet='haar',levels=2{options})").lower
        return {name: tuple(p.shape) for name, p in problem.theta().items()}

    assert shapes("") == {"log_weights": (2, 3, 1)}
    assert shapes(",per_channel=True") == {"log_weights": (2, 3, 3)}
    assert shapes(",penalise_approximation=True,learn_stepsize=True") == {
        "log_weights": (2, 3, 1),
        "log_approximation_weight": (1,),
        "stepsize_logit": (),
    }


@pytest.mark.parametrize("extreme", [-3.0, 3.0])
def test_extreme_weights_are_safe(extreme):
    spec = "wavelet_l1(wavelet='db2',levels=2,per_channel=True)"
    task = small_task(lower=spec, degradation="deblurring(width=0.8)")
    with torch.no_grad():
        task.lower.log_weights.add_(extreme)
    found = reference_hypergradient(task.lower, task.probe)
    assert found.gradient.isfinite().all()
    assert found.trusted


def test_float32_is_close_to_float64():
    task = small_task(lower="wavelet_l1(wavelet='db2',levels=2)")
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    x, y = task.probe.truth, task.probe.observation
    with torch.no_grad():
        exact, rounded = task.lower.step(x, y), single.lower.step(x.float(), y.float())
        assert rounded.dtype == torch.float32
        assert relative_error(rounded.double(), exact) < 1e-6
        assert float(upper_loss(task.lower, x, Batch(x, y))) == 0


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("wavelet_l1(levels=3)", r"an image of 12×12 pixels .* multiples of 2\^3 = 8"),
        ("wavelet_l1(levels=0)", "levels must be an integer of at least 1, got 0"),
        ("wavelet_l1(levels=1,wavelet='bior2.2')", "wavelet 'bior2.2' is not orthogonal"),
        ("wavelet_l1(levels=1,stepsize=2)", "stepsize .* strictly between 0 and 2, got 2"),
        ("wavelet_l1(levels=1,ridge=-1)", "ridge must be a number of at least 0, got -1"),
        ("wavelet_l1(levels=1,weight=0)", "weight must be a positive number, got 0"),
        ("wavelet_l1(level=1)", "lower level 'wavelet_l1' has no option 'level' .* levels"),
        ("wavelet_l2", "unknown lower level 'wavelet_l2': expected one of .*wavelet_l1, "),
        ("wavelet_l1(3)", "a lower level is written name or name"),
        ("wavelet_l1(levels=open('x'))", "a lower level is written name or name"),
        ("1 + 1", "a lower level is written name or name"),
    ],
)
def test_bad_specs_are_named(spec, expected):
    with pytest.raises(ValueError, match=expected):
        small_task(lower=spec, size=12)


def test_a_spec_as_the_command_line_hands_it_over():
    typed = small_task(lower="wavelet_l1(wavelet='haar',levels=1,ridge=0.3)").lower
    handed = small_task(lower="wavelet_l1(wavelet:'haar',levels:1, ridge:0.3)").lower
    assert typed.ridge == handed.ridge == 0.3


def test_an_empty_split_is_named():
    images = simulated(number=1, size=8, seed=0)
    options = {
        "degradation": "denoising",
        "lower": "tikhonov(levels=1)",
        "probe_size": 1,
        "seed": 0,
    }
    with pytest.raises(ValueError, match="the test set must hold at least one image"):
        make_task(train=images, test=images[:0], **options)
    with pytest.raises(ValueError, match="at most the number of training images, 1, got 2"):
        make_task(train=images, test=images, **options | {"probe_size": 2})
    with pytest.raises(ValueError, match="expected \\(3, 8, 8\\) as train"):
        make_task(train=images, test=images[:, :, :4], **options)
