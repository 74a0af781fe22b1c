"""Soft-thresholding of wavelet coefficients as a denoiser: the one whose theory is complete."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from benchmark.imaging.shrinkage import soft_threshold
from benchmark.imaging.wavelets import ORIENTATIONS, OrthonormalWavelet


@final
class WaveletShrinkage(nn.Module):
    """D(v, σ) = Wᵀ soft_σ(W v), details alone: the proximity operator of σ Σ_j ‖(W·)_j‖₁.

    Firmly nonexpansive for every σ > 0, hence every layer built on it converges; the layer with
    D in place of a proximity operator is then that of ``wavelet_l1`` with the weight σ/τ.

    Parameters
    ----------
    wavelet, levels, size : as ``OrthonormalWavelet`` takes them, and raising as it does.
    """

    def __init__(self, wavelet: str, levels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.transform = OrthonormalWavelet(wavelet, levels, size)

    def forward(self, v: Tensor, sigma: Tensor) -> Tensor:
        details = sigma.expand(self.transform.levels, ORIENTATIONS, -1)
        threshold = self.transform.over_bands(details, torch.zeros_like(sigma))
        return self.transform.image(soft_threshold(self.transform.pyramid(v), threshold[:, None]))
