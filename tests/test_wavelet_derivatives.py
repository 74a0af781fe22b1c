"""The transform's and the thresholding's own derivatives: finite differences, every mode."""

from __future__ import annotations

import pytest
import torch
from oracles import relative_error
from torch.autograd import gradcheck, gradgradcheck

from benchmark.imaging.shrinkage import soft_threshold
from benchmark.imaging.wavelet_levels import Banded, Dense, _matrix, level_of
from benchmark.imaging.wavelets import OrthonormalWavelet

TRANSFORM = OrthonormalWavelet("db2", 2, (8, 4))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def soft(d, t):
    return soft_threshold(d, t.exp())


FUNCTIONS = {
    "pyramid": (TRANSFORM.pyramid, (drawn(2, 2, 8, 4),)),
    "image": (TRANSFORM.image, (drawn(2, 2, 8, 4),)),
    "over_orientations": (TRANSFORM.over_orientations, (drawn(2, 1, 8, 4),)),
    "soft_threshold": (soft, (drawn(2, 3, 4), drawn(3, 1, seed=1))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_finite_differences(name):
    function, inputs = FUNCTIONS[name]
    assert gradcheck(function, inputs, check_forward_ad=True)
    # of a linear function it is seen through a square
    assert gradgradcheck(lambda *given: function(*given).square(), inputs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_sample_of_a_vectorised_call_is_as_alone(name):
    function, inputs = FUNCTIONS[name]
    several = [torch.stack([x, 2 * x, -x]).detach() for x in inputs]
    together = torch.vmap(function)(*several)
    for i, found in enumerate(together):
        assert torch.allclose(found, function(*(x[i] for x in several)), atol=1e-14)


def test_a_threshold_of_zero_is_the_identity_also_at_zero():
    d = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_threshold(d, torch.tensor([0.0, 0.0, 1.0])).sum(), d)
    assert gradient.tolist() == [1, 1, 0]


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym10", "coif3"])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_band_is_its_matrix(wavelet, inverse):
    banded = level_of(wavelet, 128)
    assert isinstance(banded, Banded)
    # torchwavelets' own, of which the band is taken
    matrix = _matrix(wavelet, 128)
    dense = Dense(matrix)
    x = drawn(128, 5).detach()
    for axis, side in (("columns", x), ("rows", x.mT.contiguous())):
        found = getattr(banded, axis)(side, inverse=inverse)
        assert relative_error(found, getattr(dense, axis)(side, inverse=inverse)) < 1e-13


def test_long_sides_that_blocks_do_not_divide():
    x = drawn(1, 1, 136, 296).detach()
    transform = OrthonormalWavelet("db3", 3, (136, 296))
    coefficients = transform.pyramid(x)
    assert torch.allclose(coefficients.square().sum(), x.square().sum())
    assert torch.allclose(transform.image(coefficients), x, atol=1e-13)


@pytest.mark.parametrize("planes", [1, 50])
def test_long_sides_and_many_planes_give_what_short_ones_do(planes, monkeypatch):
    x = drawn(planes, 1, 128, 8).detach()
    transform = OrthonormalWavelet("db3", 2, (128, 8))
    whole = transform.pyramid(x)
    monkeypatch.setattr("benchmark.imaging.wavelets.PLANES", 128 * 8 * 7)
    assert torch.allclose(transform.pyramid(x), whole, atol=1e-14)
    assert torch.allclose(transform.image(whole), x, atol=1e-13)
