"""The observations: adjoint identities, norms, noise, reproducibility, messages."""

from __future__ import annotations

import copy
import re

import h5py
import numpy as np
import pytest
import torch
from conftest import DEGRADATION_SPECS, MORE_DEGRADATION_SPECS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pretend_device import pretend_device, unwrap
from scipy.io import savemat
from scipy.signal import convolve2d

from benchmark.imaging.degradations import make_degradation
from benchmark.imaging.kernels import measured_kernel

SHAPE = (3, 16, 16)


@pytest.fixture(params=DEGRADATION_SPECS + MORE_DEGRADATION_SPECS)
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


@settings(max_examples=5, deadline=None)
@given(shape=st.tuples(st.integers(1, 5), st.integers(9, 15), st.integers(9, 15)))
@pytest.mark.parametrize("spec", [*DEGRADATION_SPECS, *MORE_DEGRADATION_SPECS, "multicoil_mri"])
def test_images_of_any_shape_are_observed_or_refused(spec, shape):
    """With the adjoint that it says, within the norm that it says."""
    try:
        made = make_degradation(spec, shape, seed=0)
    except ValueError as error:
        needs = "needs square|needs complex|must divide|sigma must be one number|measures nothing"
        assert re.search(needs, str(error)), error
        return
    x = random(2, *shape)
    y = made.observe(x, stream=1)
    u = random(*y.shape, seed=1)
    forward = float((made.physics.A(x) * u).sum())
    assert forward == pytest.approx(float((x * made.physics.A_adjoint(u)).sum()), rel=1e-10)
    assert made.physics.A(x).square().sum() <= made.lipschitz * (1 + 1e-3) * x.square().sum()


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


def test_each_channel_has_its_own_noise():
    degradation = make_degradation("denoising(sigma=(0.1,0.25,0.5))", (3, 64, 64), seed=0)
    truth = torch.full((4, 3, 64, 64), 0.5, dtype=torch.float64)
    noise = degradation.observe(truth, stream=1) - truth
    assert noise.std((0, 2, 3)).tolist() == pytest.approx([0.1, 0.25, 0.5], rel=0.03)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_inpainting_keeps_the_stated_share(keep):
    degradation = make_degradation(f"inpainting(keep={keep})", (3, 64, 64), seed=0)
    mask = degradation.physics.A(torch.ones(1, 3, 64, 64, dtype=torch.float64))
    assert mask.mean().item() == pytest.approx(keep, abs=0.02)


def test_motion_blurs_each_channel_along_its_line():
    degradation = make_degradation("motion_deblurring(length=25)", (3, 64, 64), seed=0)
    point = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    point[..., 32, 32] = 1
    spread = degradation.physics.A(point)[0]
    line = torch.zeros(64, dtype=torch.float64)
    line[20:45] = 1 / 25
    expected = torch.zeros(3, 64, 64, dtype=torch.float64)
    expected[0, 32], expected[1, :, 32], expected[2] = line, line, line.diag()
    assert torch.allclose(spread, expected, atol=1e-14)
    assert degradation.lipschitz == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("padding", "beyond"), [("circular", "wrap"), ("reflect", "reflect")])
def test_what_lies_outside_the_frame(padding, beyond, tmp_path):
    """SciPy's convolution of the image that NumPy has continued."""
    kernel = np.random.default_rng(0).random((3, 7))
    np.save(tmp_path / "kernel.npy", kernel)
    spec = f"measured_blur(file='{tmp_path / 'kernel.npy'}',padding='{padding}')"
    degradation = make_degradation(spec, (2, 12, 15), seed=0)
    image = random(1, 2, 12, 15)
    for channel, found in zip(image[0], degradation.physics.A(image)[0], strict=True):
        continued = np.pad(channel.numpy(), ((1, 1), (3, 3)), mode=beyond)
        expected = convolve2d(continued, kernel / kernel.sum(), mode="valid")
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


def test_super_resolution_keeps_means_and_a_quarter_of_the_pixels():
    degradation = make_degradation("super_resolution(factor=2)", (3, 32, 32), seed=0)
    flat = torch.full((1, 3, 32, 32), 0.7, dtype=torch.float64)
    observed = degradation.physics.A(flat)
    assert observed.shape == (1, 3, 16, 16)
    assert torch.allclose(observed, torch.full_like(observed, 0.7))


