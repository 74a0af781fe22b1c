"""Weighted squared norm of wavelet coefficients: r(λ, d) = λ/2 ‖d‖². Everything is linear."""

from __future__ import annotations

from typing import final

from torch import Tensor

from benchmark.problems.wavelet import WaveletProximal


@final
class Tikhonov(WaveletProximal):
    """½‖Ax−y‖² + ε/2‖x‖² + ½ Σ_j λ_j‖(Wx)_j‖², prox: d / (1 + t).

    With Λ = diag λ_j: x* = (AᵀA + εI + WᵀΛW)⁻¹ Aᵀy, and the hypergradient is closed too:
    dx*/dλ_j = −(AᵀA + εI + WᵀΛW)⁻¹ Wᵀ P_j W x*, P_j the projection on the band j.
    """

    def shrink(self, d: Tensor, threshold: Tensor) -> Tensor:
        return d / (1 + threshold)


FAMILY = Tikhonov
