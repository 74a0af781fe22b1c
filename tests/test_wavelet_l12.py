"""The mixed norm in weighted coefficients: an independent solver, its gradient, its extremes."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import plugins, small_task
from oracles import central_difference, relative_error

from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.problems.bilevel import upper_loss

COUPLINGS = (
    "couple_colours=True,couple_orientations=True",
    "couple_colours=True,couple_orientations=False",
    "couple_colours=False,couple_orientations=True",
)


def perturbed(options: str, *, degradation: str, size: int = 8, spread: float = 0.5):
    """A task whose θ is drawn at random around its start."""
    spec = f"wavelet_l12(wavelet='db2',levels=1,ridge=0.2,weight=0.02,{options})"
    task = small_task(lower=spec, degradation=degradation, size=size)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in task.lower.theta().values():
            p.add_(spread * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return task


def prox_of_the_norm(v, w, t):
    """argmin_d ½‖d − v‖² + t√(Σ w d²) over the last axis: d = v/(1 + t w/s), s = √(Σ w d²).

    s is the root of Σ w v²/(s + t w)² = 1, found by bisection; where there is none, d = 0.
    """
    high = (w * v**2).sum(-1, keepdim=True).sqrt()
    low = torch.zeros_like(high)
    for _ in range(40):
        s = (low + high) / 2
        above = (w * v**2 / (s + t * w) ** 2).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, s, low), torch.where(above, high, s)
    zero = (v**2 / w).sum(-1, keepdim=True) <= t**2
    return torch.where(zero, 0.0, v * s / (s + t * w))


def douglas_rachford(problem, y, *, steps):
    """The minimiser in the coefficients d themselves, by Douglas–Rachford splitting.

    The proximity operator of the smooth part is a dense linear solve, that of the norm is the
    bisection above: nothing of the change of variables, of the layer or its stepsize is used.
    """
    shape = y.shape[1:]
    n = math.prod(shape)
    eye = torch.eye(n, dtype=torch.float64)
    low, (fine,) = problem.transform.analysis(eye.view(n, *shape))
    wavelet = torch.cat([low.flatten(1), fine.flatten(1)], dim=1).T
    a = problem.physics.A(eye.view(n, *shape)).flatten(1).T @ wavelet.T
    gamma = 0.5
    hessian = eye + gamma * (a.T @ a + problem.ridge * eye)
    inverse = torch.linalg.inv(hessian)
    right = gamma * y.flatten(1) @ a

    kept, bands = low[0].numel(), fine.shape[1:]
    w = (problem.log_couplings - problem.log_couplings.mean()).exp().T[..., None, None]
    w = w.expand(bands)
    t = gamma * problem.log_weights[0].exp().T[..., None, None].expand(bands)

    def grouped(d):
        """(…, C, 3, h, w) with the axes of a group last and flat."""
        coupled = [-3] if problem.log_couplings.shape[0] > 1 else []
        coupled += [-4] if problem.log_couplings.shape[1] > 1 else []
        return d.movedim(coupled, list(range(-len(coupled), 0))).flatten(-len(coupled))

    order = grouped(torch.arange(math.prod(bands)).view(bands))

    def prox(z):
        v, weights, levels = (
            s.flatten(-4)[..., order] for s in (z[:, kept:].view(-1, *bands), w, t)
        )
        fine = torch.empty_like(z[:, kept:])
        fine[:, order] = prox_of_the_norm(v, weights, levels[..., :1])
        return torch.cat([z[:, :kept], fine], dim=1)

    z = torch.zeros(len(y), n, dtype=torch.float64)
    for _ in range(steps):
        d = (z + right) @ inverse
        z = z + prox(2 * d - z) - d
    return (((z + right) @ inverse) @ wavelet).view_as(y)


@torch.no_grad()
@pytest.mark.parametrize("options", COUPLINGS)
def test_the_equilibrium_is_that_of_an_independent_solver(options):
    task = perturbed(options, degradation="deblurring(width=0.8)")
    y = task.probe.observation
    found = true_equilibrium(task.lower, y, tol=1e-13)
    image = task.lower.reconstruct(found.x)
    details = task.lower.transform.analysis(image)[1][0]
    zeros = (details.abs() < 1e-9).double().mean()
    assert 0.05 < zeros < 0.95, "some groups are cut and some are not"
    assert relative_error(image, douglas_rachford(task.lower, y, steps=400)) < 1e-6


def flat(gradient):
    return torch.cat([g.flatten() for g in gradient])


@pytest.mark.parametrize(
    ("options", "degradation"),
    [
        (COUPLINGS[0], "inpainting(keep=0.5)"),
        (COUPLINGS[1], "deblurring(width=0.8)"),
        (COUPLINGS[2], "inpainting(keep=0.5)"),
    ],
)
def test_the_gradient_at_unequal_weights(options, degradation):
    """Reference and DEQ against central differences along every parameter; direct term included."""
    task = perturbed(f"{options},learn_stepsize=True", degradation=degradation)
    problem, batch = task.lower, task.probe
    reference = reference_hypergradient(problem, batch)
    assert reference.residual < 1e-10
    deq = plugins()["DEQ"].get_instance(tol=1e-13, adjoint_tol=1e-13, max_layers=20_000)
    estimate = deq.hypergradient(problem, batch)
    assert relative_error(flat(estimate.gradient), reference.gradient) < 1e-8

    theta = problem.theta()

    def exact():
        x = true_equilibrium(problem, batch.observation, tol=1e-14, x0=estimate.state).x
        return upper_loss(problem, x, batch).item()

    for name, gradient in zip(theta, estimate.gradient, strict=True):
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        slope = central_difference(exact, [theta[name]], [direction], step=1e-5)
        computed = float((gradient * direction).sum())
        assert abs(slope - computed) < 1e-5 * float(reference.gradient.norm()), name
    gradients = dict(zip(theta, estimate.gradient, strict=True))
    size = reference.gradient.norm()
    assert abs(gradients["stepsize_logit"]) < 1e-10 * size, "x* does not depend on the stepsize"
    assert gradients["log_couplings"].norm() > 1e-3 * size
    assert abs(gradients["log_couplings"].sum()) < 1e-10 * size, "w is normalised"


def test_the_direct_term_is_part_of_the_gradient():
    task = perturbed(COUPLINGS[0], degradation="inpainting(keep=0.5)")
    problem, batch = task.lower, task.probe
    x = true_equilibrium(problem, batch.observation, tol=1e-13).x
    loss = upper_loss(problem, x, batch)
    (direct,) = torch.autograd.grad(loss, problem.log_couplings)
    assert direct.norm() > 1e-2 * reference_hypergradient(problem, batch).gradient.norm()


def test_unrolling_is_the_gradient_of_what_it_computes():
    """The whole graph: through the stepsize, which follows the weights, and R_θ; x⁰ is fixed."""
    task = perturbed(f"{COUPLINGS[0]},learn_stepsize=True", degradation="inpainting(keep=0.5)")
    problem, batch = task.lower, task.probe
    unrolling = plugins()["Unrolling"].get_instance(layers=3)
    estimate = unrolling.hypergradient(problem, batch)

    def truncated():
        x = unrolling.deploy(problem, batch.observation)
        return upper_loss(problem, x, batch).item()

    theta = list(problem.theta().values())
    for p, gradient in zip(theta, estimate.gradient, strict=True):
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        slope = central_difference(truncated, [p], [direction], step=1e-6)
        computed = float((gradient * direction).sum())
        assert slope == pytest.approx(computed, rel=1e-6, abs=1e-9)


def test_scale_of_the_weights_changes_nothing():
    task = perturbed(COUPLINGS[0], degradation="inpainting(keep=0.5)")
    x, y = task.probe.truth, task.probe.observation
    with torch.no_grad():
        before = task.lower.step(x, y)
        task.lower.log_couplings.add_(2.0)
        assert relative_error(task.lower.step(x, y), before) < 1e-12


@torch.no_grad()
def test_equal_weights_and_one_colour_is_the_l1_norm():
    """A group of one colour has no coupling: λ|d|, the other lower level."""
    options = "wavelet='db2',levels=2,ridge=0.1"
    images = []
    for spec in (
        f"wavelet_l12({options},couple_orientations=False)",
        f"wavelet_l1({options})",
    ):
        task = small_task(lower=spec, degradation="denoising(sigma=0.1)")
        grey = task.probe.observation.clone()
        grey[:, 1:] = 0
        x = true_equilibrium(task.lower, grey, tol=1e-13).x
        images.append(task.lower.reconstruct(x))
    assert relative_error(*images) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("options", COUPLINGS)
def test_lipschitz_constant_and_contraction_follow_the_weights(options):
    task = perturbed(f"{options},stepsize=1.9", degradation="denoising(sigma=0.1)", spread=1.0)
    problem, y = task.lower, task.probe.observation
    w = problem.log_w().exp()
    assert w.min() < 0.9 < 1.1 < w.max()
    n = y[0].numel()
    basis = torch.eye(n, dtype=torch.float64).view(n, *y.shape[1:])
    scaled = problem.reconstruct(basis).flatten(1)
    exact = torch.linalg.matrix_norm(scaled, 2) ** 2 * (1 + problem.ridge)
    assert problem.lipschitz == pytest.approx(exact.item(), rel=1e-6)
    tau = problem.stepsize().item()
    assert tau == pytest.approx(1.9 / float(problem.lipschitz))
    kappa = max(abs(1 - tau * problem.ridge / w.max()), abs(1 - tau * problem.lipschitz))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randn(2, *y.shape, generator=generator, dtype=torch.float64)
        assert (problem.step(a, y) - problem.step(b, y)).norm() <= kappa * (a - b).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("extreme", [-3.0, 3.0])
def test_extreme_weights_are_safe(extreme, dtype):
    """Weights e^{±3} apart, also at states that are zero, where the norm is not differentiable."""
    task = small_task(lower="wavelet_l12(wavelet='db2',levels=2)", degradation="inpainting")
    task = task.to(device=torch.device("cpu"), dtype=dtype)
    problem, batch = task.lower, task.probe
    with torch.no_grad():
        problem.log_couplings[0, 0] = extreme
        problem.log_couplings[2, 1] = -extreme
        problem.log_weights.add_(extreme)
    for x in (torch.zeros_like(batch.truth), problem.init(batch.observation)):
        x = x.requires_grad_()
        loss = upper_loss(problem, problem.step(x, 0 * batch.observation), batch)
        assert all(
            g.isfinite().all() for g in torch.autograd.grad(loss, [x, *problem.theta().values()])
        )


def test_extreme_weights_have_a_reference():
    spec = "wavelet_l12(wavelet='db2',levels=2,ridge=0.1)"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)", size=8)
    with torch.no_grad():
        task.lower.log_couplings.copy_(torch.linspace(-3, 3, 9).view(3, 3))
    found = reference_hypergradient(task.lower, task.probe)
    assert found.gradient.isfinite().all()
    assert found.trusted


@pytest.mark.parametrize(
    ("name", "dtype"), [("Unrolling", torch.float32), ("Restarted-JFB", torch.float64)]
)
def test_a_learning_rate_ten_times_too_high_stays_inside_the_bounds(name, dtype):
    spec = "wavelet_l12(wavelet='haar',levels=1,ridge=0.1,learn_stepsize=True)"
    task = small_task(lower=spec, degradation="inpainting(keep=0.5)", size=8)
    task = task.to(device=torch.device("cpu"), dtype=dtype)
    solver = plugins()[name].get_instance(layers=2, **({"restarts": 2} if "R" in name else {}))
    problem = task.lower
    optimizer = torch.optim.Adam(problem.theta().values(), lr=1.0)
    for _ in range(50):  # in the logit of the stepsize, whose sigmoid is 1 in float64 from 37 on
        found = solver.hypergradient(problem, task.probe)
        for p, gradient in zip(problem.theta().values(), found.gradient, strict=True):
            p.grad = gradient
        optimizer.step()
        assert found.loss.isfinite()
        assert all(p.isfinite().all() for p in problem.theta().values())
        with torch.no_grad():
            assert 0 < problem.stepsize() < 2 / problem.lipschitz


def test_theta_is_what_the_options_say():
    def shapes(options):
        problem = small_task(lower=f"wavelet_l12(wavelet='haar',levels=2,{options})").lower
        return {name: tuple(p.shape) for name, p in problem.theta().items()}

    assert shapes(COUPLINGS[0]) == {"log_weights": (2, 1, 1), "log_couplings": (3, 3)}
    assert shapes(COUPLINGS[1]) == {"log_weights": (2, 3, 1), "log_couplings": (1, 3)}
    assert shapes(COUPLINGS[2]) == {"log_weights": (2, 1, 3), "log_couplings": (3, 1)}
    with pytest.raises(ValueError, match="at least one must be True"):
        shapes("couple_colours=False,couple_orientations=False")
    with pytest.raises(ValueError, match="weight must be a positive number, got 0"):
        shapes("weight=0")
