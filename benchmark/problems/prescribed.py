"""A linear layer whose Jacobian is prescribed: spectral radius and departure from normality."""

from __future__ import annotations

from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from benchmark.options.checks import nonnegative_number, strictly_between
from benchmark.problems.lower_level import Known, LowerLevelProblem
from benchmark.problems.wavelet import parameter


@final
class Prescribed(LowerLevelProblem):
    """T(x; y) = Jx + (I − J) S_θ Aᵀy, J = Q(Λ + ηN)Qᵀ acting on the channels of each pixel.

    Q (C × C) is orthonormal, Λ = ρ diag(1, …, ½) and N has ones above the diagonal: J has the
    spectral radius ρ and, by Henrici's measure, the departure from normality η √(C − 1).
    S_θ = Q diag(e^θ) Qᵀ is a gain for each channel of the basis Q.

    The equilibrium x* = S_θ Aᵀy, F and ∇F = (∂x*/∂θ)ᵀg do not depend on J: whatever differs between
    two of these layers is the methods' doing. K terms of the series give (∂x*/∂θ)ᵀ(I − (Jᵀ)ᴷ)g: of
    a normal J they are shorter than ∇F and never point uphill; where ‖Jᴷ‖ > 1 they can. Henrici,
    "Bounds for iterates, inverses, spectral variation and fields of values of non-normal matrices"
    (1962); Trefethen and Embree, "Spectra and Pseudospectra" (2005).

    θ: ``log_gains`` (C). The state is the image.

    Parameters
    ----------
    physics : A, a linear operator of deepinv.
    lipschitz : ‖A‖², which has no say here.
    image_shape : (C, H, W).
    radius : ρ in (0, 1).
    departure : η ≥ 0.
    """

    def __init__(
        self,
        *,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        radius: float = 0.9,
        departure: float = 0.0,
    ) -> None:
        super().__init__()
        strictly_between("radius", radius, low=0, high=1)
        nonnegative_number("departure", departure)
        self.physics = physics
        channels = image_shape[0]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
        basis, _ = torch.linalg.qr(drawn)
        inner = radius * torch.diag(torch.linspace(1, 0.5, channels, dtype=torch.float64))
        inner += departure * torch.diag(torch.ones(channels - 1, dtype=torch.float64), 1)
        self.register_buffer("basis", basis)
        self.register_buffer("jacobian", basis @ inner @ basis.T)
        self.log_gains = parameter(0.0, channels)

    @property
    def known(self) -> Known:
        """I − J is regular, whatever ‖J‖."""
        return Known(unique=True, contraction=bool(torch.linalg.matrix_norm(self.jacobian, 2) < 1))

    def init(self, y: Tensor) -> Tensor:
        return torch.zeros_like(self.physics.A_adjoint(y))

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        gains = self.basis @ torch.diag(self.log_gains.exp()) @ self.basis.T
        end = _mixed(gains, self.physics.A_adjoint(y))
        return end + _mixed(self.jacobian, x - end)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` (C, C) times the channels of each pixel of ``x`` (N, C, H, W)."""
    return torch.einsum("cd,ndhw->nchw", matrix, x)


FAMILY = Prescribed
