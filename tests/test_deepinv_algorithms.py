"""Algorithms of deepinv as layers: closed forms, and different schemes for the same problem."""

from __future__ import annotations

import pytest
import torch
from conftest import small_task
from deepinv.physics import Denoising
from oracles import relative_error

from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.problems.data_terms import Poisson

LEVEL = 0.1
SCHEMES = {
    "tikhonov": ("GD", "PGD", "ADMM", "DRS", "PDCP"),
    "l1": ("PGD", "ADMM", "DRS", "PDCP"),
    "l12": ("PGD", "ADMM", "DRS", "PDCP"),
}


def task_of(algorithm: str, prior: str, *, degradation: str = "inpainting(keep=0.5)", **options):
    spec = {"algorithm": algorithm, "prior": prior, "regularisation": LEVEL} | options
    written = ",".join(f"{name}={value!r}" for name, value in spec.items())
    return small_task(lower=f"deepinv({written})", degradation=degradation, size=8)


def solved(task):
    """The image of the equilibrium."""
    x = true_equilibrium(task.lower, task.probe.observation, tol=1e-13).x
    return task.lower.reconstruct(x).detach()


def closed_form(prior: str, y: torch.Tensor, log_level: torch.Tensor) -> torch.Tensor:
    """x* where A keeps some pixels and y is 0 at the others."""
    level = log_level.exp()
    if prior == "tikhonov":
        return y / (1 + level)
    size = y.abs() if prior == "l1" else y.square().sum(1, keepdim=True).sqrt()
    return y * torch.relu(1 - level / size.clamp_min(1e-12))


@pytest.mark.parametrize(
    ("prior", "algorithm"), [(prior, name) for prior in SCHEMES for name in SCHEMES[prior]]
)
def test_schemes_of_one_problem_agree_with_its_closed_form(prior, algorithm):
    """In x* and ∇F, to 1e-8; the stepsize has no gradient."""
    task = task_of(algorithm, prior, stepsize=1.3, learn_stepsize=True)
    log_level = torch.tensor(LEVEL, dtype=torch.float64).log().requires_grad_()
    exact = closed_form(prior, task.probe.observation, log_level)
    (gradient,) = torch.autograd.grad((exact - task.probe.truth).square().mean(), log_level)
    assert relative_error(solved(task), exact.detach()) < 1e-8
    reference = reference_hypergradient(task.lower, task.probe)
    found = dict(zip(task.lower.theta(), reference.gradient.tolist(), strict=True))
    assert found["log_regularisation"] == pytest.approx(gradient.item(), rel=1e-8)
    assert abs(found["stepsize_logit"]) < 1e-10


def test_the_threshold_of_wavelets_is_the_stepsize_times_the_weight():
    """One step from any x, the details by PyWavelets."""
    pytest.importorskip("ptwt")
    pywt = pytest.importorskip("pywt")
    problem, y = (task := task_of("PGD", "wavelet")).lower, task.probe.observation
    x = torch.rand_like(problem.init(y))
    tau = problem.stepsize_logit.sigmoid() * 2 / problem.lipschitz
    forward = x - tau * problem.physics.A_adjoint(problem.physics.A(x) - y)
    low, *details = pywt.wavedec2(forward.detach().numpy(), "haar", level=2, axes=(-2, -1))
    soft = [[pywt.threshold(d, float(tau * LEVEL), "soft") for d in band] for band in details]
    expected = torch.from_numpy(pywt.waverec2([low, *soft], "haar", axes=(-2, -1)))
    assert relative_error(problem.step(x, y), expected) < 1e-10


def test_half_quadratic_splitting_is_another_problem():
    """x = prox_{τλg}(prox_{τf}(x)), where the pixel is kept: x = τy / ((1 + τ)(1 + τλ) − 1)."""
    task = task_of("HQS", "tikhonov", stepsize=1.3)
    tau = 1.3 / task.lower.lipschitz
    exact = tau * task.probe.observation / ((1 + tau) * (1 + tau * LEVEL) - 1)
    assert relative_error(solved(task), exact) < 1e-10
    assert relative_error(solved(task), solved(task_of("PGD", "tikhonov"))) > 0.05


