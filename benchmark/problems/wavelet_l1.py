"""Weighted ℓ1 norm of wavelet coefficients: r(λ, d) = λ‖d‖₁."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from benchmark.problems.wavelet import WaveletProximal


@final
class WaveletL1(WaveletProximal):
    """½‖Ax−y‖² + ε/2‖x‖² + Σ_j λ_j‖(Wx)_j‖₁, prox = soft-thresholding: (d − t)₊ − (−d − t)₊.

    The derivative of soft-thresholding keeps the coefficients above it and no other.
    """

    splits = True

    def shrink(self, d: Tensor, threshold: Tensor) -> Tensor:
        # d − clip(d, −t, t) is the same, but on the CPU its product with Jᵀ is slow
        return torch.relu(d - threshold) - torch.relu(-d - threshold)


FAMILY = WaveletL1
