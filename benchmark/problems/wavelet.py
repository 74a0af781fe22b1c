"""Forward-backward layers whose penalty acts on orthonormal wavelet coefficients."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from benchmark.imaging.wavelets import ORIENTATIONS, OrthonormalWavelet
from benchmark.options.checks import (
    boolean,
    nonnegative_number,
    positive_number,
    strictly_between,
)
from benchmark.problems.lower_level import Known, LowerLevelProblem
from benchmark.problems.stepsize import bounded_stepsize


class WaveletForwardBackward(LowerLevelProblem):
    """Forward-backward on ½‖Ax−y‖² + ε/2‖x‖² + a penalty, W an orthonormal wavelet transform.

    What is common to penalties on Wx whichever variable they are solved in: the operator, the
    transform, the gradient of the smooth part, and a stepsize that stays in (0, 2/L), L the
    Lipschitz constant of that gradient in the variable of the state.

    θ holds ``stepsize_logit`` (0-d) where the stepsize is learned: τ = (2/L)·sigmoid of it.

    Parameters
    ----------
    physics : A, a linear operator of deepinv.
    lipschitz : ‖A‖².
    image_shape : (C, H, W).
    wavelet : an orthogonal wavelet known to PyWavelets ("haar", "db4", "sym8", …).
    levels : number of scales; H and W must be multiples of 2^levels.
    ridge : ε ≥ 0.
    stepsize : the initial τ in units of 1/L, in (0, 2).
    learn_stepsize : whether θ holds the stepsize.

    Made in float64; ``.to(dtype=…)`` gives another precision. Raises ValueError for a wavelet that
    is not orthogonal, an image that the levels do not divide, a parameter out of its range.
    """

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        wavelet: str,
        levels: int,
        ridge: float,
        stepsize: float,
        learn_stepsize: bool,
    ) -> None:
        super().__init__()
        nonnegative_number("ridge", ridge)
        boolean("learn_stepsize", learn_stepsize)
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        self.physics = physics.requires_grad_(False)
        self.transform = OrthonormalWavelet(wavelet, levels, image_shape[1:])
        self.ridge = ridge
        self.image_lipschitz = lipschitz + ridge
        self.stepsize_logit = parameter(math.log(stepsize / (2 - stepsize)))
        self.stepsize_logit.requires_grad_(learn_stepsize)

    @property
    @final
    def known(self) -> Known:
        """With a ridge the objective is strongly convex, and the gradient step contracts."""
        convex = self.ridge > 0
        return Known(unique=convex, contraction=convex, symmetric=self.splits)

    @property
    @abstractmethod
    def lipschitz(self) -> float | Tensor:
        """L, of the gradient of the smooth part in the variable of the state."""

    @final
    def stepsize(self) -> Tensor:
        """τ, 0-d, in (0, 2/L)."""
        return bounded_stepsize(self.stepsize_logit, self.lipschitz)

    @abstractmethod
    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        """x − τ times the gradient of the smooth part, in the variable of the state."""

    @abstractmethod
    def proximity(self, v: Tensor) -> Tensor:
        """prox of τ times the penalty, in the variable of the state."""

    @final
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.proximity(self.gradient_step(x, y))

    @final
    def smooth_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᵀ(Ax − y) + εx at the image x (N, C, H, W); its Lipschitz constant is ‖A‖² + ε."""
        gradient = self.physics.A_adjoint(self.physics.A(x) - y)
        return gradient + self.ridge * x if self.ridge else gradient


class WaveletProximal(WaveletForwardBackward):
    """Forward-backward on ½‖Ax−y‖² + ε/2‖x‖² + Σ_j r(λ_j, (Wx)_j), W an orthonormal transform.

        T(x) = Wᵀ prox_{τ r}(W(x − τ(Aᵀ(Ax − y) + εx)))

    j runs over scales × orientations (× colour channels). The state is the image. With ε > 0, T
    is a contraction of factor at most max(|1 − τε|, |1 − τL|), L = ‖A‖² + ε.

    θ: ``log_weights`` (levels, 3, C or 1), log λ from the finest scale to the coarsest; where the
    approximation is penalised, ``log_approximation_weight`` (C or 1,); where the stepsize is
    learned, ``stepsize_logit`` (0-d).

    Parameters (beside those of ``WaveletForwardBackward``)
    ----------
    weight : the initial λ of every band, in the units of the image.
    penalise_approximation, per_channel : what θ holds, as above.

    Cost of a step: one A, one Aᵀ, one W, one Wᵀ.
    """

    strength = ("log_weights", "log_approximation_weight")

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
        penalise_approximation: bool = False,
        per_channel: bool = False,
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
        boolean("penalise_approximation", penalise_approximation)
        boolean("per_channel", per_channel)
        groups = image_shape[0] if per_channel else 1
        start = math.log(weight)
        self.log_weights = parameter(start, levels, ORIENTATIONS, groups)
        self.log_approximation_weight = parameter(start, groups) if penalise_approximation else None

    @abstractmethod
    def shrink(self, d: Tensor, threshold: Tensor) -> Tensor:
        """prox of ``threshold``·r at the coefficients ``d`` (N, C, …), the shapes broadcasting.

        The identity where ``threshold`` is 0.
        """

    @property
    @final
    def lipschitz(self) -> float:
        return self.image_lipschitz

    @final
    def init(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)

    @final
    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        return x - self.stepsize() * self.smooth_gradient(x, y)

    @final
    def proximity(self, v: Tensor) -> Tensor:
        tau = self.stepsize()
        approximation = self.log_approximation_weight
        threshold = self.transform.over_bands(
            tau * self.log_weights.exp(),
            self.log_weights.new_zeros(self.log_weights.shape[2])
            if approximation is None
            else tau * approximation.exp(),
        )
        return self.transform.image(self.shrink(self.transform.pyramid(v), threshold))

    @final
    def reconstruct(self, x: Tensor) -> Tensor:
        return x


def parameter(value: float, *shape: int) -> nn.Parameter:
    """What is learned, (*shape), all of it starting at ``value``, in float64."""
    return nn.Parameter(torch.full(shape, value, dtype=torch.float64))