@pytest.mark.parametrize(
    ("algorithm", "prior"), [("PGD", "pnp"), ("DRS", "pnp"), ("GD", "red"), ("PGD", "wavelet")]
)
def test_denoisers_and_wavelets_as_priors(algorithm, prior):
    """A layer that moves, with a gradient by all that is learned, of any sample by itself."""
    if prior == "wavelet":
        pytest.importorskip("ptwt")
    task = task_of(algorithm, prior)
    problem, y = task.lower, task.probe.observation
    x = problem.step(problem.init(y), y)
    gradient = torch.autograd.grad(problem.reconstruct(x).square().sum(), problem.theta().values())
    assert all(g.isfinite() for g in gradient)
    expected = {"pnp": {"log_noise_level"}, "wavelet": {"log_regularisation"}}
    both = {"log_regularisation", "log_noise_level"}
    assert problem.theta().keys() == expected.get(prior, both)
    alone = problem.step(problem.init(y[:1]), y[:1])
    assert relative_error(alone.detach(), x[:1].detach()) < 1e-12


@pytest.mark.parametrize(
    ("options", "degradation", "expected"),
    [
        (("GD", "l1"), "denoising", "GD takes the gradient of the prior, and l1 has only its prox"),
        (("ADMM", "red"), "denoising", "red has only its gradient: expected one of GD"),
        (("DRS", "l1"), "deblurring(width=0.8)", "DRS takes the prox .* Blur has not in closed"),
        (("FISTA", "l1"), "denoising", "algorithm must be one of ADMM, DRS, .*, got 'FISTA'"),
        (("PGD", "tv"), "denoising", "prior must be one of l1, .*, got 'tv'"),
    ],
)
def test_what_does_not_go_together_is_named(options, degradation, expected):
    with pytest.raises(ValueError, match=expected):
        task_of(*options, degradation=degradation)


# --- Poisson noise ------------------------------------------------------------------------------

COUNTS = "denoising(noise='deepinv.PoissonNoise(gain=0.1)')"


def test_the_poisson_term_is_its_formula():
    """Gradient and curvature against automatic differentiation, continuous at zero, convex."""
    term, b = Poisson(0.2), 0.2
    z = torch.linspace(-1, 2, 301, dtype=torch.float64)[None].requires_grad_()
    y = torch.full_like(z, 0.7)
    physics = Denoising()
    (slope,) = torch.autograd.grad(term(z, y, physics).sum(), z, create_graph=True)
    torch.testing.assert_close(slope, term.grad(z, y, physics), atol=1e-12, rtol=0)
    likelihood = z - y * torch.log(z + b)
    above = z >= 0
    torch.testing.assert_close(
        term.d.fn(z[:, above[0]], y[:, above[0]]), likelihood[above].sum()[None]
    )
    (curvature,) = torch.autograd.grad(slope.sum(), z)
    bound = float(term.curvature(y))
    assert bound == pytest.approx(0.7 / b**2)
    assert curvature.min() > 0 and curvature.max() <= bound * (1 + 1e-12)
    assert (slope.diff() <= bound * 0.01 * (1 + 1e-9)).all(), "no jump at zero"
    assert term.curvature(torch.zeros(2, 3)).flatten().tolist() == pytest.approx([5, 5])


@pytest.mark.parametrize("algorithm", ["GD", "PGD"])
def test_poisson_denoising_has_its_closed_form(algorithm):
    """1 − y/(x + b) + λx = 0 where that is positive, a linear equation elsewhere; ∇F to 1e-7."""
    task = task_of(algorithm, "tikhonov", degradation=COUNTS, data="poisson", background=0.2)
    y, b = task.probe.observation, 0.2
    assert y.min() == 0 and len(y.unique()) < 30, "counts, times the gain"
    log_level = torch.tensor(LEVEL, dtype=torch.float64).log().requires_grad_()
    level = log_level.exp()
    middle = 1 + level * b
    positive = (-middle + (middle.square() + 4 * level * (y - b)).clamp_min(1e-30).sqrt()) / (
        2 * level
    )
    negative = (y / b - 1) / (1 / b + level)
    exact = torch.where(y > b, positive, negative)
    (gradient,) = torch.autograd.grad((exact - task.probe.truth).square().mean(), log_level)
    assert relative_error(solved(task), exact.detach()) < 1e-8
    reference = reference_hypergradient(task.lower, task.probe)
    assert reference.gradient.item() == pytest.approx(gradient.item(), rel=1e-7)
    assert reference.contraction < 1


def test_other_priors_and_algorithms_with_counts():
    with pytest.raises(ValueError, match="ADMM takes the prox of the data term, which poisson has"):
        task_of("ADMM", "l1", data="poisson")
    with pytest.raises(ValueError, match="data must be one of poisson, squared, got"):
        task_of("PGD", "l1", data="poison")
    for prior in ("l1", "l12", "pnp"):
        problem = task_of("PGD", prior, degradation=COUNTS, data="poisson").lower
        y = torch.rand(3, 3, 8, 8, dtype=torch.float64)
        together = problem.step(problem.init(y), y)
        alone = torch.cat([problem.step(problem.init(one), one) for one in y.split(1)])
        torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)
