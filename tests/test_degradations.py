"""The observations: adjoint identities, norms, noise, reproducibility, messages."""

from __future__ import annotations

import pytest
import torch
from conftest import DEGRADATION_SPECS

from benchmark.degradations import make_degradation

SHAPE = (3, 16, 16)


@pytest.fixture(params=DEGRADATION_SPECS)
def degradation(request):
    return make_degradation(request.param, SHAPE, seed=0)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_adjoint(degradation):
    x = random(2, *SHAPE)
    u = random(*degradation.physics.A(x).shape, seed=1)
    forward = (degradation.physics.A(x) * u).sum()
    backward = (x * degradation.physics.A_adjoint(u)).sum()
    assert forward.item() == pytest.approx(backward.item(), rel=1e-12)


def test_lipschitz_is_the_squared_norm(degradation):
    n = torch.Size(SHAPE).numel()
    columns = degradation.physics.A(torch.eye(n, dtype=torch.float64).view(n, *SHAPE)).flatten(1)
    exact = torch.linalg.matrix_norm(columns, 2).item() ** 2
    assert degradation.lipschitz == pytest.approx(exact, rel=1e-4)
    assert degradation.lipschitz <= exact * (1 + 1e-12)


def test_noise_has_the_stated_level():
    degradation = make_degradation("denoising(sigma=0.2)", (3, 64, 64), seed=0)
    truth = torch.full((4, 3, 64, 64), 0.5, dtype=torch.float64)
    noise = degradation.observe(truth, stream=1) - truth
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert abs(noise.mean().item()) < 0.01


def test_inpainting_keeps_whole_pixels():
    degradation = make_degradation("inpainting(keep=0.3,sigma=0.1)", (3, 64, 64), seed=0)
    mask = degradation.physics.A(torch.ones(1, 3, 64, 64, dtype=torch.float64))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(mask[:, 0], mask[:, 2])
    observed = degradation.observe(torch.rand(1, 3, 64, 64, dtype=torch.float64), stream=1)
    assert (observed[mask == 0] == 0).all(), "no noise where nothing is observed"


def test_observations_follow_the_seed_alone(degradation):
    truth = random(2, *SHAPE).abs()
    first = degradation.observe(truth, stream=1)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(degradation.observe(truth, stream=1), first)
    assert torch.equal(torch.get_rng_state(), state), "the global generator has moved"
    assert not torch.equal(degradation.observe(truth, stream=2), first)


def test_a_cast_keeps_the_operator(degradation):
    x = random(1, *SHAPE)
    exact = degradation.physics.A(x)
    rounded = degradation.physics.to(torch.float32).A(x.float())
    assert torch.allclose(rounded.double(), exact, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("blurring", "unknown degradation 'blurring': expected one of deblurring, denoising"),
        ("denoising(sigma=-0.1)", "sigma must be a number of at least 0, got -0.1"),
        ("inpainting(keep=1.5)", "keep must lie strictly between 0 and 1, got 1.5"),
        ("deblurring(width=0)", "width must be a positive number, got 0"),
        ("denoising(noise=0.1)", "degradation 'denoising' has no option 'noise' .* sigma"),
    ],
)
def test_bad_specs_are_named(spec, expected):
    with pytest.raises(ValueError, match=expected):
        make_degradation(spec, SHAPE, seed=0)
