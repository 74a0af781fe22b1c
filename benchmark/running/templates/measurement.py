"""Blurred images with noise, as if they had been measured."""

import torch
from deepinv.physics import Blur
from deepinv.physics.functional import gaussian_blur
from torch.nn.functional import avg_pool2d

from benchmark.imaging.measured import Measured


def template(number=8, sigma=0.02):
    """True images x̄ (N, C, H, W), |x̄| ≤ 1, what was measured of them, y (N, …), and A, y ≈ A x̄.

    In earnest x̄ and y are read from files, and A is a linear operator of deepinv. Pairs of other
    sizes, or of another operator, are another ``Measured``: return a list of them.
    """
    generator = torch.Generator().manual_seed(0)
    truth = avg_pool2d(torch.rand(number, 1, 36, 36, generator=generator), 5, stride=1)
    physics = Blur(filter=gaussian_blur(sigma=(1, 1)), padding="circular")
    y = physics.A(truth)
    return Measured(truth, y + sigma * torch.randn(y.shape, generator=generator), physics)
