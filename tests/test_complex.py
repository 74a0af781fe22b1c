"""Complex states: inner products and adjoints are those of real and imaginary parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import LOWER_SPECS
from shared import dataset

from benchmark import equilibrium, hypergradient
from benchmark.imaging.degradations import make_degradation
from benchmark.imaging.images import to_uint8
from benchmark.imaging.measured import Measured
from benchmark.imaging.metrics import psnr_of_each
from benchmark.imaging.physics import MaskedMultiCoilMRI, coil_sensitivities
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import upper_loss
from benchmark.problems.lower_level import set_theta

MRI = "multicoil_mri(coils=3,acceleration=2,sigma=0.02)"
SHAPE = (2, 16, 24)
#: real and imaginary parts by themselves, coupled as a modulus, and a closed form
LOWER = [LOWER_SPECS[2], LOWER_SPECS[4], LOWER_SPECS[0]]


def phantom(number, seed):
    """Complex images (number, 2, 16, 24) of magnitude at most 1, with a smooth phase."""
    generator = torch.Generator().manual_seed(seed)
    phase = torch.linspace(0, 3, 24, dtype=torch.float64).expand(number, 16, 24)
    size = torch.rand(number, 16, 24, generator=generator, dtype=torch.float64)
    return torch.view_as_real(torch.polar(size, phase)).permute(0, 3, 1, 2).contiguous()


def as_complex(x):
    return torch.view_as_complex(x.movedim(1, -1).contiguous())


def test_the_operator_is_its_formula():
    """A x = M F (S x) by numpy's transform; its adjoint for the real inner product."""
    made = make_degradation(MRI, SHAPE, seed=0)
    x = phantom(2, seed=0)
    y = made.physics.A(x)
    assert y.shape == (2, 2, 3, 16, 24)
    maps, mask = coil_sensitivities(3, SHAPE[1:]).numpy(), made.physics.mask[0, 0].numpy()
    assert made.physics.coil_maps.dtype == torch.complex128
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1)
    assert np.abs(maps.imag).max() > 0.1
    shifted = np.fft.ifftshift(maps * as_complex(x).numpy()[:, None], axes=(-2, -1))
    spectrum = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
    np.testing.assert_allclose(as_complex(y).numpy(), mask * spectrum, atol=1e-12)
    assert mask.mean() == pytest.approx(0.5, abs=0.05)
    u = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert float((y * u).sum()) == pytest.approx(float((x * made.physics.A_adjoint(u)).sum()))
    assert made.lipschitz <= 1 + 1e-9
    observed = made.observe(x, stream=1)
    assert float((observed - y).std()) == pytest.approx(0.02 * 0.5**0.5, rel=0.1)
    assert not observed[..., made.physics.mask[0, 0] == 0].any()


@pytest.mark.parametrize("lower", LOWER)
def test_the_hypergradient_is_the_slope_of_f(lower):
    task = make_task(
        train=phantom(2, 0), test=phantom(1, 5), degradation=MRI, lower=lower, probe_size=2, seed=0
    )
    reference = reference_hypergradient(task.lower, task.probe)
    assert reference.trusted
    theta = {name: p.detach() for name, p in task.lower.theta().items()}
    generator = torch.Generator().manual_seed(0)
    v = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in theta.items()}
    values = []
    for h in (1e-4, -1e-4):
        moved = task.lower.copied(torch.float64)
        set_theta(moved, {n: p + h * v[n] for n, p in theta.items()})
        x = true_equilibrium(moved, task.probe.observation, tol=1e-12).x
        values.append(float(upper_loss(moved, x, task.probe).detach()))
    slope = float(reference.gradient @ torch.cat([d.flatten() for d in v.values()]))
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(slope, rel=1e-5)


def test_casts_keep_imaginary_parts():
    task = make_task(
        train=phantom(2, 0),
        test=phantom(1, 5),
        degradation=MRI,
        lower=LOWER[0],
        probe_size=2,
        seed=0,
    )
    single = task.to(device=torch.device("cpu"), dtype=torch.float32)
    assert single.lower.physics.coil_maps.dtype == torch.complex64
    y = single.train.observation
    x, exact = single.lower.init(y), task.lower.init(task.train.observation)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), exact, atol=1e-5, rtol=0)
    back = single.lower.copied(torch.float64)
    torch.testing.assert_close(back.init(y.double()), exact, atol=1e-5, rtol=0)


