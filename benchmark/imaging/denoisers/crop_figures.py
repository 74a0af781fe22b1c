"""PSNR of denoisers on crops of the test photographs, beside classical ones, for model cards."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.imaging.images import crops
from benchmark.imaging.metrics import psnr
from benchmark.imaging.photographs import photographs


def noisy_test_crops(sigma: float) -> tuple[Tensor, Tensor]:
    """Eight 64×64 crops of the test photographs and the same with noise, float32."""
    truth = crops(photographs("test", 8), number=8, size=64, seed=0).images.float()
    generator = torch.Generator().manual_seed(0)
    return truth, truth + sigma * torch.randn(truth.shape, generator=generator)


@torch.no_grad()
def denoised_psnr(network: nn.Module, sigma: float) -> float:
    """PSNR in dB of the network on ``noisy_test_crops``."""
    truth, noisy = noisy_test_crops(sigma)
    return psnr(network(noisy, noisy.new_full((len(noisy),), sigma)), truth)


def row(network: nn.Module, sigma: float) -> str:
    """``| σ | noisy | non-local means | wavelet | network |``, PSNR in dB on ``noisy_test_crops``.

    The classical ones are scikit-image's, both told σ: non-local means with patches of 5, distance
    6, h = 0.8 σ; wavelet shrinkage with BayesShrink in YCbCr.
    """
    truth, noisy = noisy_test_crops(sigma)
    classical = (_each(denoise, noisy, sigma) for denoise in (_nonlocal_means, _wavelet))
    figures = (psnr(noisy, truth), *(psnr(image, truth) for image in classical))
    cells = [f"{figure:.2f}" for figure in (*figures, denoised_psnr(network, sigma))]
    return f"| {sigma} | {' | '.join(cells)} |"


def _each(denoise: Callable[..., np.ndarray], noisy: Tensor, sigma: float) -> Tensor:
    images = [denoise(image.permute(1, 2, 0).numpy(), sigma) for image in noisy]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(noisy.dtype)


def _nonlocal_means(image: np.ndarray, sigma: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    options = {"patch_size": 5, "patch_distance": 6, "fast_mode": False, "channel_axis": -1}
    return denoise_nl_means(image, h=0.8 * sigma, sigma=sigma, **options)


def _wavelet(image: np.ndarray, sigma: float) -> np.ndarray:
    from skimage.restoration import denoise_wavelet

    options = {"channel_axis": -1, "convert2ycbcr": True, "rescale_sigma": True}
    return denoise_wavelet(image, sigma=sigma, **options)
