"""How an image is observed, y = A x̄ + noise: linear operators and noise of deepinv, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.imaging.seeded import seeded
from benchmark.options.brought import error_line
from benchmark.options.checks import (
    nonnegative_number,
    one_of,
    positive_integer,
    positive_number,
    strictly_between,
)
from benchmark.options.seeds import seed_of
from benchmark.options.spec import Kind
from benchmark.solve.complex_numbers import keeping_complex

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

ImageShape = tuple[int, int, int]

#: what an image is outside its frame, for a convolution: the image again, or its mirror image
PADDINGS = ("circular", "reflect")

#: relative, of ⟨Au, v⟩ = ⟨u, Aᵀv⟩ and of linearity in float64; interpolations in float32 are within
ADJOINT_TOL = 1e-5


@dataclass(frozen=True)
class Degradation:
    """The operator A, in float64 on the CPU, ‖A‖², and the seed that its noise follows."""

    physics: LinearPhysics
    lipschitz: float
    seed: int

    def observe(
        self, truth: Tensor, *, stream: object, numbers: Sequence[int] | None = None
    ) -> Tensor:
        """y = A x̄ + noise for images (N, C, H, W), reproducible.

        stream, numbers : the name of a set, and the images' numbers in it, 0, 1, … unless given:
        the noise of an image follows from these alone, however many others there are.
        """
        observed = []
        for i in range(len(truth)) if numbers is None else numbers:
            with seeded(seed_of(self.seed, "noise", stream, i)):
                observed.append(self.physics(truth[len(observed) : len(observed) + 1]))
        return torch.cat(observed)


def make_degradation(spec: str, image_shape: ImageShape, *, seed: int) -> Degradation:
    """The degradation that ``spec`` names, for images (C, H, W).

    ``denoising(sigma=0.1)``, ``denoising(sigma=(0.1, 0.25, 0.5))``,
    ``inpainting(keep=0.5, sigma=0.05)``, ``deblurring(width=1.5, sigma=0.02)``,
    ``motion_deblurring(length=25, sigma=0.05)``, ``measured_blur(file='Levin09.mat', number=1)``,
    ``super_resolution(factor=2, sigma=0.02)``,
    ``tomography(angles=60, sigma=0.01)``, ``mri(acceleration=4, sigma=0.02)``,
    ``multicoil_mri(coils=4, acceleration=4, sigma=0.02)``: see the functions of
    this module for the options. ``deepinv.CLASS(…)`` is a linear operator of ``deepinv.physics``,
    told the images' shape as ``img_size`` and float64 as ``dtype``; ``FILE.py(…)`` a function
    (image_shape, …) that returns one. To each can be given ``noise``, the name of a noise model of
    deepinv or a file, ``noise='deepinv.PoissonNoise(gain=0.1)'``, in the place of its own.

    The random part of A (a mask) is drawn from ``seed`` on the CPU, so that every device has the
    same; the caller's generators stay as they are. ‖A‖² is found by power iteration (a lower bound,
    tight to about 1e-6 relative where the spectrum has a gap, 1e-4 where it has none: blurs of
    large images, reflecting frames). Raises ValueError for an unknown name or option, a value out
    of range, or where A is not linear or its adjoint is none.
    """
    context = {"image_shape": image_shape, "img_size": image_shape, "dtype": torch.float64}
    with seeded(seed_of(seed, "operator")):
        chosen = DEGRADATION.choose(spec, given=context, also=["noise"])
        noise = chosen.keywords.pop("noise", None)
        if noise is not None and "sigma" in chosen.keywords:
            raise ValueError(f"degradation {spec!r}: expected sigma or noise, got both")
        physics = DEGRADATION.call(chosen, spec, **context)
        if noise is not None:
            physics.set_noise_model(NOISE_MODEL.build(noise))
        probe = torch.rand(1, *image_shape, dtype=torch.float64)
        physics = checked_physics(physics, probe, what=f"degradation {spec!r}")
        return Degradation(
            physics, _squared_norm(physics, probe, what=f"degradation {spec!r}"), seed
        )


def measured_by(physics: LinearPhysics, image_shape: ImageShape, *, seed: int) -> Degradation:
    """A that is given, as ``checked_physics`` has it: only ‖A‖² is to be found."""
    with seeded(seed_of(seed, "operator")):
        probe = torch.rand(1, *image_shape, dtype=torch.float64)
        return Degradation(physics, _squared_norm(physics, probe, what="physics"), seed)


def _squared_norm(physics: LinearPhysics, probe: Tensor, *, what: str) -> float:
    """‖A‖² by power iteration; ValueError where nothing is measured."""
    found = float(physics.compute_sqnorm(probe, max_iter=1000, tol=1e-7, verbose=False))
    if not 0 < found < math.inf:
        raise ValueError(
            f"{what}: ‖A‖² is {found:g}, expected a positive number: A measures nothing"
        )
    return found


def checked_physics(physics: object, probe: Tensor, *, what: str) -> LinearPhysics:
    """``physics`` in float64; ValueError unless it is linear on ``probe`` (1, C, H, W) and has its
    adjoint.
    """
    from deepinv.physics import LinearPhysics

    if not isinstance(physics, LinearPhysics):
        raise ValueError(f"{what} is a {type(physics).__name__}, expected {DEGRADATION.form}")
    try:
        physics._apply(keeping_complex(torch.Tensor.double))
        images = (physics.A(probe), physics.A(2 * probe - 1), physics.A(torch.ones_like(probe)))
        if not isinstance(images[0], Tensor):
            raise TypeError(f"expected one tensor, got a {type(images[0]).__name__}")
        back = physics.A_adjoint(images[0])
    except Exception as error:
        shape = tuple(probe.shape)
        raise ValueError(
            f"{what}: A or Aᵀ fails on images {shape} in float64: {error_line(error)}"
        ) from error
    if not images[0].count_nonzero():
        raise ValueError(f"{what} leaves nothing of an image: A maps it to zero")
    squared = images[0].norm().square()
    scale = squared + torch.finfo(torch.float64).tiny
    inner = (back * probe).sum() if back.shape == probe.shape else torch.tensor(torch.nan)
    gaps = {
        "A is not linear: A(2u − 1) − 2A(u) + A(1)": (images[1] - 2 * images[0] + images[2]).norm()
        / scale.sqrt(),
        "A_adjoint is not the adjoint of A: ⟨Au, Au⟩ − ⟨u, AᵀAu⟩": (squared - inner).abs() / scale,
    }
    for wrong, gap in gaps.items():
        if not gap <= ADJOINT_TOL:
            raise ValueError(
                f"{what}: {wrong} is {float(gap):.1e} of what it should be near, expected at most "
                f"{ADJOINT_TOL:g}"
            )
    return physics


def denoising(image_shape: ImageShape, sigma: float | tuple[float, ...] = 0.1) -> LinearPhysics:
    """A = identity, white Gaussian noise of standard deviation ``sigma``, or one per channel."""
    from deepinv.physics import Denoising

    if not isinstance(sigma, tuple | list):
        return Denoising(noise_model=_noise(sigma))
    from benchmark.imaging.physics import ChannelNoise

    if len(sigma) != image_shape[0]:
        raise ValueError(
            f"sigma must be one number, or one for each of the {image_shape[0]} channels, "
            f"got {sigma!r}"
        )
    for i, level in enumerate(sigma):
        nonnegative_number(f"sigma[{i}]", level)
    return Denoising(noise_model=ChannelNoise(torch.tensor(sigma, dtype=torch.float64)))


def inpainting(image_shape: ImageShape, keep: float = 0.5, sigma: float = 0.05) -> LinearPhysics:
    """A = a random mask that keeps each pixel (all its channels) with probability ``keep``."""
    from deepinv.physics import Inpainting

    strictly_between("keep", keep, low=0, high=1)
    return Inpainting(img_size=image_shape, mask=float(keep), noise_model=_noise(sigma))


def deblurring(
    image_shape: ImageShape, width: float = 1.5, sigma: float = 0.02, padding: str = "circular"
) -> LinearPhysics:
    """A = convolution with a Gaussian of standard deviation ``width`` pixels.

    ``padding`` says what lies outside the frame: "circular" or "reflect".
    """
    return _blur(_gaussian(width), image_shape, padding=padding, noise=_noise(sigma))


def motion_deblurring(
    image_shape: ImageShape, length: int = 25, sigma: float = 0.05, padding: str = "circular"
) -> LinearPhysics:
    """A = convolution with a line of ``length`` pixels (odd), its direction that of the channel.

    Horizontal, vertical and diagonal in turn, each of sum 1 in a square of side ``length``.
    """
    positive_integer("length", length, most=999)
    if length % 2 == 0:
        raise ValueError(f"length must be odd, for a line with a centre, got {length}")
    horizontal = torch.zeros(length, length, dtype=torch.float64)
    horizontal[length // 2] = 1 / length
    diagonal = torch.eye(length, dtype=torch.float64) / length
    lines = torch.stack([horizontal, horizontal.T, diagonal])
    kernel = lines[torch.arange(image_shape[0]) % 3][None]
    return _blur(kernel, image_shape, padding=padding, noise=_noise(sigma))


def measured_blur(
    image_shape: ImageShape,
    file: str,
    number: int = 0,
    sigma: float = 0.01,
    padding: str = "circular",
) -> LinearPhysics:
    """A = convolution with kernel ``number`` of ``file``, as of a camera that shook.

    See ``benchmark.imaging.kernels.measured_kernel``; the kernels of Levin et al., "Understanding
    and evaluating blind deconvolution algorithms" (2009), are in a file Levin09.mat.
    """
    from benchmark.imaging.kernels import measured_kernel

    kernel = measured_kernel(file, number)[None, None]
    return _blur(kernel, image_shape, padding=padding, noise=_noise(sigma))


def super_resolution(
    image_shape: ImageShape, factor: int = 2, sigma: float = 0.02, padding: str = "circular"
) -> LinearPhysics:
    """A = a Gaussian blur of ``factor``/2 pixels, then every ``factor``-th pixel in each direction.

    y (N, C, H/factor, W/factor); both sides must be multiples of ``factor``.
    """
    from deepinv.physics import Downsampling, compose

    positive_integer("factor", factor, most=64)
    if any(side % factor for side in image_shape[1:]):
        raise ValueError(
            f"factor must divide both sides of the images, got {factor} for {image_shape[1:]}"
        )
    # a blur and a decimation: Downsampling's own filter is spatial, and transformed at each call
    blur = _blur(_gaussian(factor / 2), image_shape, padding=padding, noise=_noise(0.0))
    decimation = Downsampling(
        img_size=image_shape, filter=None, factor=factor, noise_model=_noise(sigma)
    )
    return compose(blur, decimation)


def tomography(image_shape: ImageShape, angles: int = 60, sigma: float = 0.01) -> LinearPhysics:
    """A = integrals along lines in ``angles`` directions, in sides of the (square) image.

    Slow on a CPU: a layer takes some hundred times as long as with an inpainting (64×64 pixels, 60
    angles), for deepinv rotates the image once for each angle.
    """
    from benchmark.imaging.physics import ColourTomography

    positive_integer("angles", angles, most=10_000)
    _, height, width = image_shape
    if height != width:
        raise ValueError(f"tomography needs square images, got {height}×{width} pixels")
    return ColourTomography(angles, width, noise_model=_noise(sigma))


def mri(image_shape: ImageShape, acceleration: int = 4, sigma: float = 0.02) -> LinearPhysics:
    """A = one in ``acceleration`` columns of each channel's Fourier transform (orthonormal).

    The columns are drawn by deepinv's generator; the lowest frequencies are among them where the
    image is large enough for its share of them to be a column.
    """
    from deepinv.physics.generator import RandomMaskGenerator

    from benchmark.imaging.physics import ColourMRI

    positive_integer("acceleration", acceleration, most=1000)
    seeded = torch.Generator().manual_seed(torch.initial_seed())
    generator = RandomMaskGenerator((1, *image_shape[1:]), acceleration, rng=seeded)
    return ColourMRI(generator.step()["mask"][0, 0], noise_model=_noise(sigma))


def multicoil_mri(
    image_shape: ImageShape, coils: int = 4, acceleration: int = 4, sigma: float = 0.02
) -> LinearPhysics:
    """A = one in ``acceleration`` columns of the Fourier transforms of what ``coils`` coils see.

    Of complex images, (N, 2, H, W) real; y (N, 2, coils, H, W) likewise. The coils lie around the
    image, their sensitivities Gaussians with a phase of their own, scaled so that Σ |S|² = 1 at
    each pixel: ‖A‖ ≤ 1. The columns are drawn as for ``mri``.
    """
    from deepinv.physics.generator import RandomMaskGenerator

    from benchmark.imaging.physics import MaskedMultiCoilMRI, coil_sensitivities

    positive_integer("coils", coils)
    positive_integer("acceleration", acceleration)
    if image_shape[0] != 2:
        raise ValueError(
            f"multicoil_mri needs complex images, of two channels, got {image_shape[0]}: the "
            "dataset Images makes them with channels=2"
        )
    seeded = torch.Generator().manual_seed(torch.initial_seed())
    generator = RandomMaskGenerator((1, *image_shape[1:]), acceleration, rng=seeded)
    return MaskedMultiCoilMRI(
        mask=generator.step()["mask"][0, 0],
        coil_maps=coil_sensitivities(coils, image_shape[1:]),
        img_size=image_shape[1:],
        noise_model=_noise(sigma),
    )


DEGRADATIONS: dict[str, Callable] = {
    "denoising": denoising,
    "inpainting": inpainting,
    "deblurring": deblurring,
    "motion_deblurring": motion_deblurring,
    "measured_blur": measured_blur,
    "super_resolution": super_resolution,
    "tomography": tomography,
    "mri": mri,
    "multicoil_mri": multicoil_mri,
}
DEGRADATION: Kind = Kind(
    "degradation",
    DEGRADATIONS,
    {"deepinv": ["deepinv.physics"]},
    form="a function (image_shape, …) that returns a LinearPhysics of deepinv with its noise model",
)
NOISE_MODEL: Kind = Kind(
    "noise model",
    {},
    {"deepinv": ["deepinv.physics"]},
    form="a function that returns a noise model of deepinv",
)


def _gaussian(width: float) -> Tensor:
    from deepinv.physics.functional.blur import gaussian_blur

    positive_number("width", width, most=100)
    return gaussian_blur(sigma=(width, width))


def _blur(
    kernel: Tensor, image_shape: ImageShape, *, padding: str, noise: torch.nn.Module
) -> LinearPhysics:
    """Convolution with ``kernel`` (1, 1 or C, h, w), which must fit into the image."""
    from deepinv.physics import Blur

    one_of("padding", padding, PADDINGS)
    # the Fourier transform would cut a larger one off, in silence
    if any(k > side for k, side in zip(kernel.shape[2:], image_shape[1:], strict=True)):
        raise ValueError(
            f"a kernel of {kernel.shape[2]}×{kernel.shape[3]} pixels does not fit into images of "
            f"{image_shape[1]}×{image_shape[2]}"
        )
    # not BlurFFT: a cast to another precision drops the imaginary part of its complex buffers
    return Blur(filter=kernel, padding=padding, use_fft=True, noise_model=noise)


def _noise(sigma: float) -> torch.nn.Module:
    from deepinv.physics import GaussianNoise

    nonnegative_number("sigma", sigma)
    return GaussianNoise(sigma=float(sigma))