def test_measured_pairs_of_an_operator_in_single_precision():
    """Its maps are complex64: in float64 they are the same, imaginary parts and all."""
    maps = coil_sensitivities(2, SHAPE[1:]).to(torch.complex64)
    physics = MaskedMultiCoilMRI(mask=torch.ones(16, 24), coil_maps=maps, img_size=(16, 24))
    truth = phantom(3, 0)
    y = physics.A(truth.float())
    checked = Measured(truth, y, physics).checked()
    torch.testing.assert_close(checked.physics.A(truth), y.double(), atol=1e-6, rtol=0)
    assert checked.physics.coil_maps.imag.abs().max() > 0.1
    with pytest.raises(ValueError, match="truth is complex, expected two real channels"):
        Measured(as_complex(truth), y, physics).checked()


def test_magnitudes_are_judged_and_shown():
    truth = phantom(2, 0)
    turned = torch.view_as_real(as_complex(truth) * 1j).permute(0, 3, 1, 2)
    assert psnr_of_each(turned, truth).min() > 70
    smaller = psnr_of_each(0.9 * truth, truth)
    size = as_complex(truth).abs()
    expected = -10 * (0.01 * size.square()).mean((1, 2)).log10()
    torch.testing.assert_close(smaller, expected, atol=1e-4, rtol=0)
    assert np.array_equal(to_uint8(turned[0])[..., 0], (size[0] * 255).round().byte().numpy())


def test_complex_images_from_an_array_and_photographs_made_complex(tmp_path):
    stored = as_complex(phantom(6, 0)).to(torch.complex64).numpy()
    np.save(tmp_path / "images.npy", stored)
    options = {"size": [16, 24], "degradation": MRI, "n_train": 3, "n_test": 3}
    made = dataset("Images", source=str(tmp_path / "images.npy"), **options).get_data()
    found = torch.cat([made["train"].images, made["test"].images])
    assert sorted(as_complex(found).flatten(1).sum(1).real.tolist()) == pytest.approx(
        sorted(stored.reshape(6, -1).sum(1).real.tolist()), rel=1e-5
    )
    task = make_task(**made, lower=LOWER[1], probe_size=1)
    assert task.lower.reconstruct(task.lower.init(task.test.observation)).shape == (3, *SHAPE)
    np.save(tmp_path / "grey.npy", np.abs(stored))
    grey = dataset("Images", source=str(tmp_path / "grey.npy"), channels=2, **options).get_data()
    assert grey["train"].images.shape == (3, *SHAPE) and not grey["train"].images[:, 1].any()
    with pytest.raises(ValueError, match="multicoil_mri needs complex images, of two channels"):
        make_degradation(MRI, (3, 16, 16), seed=0)


@pytest.mark.parametrize("solver", ["picard", "fista", "anderson(depth=5)"])
@pytest.mark.parametrize("adjoint", ["gmres", "anderson", "neumann"])
def test_library_on_complex_layers(solver, adjoint):
    """x = M x + b: automatic differentiation through the closed form says the same."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.complex128)

    M = 0.6 * torch.linalg.qr(draw(5, 5))[0]
    M.requires_grad_(), (b := draw(1, 5)).requires_grad_()
    target = draw(3, 5)

    def loss(x):
        return (x - target).abs().square().sum() + (x * target).imag.sum()

    exact = torch.linalg.solve(torch.eye(5) - M, b[0]).expand(3, 5)
    expected = torch.autograd.grad(loss(exact), [M, b])
    options = {
        "solver": solver,
        "gradient": f"implicit(solver='{adjoint}',tol=1e-11)",
        "tol": 1e-11,
    }
    x0 = torch.zeros(3, 5, dtype=torch.complex128)

    def T(x):
        return x @ M.T + b

    found = equilibrium(T, x0, **options)
    torch.testing.assert_close(found.x, exact, atol=1e-9, rtol=0)
    for a, e in zip(torch.autograd.grad(loss(found.x), [M, b]), expected, strict=True):
        torch.testing.assert_close(a, e, atol=1e-8, rtol=0)
    again = hypergradient(T, x0, loss, [M, b], **options)
    assert again.state.dtype == torch.complex128
    for a, e in zip(again.gradient, expected, strict=True):
        torch.testing.assert_close(a, e, atol=1e-8, rtol=0)
    assert int(equilibrium(T, found, **options).steps.max()) <= 1
    assert hypergradient(T, again, loss, [M, b], **options).converged
