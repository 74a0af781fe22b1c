"""Operators and noise that deepinv has for other shapes or other uses: adapters, no mathematics."""

from __future__ import annotations

from typing import final

import torch
from deepinv.physics import MRI, LinearPhysics, MultiCoilMRI, NoiseModel
from deepinv.physics.forward import adjoint_function
from deepinv.physics.functional import Radon
from torch import Tensor, nn


@final
class ChannelNoise(NoiseModel):
    """White Gaussian noise on images (N, C, H, W) with a standard deviation for each channel.

    deepinv's ``GaussianNoise`` reads a vector of levels as one per image.
    """

    def __init__(self, sigma: Tensor) -> None:
        super().__init__()
        self.register_buffer("sigma", sigma[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x)


@final
class ColourMRI(LinearPhysics):
    """Each colour channel's discrete Fourier transform (orthonormal) where ``mask`` (H, W) is 1.

    y (N, 2C, H, W) holds real and imaginary parts channel by channel, zero (without noise) where
    nothing is measured. deepinv's ``MRI`` works on complex images, one a sample; the adjoint on
    real ones is the real part of its adjoint.
    """

    def __init__(self, mask: Tensor, *, noise_model: nn.Module) -> None:
        super().__init__(noise_model=noise_model)
        self.complex = MRI(mask=mask)

    def A(self, x: Tensor, **kwargs) -> Tensor:
        pairs = torch.stack([x, torch.zeros_like(x)], dim=2)
        return self.complex.A(pairs.flatten(0, 1)).reshape(len(x), -1, *x.shape[2:])

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        pairs = y.reshape(-1, 2, *y.shape[2:])
        return self.complex.A_adjoint(pairs)[:, 0].reshape(len(y), -1, *y.shape[2:])

    def noise(self, x: Tensor, **kwargs) -> Tensor:
        return self.noise_model(x) * self.complex.mask[:, :1]


@final
class MaskedMultiCoilMRI(MultiCoilMRI):
    """deepinv's operator, whose noise is none where nothing is measured."""

    def noise(self, x: Tensor, **kwargs) -> Tensor:
        return self.noise_model(x) * self.mask[:, :, None]


def coil_sensitivities(coils: int, sides: tuple[int, int]) -> Tensor:
    """S (coils, H, W), complex, Σ |S|² = 1: Gaussians about points on a circle, each with a phase.

    The circle goes through the middles of the sides; the standard deviation is half a side.
    """
    rows, columns = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in sides)
    angles = torch.arange(coils, dtype=torch.float64) * (2 * torch.pi / coils)
    distances = (rows[:, None] - angles.sin()[:, None, None]).square() + (
        columns - angles.cos()[:, None, None]
    ).square()
    sizes = (-distances / 2).exp()
    sizes = sizes / sizes.square().sum(0).sqrt()
    return torch.polar(sizes, angles[:, None, None].expand_as(sizes) / 2)


@final
class ColourTomography(LinearPhysics):
    """The Radon transform of each colour channel: integrals along lines, in sides of the image.

    y (N, C, detectors, angles), the angles evenly spaced over 180°. The adjoint is made anew at
    each call, at the cost of one more A: deepinv's ``Tomography`` keeps it, with the device and
    precision of the operator that it was first made for, through copies and casts.
    """

    def __init__(self, angles: int, side: int, *, noise_model: nn.Module) -> None:
        super().__init__(noise_model=noise_model)
        degrees = torch.arange(angles, dtype=torch.float64) * (180 / angles)
        self.side = side
        self.radon = Radon(side, degrees, dtype=torch.float64)

    def A(self, x: Tensor, **kwargs) -> Tensor:
        return self.radon(x) / self.side

    def A_adjoint(self, y: Tensor, **kwargs) -> Tensor:
        shape = (*y.shape[:2], self.side, self.side)
        return adjoint_function(self.A, shape, device=y.device, dtype=y.dtype)(y)
