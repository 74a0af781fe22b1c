"""Weighted mixed norm of wavelet coefficients that couples colours, orientations or both."""

from __future__ import annotations

import math
from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from benchmark.imaging.wavelets import ORIENTATIONS
from benchmark.options.checks import boolean, positive_number
from benchmark.problems.wavelet import WaveletForwardBackward, parameter


@final
class WaveletL12(WaveletForwardBackward):
    """½‖Ax−y‖² + ε/2‖x‖² + Σ_j λ_j Σ_n √(Σ_{c,b} w_{c,b} d_{j,n,c,b}²), d = Wx.

    n runs over the positions of the scale j, (c, b) over colours × orientations where both are
    coupled; an index that is not coupled is one more index of λ. In d the prox of this norm is not
    closed; in the weighted coefficients u = √w·d it is group soft-thresholding. So the state is u,
    the pyramid laid out in place as one tensor (N, C, H, W), x = R_θ(u) = Wᵀ(u/√w), and

        v = u − τ (1/√w)·W(Aᵀ(Ax − y) + εx),        T(u) = v·max(0, 1 − τλ_j/‖v_{j,n,·}‖)

    on the details; the approximation has weight 1 and is not penalised. R_θ depends on θ: the
    hypergradient has a direct term.

    θ: ``log_weights`` (levels, 1 or 3, 1 or C), log λ from the finest scale to the coarsest, of
    size 1 along what is coupled; ``log_couplings`` (3 or 1, C or 1), of size 1 along what is not,
    log w up to a constant: multiplying w by s² and λ by 1/s changes nothing, so w is normalised to
    geometric mean 1, log w = log_couplings − their mean, and ∇F is orthogonal to constants there;
    where the stepsize is learned, ``stepsize_logit`` (0-d).

    L(θ) = (‖A‖² + ε)/min w, the least that holds for every A of that norm (min w ≤ 1 is where the
    approximation's weight 1 comes in). The stepsize τ = (2/L(θ))·sigmoid follows it, and is
    differentiated through it: this is exact but has a kink where two weights tie for the smallest
    (there ``amin`` shares the gradient among them, an element of Clarke's). At equilibrium τ has no
    influence; truncated methods see it. With ε > 0, T is a contraction of factor at most
    max(|1 − τε/max w|, |1 − τL|): weights far apart are slow.

    Parameters (beside those of ``WaveletForwardBackward``)
    ----------
    weight : the initial λ, in the units of the image; w starts at 1.
    couple_colours, couple_orientations : what a group holds; at least one.

    Cost of a step: one A, one Aᵀ, one W, one Wᵀ. Raises ValueError where nothing is coupled.
    References: Davy, Briceño-Arias, Pustelnik (2025), arXiv 2506.13239; Yuan and Lin, "Model
    selection and estimation in regression with grouped variables" (2006).
    """

    strength = ("log_weights",)

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        wavelet: str = "db4",
        levels: int = 3,
        weight: float = 0.05,
        ridge: float = 0.0,
        stepsize: float = 1.0,
        learn_stepsize: bool = False,
        couple_colours: bool = True,
        couple_orientations: bool = True,
    ) -> None:
        super().__init__(
            physics,
            lipschitz,
            image_shape,
            wavelet=wavelet,
            levels=levels,
            ridge=ridge,
            stepsize=stepsize,
            learn_stepsize=learn_stepsize,
        )
        positive_number("weight", weight)
        boolean("couple_colours", couple_colours)
        boolean("couple_orientations", couple_orientations)
        if not (couple_colours or couple_orientations):
            raise ValueError(
                "couple_colours and couple_orientations are both False: at least one must be True "
                "(a norm that couples nothing is the lower level wavelet_l1)"
            )
        sizes = (ORIENTATIONS, image_shape[0])
        coupled = (couple_orientations, couple_colours)
        couplings = [size if yes else 1 for size, yes in zip(sizes, coupled, strict=True)]
        free = [1 if yes else size for size, yes in zip(sizes, coupled, strict=True)]
        self.couple_colours, self.couple_orientations = couple_colours, couple_orientations
        self.log_weights = parameter(math.log(weight), levels, *free)
        self.log_couplings = parameter(0.0, *couplings)

    @final
    def log_w(self) -> Tensor:
        """log w (3 or 1, C or 1), of mean zero."""
        return self.log_couplings - self.log_couplings.mean()

    @property
    def lipschitz(self) -> Tensor:
        return self.image_lipschitz / self.log_w().amin().exp()

    def shrink(self, u: Tensor, threshold: Tensor) -> Tensor:
        """prox of ``threshold``·Σ_n‖u_n‖ at the pyramid ``u`` (N, C, H, W), n what is not coupled.

        Without a division by zero, and with zero derivatives inside the threshold: ‖·‖ is taken
        with derivative 0 at 0.
        """
        size = u.square()
        if self.couple_colours:
            size = size.sum(1, keepdim=True)
        if self.couple_orientations:
            size = self.transform.over_orientations(size)
        size = size.clamp_min(torch.finfo(u.dtype).tiny).sqrt()
        return u * torch.relu(1 - threshold / torch.maximum(size, threshold))

    def init(self, y: Tensor) -> Tensor:
        """W Aᵀy: not weighted, so that it does not depend on θ and a graph from it is whole."""
        return self.transform.pyramid(self.physics.A_adjoint(y)).contiguous()

    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        slope = self.stepsize() * self.smooth_gradient(self.reconstruct(x), y)
        return x - self._inverse_root() * self.transform.pyramid(slope)

    def proximity(self, v: Tensor) -> Tensor:
        thresholds = self.stepsize() * self.log_weights.exp()
        orientations = thresholds.expand(-1, ORIENTATIONS, -1)
        none = thresholds.new_zeros(thresholds.shape[2])
        return self.shrink(v, self.transform.over_bands(orientations, none))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Wᵀ(u/√w)."""
        return self.transform.image(self._inverse_root() * x)

    def _inverse_root(self) -> Tensor:
        """1/√w at each coefficient of the pyramid (C or 1, H, W), 1 at the approximation."""
        details = (-0.5 * self.log_w()).exp()
        details = details.expand(self.transform.levels, ORIENTATIONS, -1)
        return self.transform.over_bands(details, details.new_ones(details.shape[2]))


FAMILY = WaveletL12