def test_tomography_integrates_along_lines():
    degradation = make_degradation("tomography(angles=4)", (3, 32, 32), seed=0)
    image = random(1, 3, 32, 32).abs()
    observed = degradation.physics.A(image)
    assert observed.shape == (1, 3, 46, 4)
    # along the columns, at 0 degrees; each direction sees the mass of the whole image
    assert torch.allclose(observed[..., 7:39, 0], image.sum(2) / 32, atol=0.05)
    assert torch.allclose(observed.sum(2) * 32, image.sum((2, 3))[..., None], rtol=0.05)


def test_mri_measures_the_stated_share_of_the_spectrum():
    degradation = make_degradation("mri(acceleration=4)", (3, 64, 64), seed=0)
    image = random(2, 3, 64, 64)
    observed = degradation.physics.A(image).view(2, 3, 2, 64, 64)
    measured = observed[0, 0, 0].abs().sum(0) > 0
    assert measured.double().mean().item() == pytest.approx(1 / 4, abs=0.02)
    # both origins are in the middle
    centred = torch.fft.fft2(torch.fft.ifftshift(image, dim=(-2, -1)), norm="ortho")
    spectrum = torch.fft.fftshift(centred, dim=(-2, -1))
    assert torch.allclose(observed[:, :, 0, :, measured], spectrum.real[..., measured])
    assert torch.allclose(observed[:, :, 1, :, measured], spectrum.imag[..., measured])
    other = make_degradation("mri(acceleration=4)", (3, 64, 64), seed=1)
    assert not torch.equal(other.physics.A(image).view(2, 3, 2, 64, 64) != 0, observed != 0)
    noisy = degradation.observe(image, stream=1).view(2, 3, 2, 64, 64)
    assert (noisy[..., ~measured] == 0).all(), "no noise where nothing is observed"


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
    back = degradation.physics.A_adjoint(exact)  # whatever an operator keeps of this is copied
    single = copy.deepcopy(degradation.physics).to(torch.float32)
    rounded = single.A(x.float())
    returned = single.A_adjoint(rounded)
    assert rounded.dtype == returned.dtype == torch.float32
    assert torch.allclose(rounded.double(), exact, atol=1e-5)
    assert torch.allclose(returned.double(), back, atol=1e-5)
    assert torch.equal(degradation.physics.A_adjoint(exact), back)


def test_a_move_keeps_the_operator(degradation):
    x = random(2, *SHAPE)
    exact = degradation.physics.A(x)
    back = degradation.physics.A_adjoint(exact)
    with pretend_device() as device:
        moved = copy.deepcopy(degradation.physics).to(device)
        there = moved.A(x.to(device))
        assert torch.allclose(unwrap(there), exact, atol=1e-12)
        assert torch.allclose(unwrap(moved.A_adjoint(there)), back, atol=1e-12)


def test_the_operator_is_differentiated(degradation):
    """The gradient of ½‖Ax‖² through A, and of what AᵀA gives: both are Aᵀ and A again."""
    physics = degradation.physics
    x, v = random(2, *SHAPE).requires_grad_(), random(2, *SHAPE, seed=1)
    normal = physics.A_adjoint(physics.A(x))
    energy = 0.5 * physics.A(x).square().sum()
    assert torch.allclose(torch.autograd.grad(energy, x)[0], normal, atol=1e-12)
    (product,) = torch.autograd.grad(normal, x, v)
    assert torch.allclose(product, physics.A_adjoint(physics.A(v)), atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("blurring", "unknown degradation 'blurring': expected one of deblurring, denoising"),
        ("denoising(sigma=-0.1)", "sigma must be a number of at least 0, got -0.1"),
        ("inpainting(keep=1.5)", "keep must lie strictly between 0 and 1, got 1.5"),
        ("deblurring(width=0)", "width must be a positive number, got 0"),
        ("denoising(sigma=(0.1,0.2))", r"one for each of the 3 channels, got \(0.1, 0.2\)"),
        ("denoising(sigma=(0.1,-1,0))", r"sigma\[1\] must be a number of at least 0, got -1"),
        ("deblurring(padding='zero')", "padding must be one of circular, reflect, got 'zero'"),
        ("motion_deblurring(length=4)", "length must be odd, .* got 4"),
        ("motion_deblurring", "a kernel of 25×25 pixels does not fit into images of 16×16"),
        ("super_resolution(factor=3)", r"factor must divide .* got 3 for \(16, 16\)"),
        ("super_resolution(factor=0)", "factor must be an integer of at least 1, got 0"),
        ("tomography(angles=0)", "angles must be an integer of at least 1, got 0"),
        ("mri(acceleration=0)", "acceleration must be an integer of at least 1, got 0"),
        (
            "denoising(noise=0.1)",
            "unknown noise model '0.1': expected one of deepinv.NAME or FILE.py",
        ),
    ],
)
def test_bad_specs_are_named(spec, expected):
    with pytest.raises(ValueError, match=expected):
        make_degradation(spec, SHAPE, seed=0)


