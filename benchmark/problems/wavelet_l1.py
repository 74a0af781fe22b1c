"""Weighted ℓ1 norm of wavelet coefficients: r(λ, d) = λ‖d‖₁."""

from __future__ import annotations

from typing import final

from torch import Tensor

from benchmark.imaging.shrinkage import soft_threshold
from benchmark.problems.wavelet import WaveletProximal


@final
class WaveletL1(WaveletProximal):
    """½‖Ax−y‖² + ε/2‖x‖² + Σ_j λ_j‖(Wx)_j‖₁, prox = soft-thresholding.

    The derivative of soft-thresholding keeps the coefficients above it and no other.
    """

    splits = True

    def shrink(self, d: Tensor, threshold: Tensor) -> Tensor:
        return soft_threshold(d, threshold)


FAMILY = WaveletL1
