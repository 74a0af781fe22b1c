"""How an image is observed, y = A x̄ + noise: linear operators and noise of deepinv, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.checks import nonnegative_number, positive_number, strictly_between
from benchmark.spec import build

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class Degradation:
    """The operator A, in float64 on the CPU, ‖A‖², and the seed that its draws follow."""

    physics: LinearPhysics
    lipschitz: float
    seed: int

    def observe(self, truth: Tensor, *, stream: int) -> Tensor:
        """y = A x̄ + noise for images (N, C, H, W), reproducible; ``stream`` numbers the draw."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + stream)
            return self.physics(truth)


def make_degradation(spec: str, image_shape: ImageShape, *, seed: int) -> Degradation:
    """The degradation that ``spec`` names, for images (C, H, W).

    ``denoising(sigma=0.1)``, ``inpainting(keep=0.5, sigma=0.05)``,
    ``deblurring(width=1.5, sigma=0.02)``: see the functions of this module for the options.

    The random part of A (a mask) is drawn from ``seed`` on the CPU, so that every device has the
    same. ‖A‖² is found by power iteration (a lower bound, tight to about 1e-6 relative where the
    spectrum has a gap). Raises ValueError for an unknown name or option or a value out of range.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        physics = build(spec, DEGRADATIONS, kind="degradation", image_shape=image_shape)
        physics = physics.to(torch.float64)
        probe = torch.rand(1, *image_shape, dtype=torch.float64)
        squared_norm = physics.compute_sqnorm(probe, max_iter=1000, tol=1e-7, verbose=False)
    return Degradation(physics, float(squared_norm), seed)


def denoising(image_shape: ImageShape, sigma: float = 0.1) -> LinearPhysics:
    """A = identity, white Gaussian noise of standard deviation ``sigma``."""
    from deepinv.physics import Denoising

    return Denoising(noise_model=_noise(sigma))


def inpainting(image_shape: ImageShape, keep: float = 0.5, sigma: float = 0.05) -> LinearPhysics:
    """A = a random mask that keeps each pixel (all its channels) with probability ``keep``."""
    from deepinv.physics import Inpainting

    strictly_between("keep", keep, low=0, high=1)
    return Inpainting(img_size=image_shape, mask=float(keep), noise_model=_noise(sigma))


def deblurring(image_shape: ImageShape, width: float = 1.5, sigma: float = 0.02) -> LinearPhysics:
    """A = circular convolution with a Gaussian of standard deviation ``width`` pixels."""
    from deepinv.physics import Blur
    from deepinv.physics.functional.blur import gaussian_blur

    positive_number("width", width)
    kernel = gaussian_blur(sigma=(width, width))
    # not BlurFFT: a cast to another precision drops the imaginary part of its complex buffers
    return Blur(filter=kernel, padding="circular", use_fft=True, noise_model=_noise(sigma))


DEGRADATIONS: dict[str, Callable] = {
    "denoising": denoising,
    "inpainting": inpainting,
    "deblurring": deblurring,
}


def _noise(sigma: float) -> torch.nn.Module:
    from deepinv.physics import GaussianNoise

    nonnegative_number("sigma", sigma)
    return GaussianNoise(sigma=float(sigma))