def kernel_files(folder) -> dict[str, list[np.ndarray]]:
    """Files of kernels in every form, and what each holds."""
    rng = np.random.default_rng(0)
    small, large = rng.random((3, 5)), rng.random((7, 7))
    cells = np.empty((2, 1), dtype=object)
    cells[:, 0] = small, large
    savemat(folder / "old.mat", {"kernels": cells})
    savemat(folder / "plain.mat", {"kernel": small})
    with h5py.File(folder / "new.mat", "w") as file:  # as MATLAB writes version 7.3
        file["#refs#/a"], file["#refs#/b"] = small.T, large.T
        references = [[file[f"#refs#/{name}"].ref] for name in "ab"]
        file.create_dataset("kernels", data=references, dtype=h5py.ref_dtype)
    content = (folder / "new.mat").read_bytes()
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    (folder / "new.mat").write_bytes(head.ljust(512, b"\0") + content)
    np.save(folder / "one.npy", small)
    np.savez(folder / "two.npz", a=np.stack([large, large[::-1]]))
    grey = np.zeros((5, 5), dtype=np.uint8)
    grey[2] = 51
    Image.fromarray(grey).save(folder / "line.png")
    return {
        "old.mat": [small, large],
        "plain.mat": [small],
        "new.mat": [small, large],
        "one.npy": [small],
        "two.npz": [large, large[::-1]],
        "line.png": [grey],
    }


def test_measured_kernels_of_every_form(tmp_path):
    for name, kernels in kernel_files(tmp_path).items():
        for number, kernel in enumerate(kernels):
            found = measured_kernel(str(tmp_path / name), number)
            np.testing.assert_allclose(found, kernel / kernel.sum(), rtol=1e-12)
        with pytest.raises(ValueError, match=rf"{name} holds {len(kernels)} kernels, .* got 9"):
            measured_kernel(str(tmp_path / name), 9)


def test_a_measured_blur_is_the_convolution(tmp_path):
    kernel_files(tmp_path)
    spec = f"measured_blur(file='{tmp_path / 'old.mat'}',number=0,sigma=0)"
    degradation = make_degradation(spec, (2, 16, 24), seed=0)
    kernel = measured_kernel(str(tmp_path / "old.mat"), 0)
    point = torch.zeros(1, 2, 16, 24, dtype=torch.float64)
    point[:, :, 8, 12] = 1
    blurred = degradation.physics.A(point)
    torch.testing.assert_close(blurred[0, 1, 7:10, 10:15], kernel, atol=1e-12, rtol=0)
    assert float(blurred.sum()) == pytest.approx(2)
    with pytest.raises(ValueError, match="a kernel of 7×7 pixels does not fit into images of 6×24"):
        make_degradation(spec.replace("number=0", "number=1"), (2, 6, 24), seed=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((3, 3)), r"kernel 0 of shape \(3, 3\): expected \(h, w\), .* not all zero"),
        (np.full((3, 3), -1.0), "no entry negative"),
        (np.full((3, 3), np.nan), "no entry negative"),
        (np.ones(4), r"of shape \(4,\)"),
        (b"no matrices", "bad.mat is no MATLAB file that can be read"),
    ],
    ids=str,
)
def test_bad_kernels_are_named(tmp_path, content, said):
    path = tmp_path / ("bad.mat" if isinstance(content, bytes) else "bad.npy")
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError, match=said):
        make_degradation(f"measured_blur(file='{path}')", (3, 16, 16), seed=0)
    with pytest.raises(ValueError, match=r"no file nowhere.mat: expected blur kernels"):
        make_degradation("measured_blur(file='nowhere.mat')", (3, 16, 16), seed=0)
