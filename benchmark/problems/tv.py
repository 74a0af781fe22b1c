"""Weighted total variation by a primal-dual layer: the state is the image and its dual."""

from __future__ import annotations

import math
from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor
from torch.nn.functional import pad

from benchmark.options.checks import (
    boolean,
    nonnegative_number,
    positive_number,
    strictly_between,
)
from benchmark.problems.lower_level import Known, LowerLevelProblem
from benchmark.problems.stepsize import bounded_stepsize
from benchmark.problems.wavelet import parameter

#: ‖D‖² of forward differences along one direction is below this
_DIFFERENCES = 4.0
#: of the largest stepsize of the dual that the convergence proof allows
_INSIDE = 0.99


@final
class TotalVariation(LowerLevelProblem):
    """½‖Ax−y‖² + ε/2‖x‖² + Σ_{c,n} φ(Λ_c (Dx)_{c,n}), D the differences to the right and below.

    Λ_c = diag(λ_{c,→}, λ_{c,↓}) weighs directions and channels, φ is |·|₁ (anisotropic) or |·|₂
    (isotropic), with ``smoothing`` δ > 0 its Moreau envelope, Huber's: quadratic up to δ. The layer
    is one step of Condat and Vũ on image and dual, K = ΛD, u kept in the unit ball B of the dual
    norm:

        x' = x − τ (Aᵀ(Ax − y) + εx + Kᵀu)
        u' = P_B((u + σ K(2x' − x)) / (1 + σδ))

    with τ in (0, 2/L), L = ‖A‖² + ε, and σ = 0.99 (1/τ − L/2) / ‖K‖², for which it is averaged in a
    norm of the pair, whatever the weights. J is not symmetric. The image of an equilibrium is
    unique where ε > 0 or A is injective, its dual need not be (I − J is singular then, and the
    adjoint system consistent); with δ > 0 it is too. ∂F/∂τ = 0. Condat, "A primal–dual splitting
    method for convex optimization involving Lipschitzian, proximable and linear composite terms"
    (2013); Vũ (2013); Rudin, Osher, Fatemi (1992).

    The state (N, 3C, H, W) is x, then u to the right, then u below. θ: ``log_weights`` (2, C or 1),
    log λ, to the right first; where the stepsize is learned, ``stepsize_logit`` (0-d).

    Parameters
    ----------
    physics : A, a linear operator of deepinv between real images.
    lipschitz : ‖A‖².
    image_shape : (C, H, W).
    weight : the initial λ, in the units of the image.
    isotropic, per_channel : as above.
    ridge, smoothing : ε, δ ≥ 0.
    stepsize : the initial τ in units of 1/L, in (0, 2).
    learn_stepsize : whether θ holds the stepsize.

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: one A, one Aᵀ, one D,
    one Dᵀ. Raises ValueError for a parameter out of its range.
    """

    strength = ("log_weights",)

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        weight: float = 0.05,
        isotropic: bool = False,
        per_channel: bool = False,
        ridge: float = 0.0,
        smoothing: float = 0.0,
        stepsize: float = 1.0,
        learn_stepsize: bool = False,
    ) -> None:
        super().__init__()
        positive_number("weight", weight)
        nonnegative_number("ridge", ridge)
        nonnegative_number("smoothing", smoothing)
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        for name, value in (
            ("isotropic", isotropic),
            ("per_channel", per_channel),
            ("learn_stepsize", learn_stepsize),
        ):
            boolean(name, value)
        self.physics = physics.requires_grad_(False)
        self.channels = image_shape[0]
        self.isotropic, self.ridge, self.smoothing = isotropic, ridge, smoothing
        self.lipschitz = lipschitz + ridge
        self.log_weights = parameter(math.log(weight), 2, self.channels if per_channel else 1)
        self.stepsize_logit = parameter(math.log(stepsize / (2 - stepsize)))
        self.stepsize_logit.requires_grad_(learn_stepsize)

    @property
    def known(self) -> Known:
        return Known(unique=self.ridge > 0)

    def init(self, y: Tensor) -> Tensor:
        x = self.physics.A_adjoint(y)
        return torch.cat([x, torch.zeros_like(x), torch.zeros_like(x)], dim=1)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        image, dual = x[:, : self.channels], x[:, self.channels :].unflatten(1, (2, -1))
        weights = self.log_weights.exp()
        tau = bounded_stepsize(self.stepsize_logit, self.lipschitz)
        norm = _DIFFERENCES * weights.square().sum(0).amax()
        sigma = _INSIDE * (1 / tau - self.lipschitz / 2) / norm
        slope = self.physics.A_adjoint(self.physics.A(image) - y) + self.ridge * image
        moved = image - tau * (slope + _transposed(weights[..., None, None] * dual))
        ahead = weights[..., None, None] * _differences(2 * moved - image)
        dual = (dual + sigma * ahead) / (1 + sigma * self.smoothing)
        if self.isotropic:
            dual = dual / dual.square().sum(1, keepdim=True).clamp_min(1).sqrt()
        else:
            dual = dual.clamp(-1, 1)
        return torch.cat([moved, dual.flatten(1, 2)], dim=1)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x[:, : self.channels]


def _differences(x: Tensor) -> Tensor:
    """Dx (N, 2, C, H, W) of images (N, C, H, W): to the right and below; 0 at the edges."""
    right = pad(x.diff(dim=-1), (0, 1))
    below = pad(x.diff(dim=-2), (0, 0, 0, 1))
    return torch.stack([right, below], dim=1)


def _transposed(u: Tensor) -> Tensor:
    """Dᵀu (N, C, H, W) of u (N, 2, C, H, W)."""
    right, below = u[:, 0, ..., :-1], u[:, 1, ..., :-1, :]
    along = pad(right, (1, 0)) - pad(right, (0, 1))
    return along + pad(below, (0, 0, 1, 0)) - pad(below, (0, 0, 0, 1))


FAMILY = TotalVariation
