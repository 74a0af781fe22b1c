"""The lasso: what is recovered is sparse itself, and closed forms are at hand."""

from __future__ import annotations

import math
from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from benchmark.imaging.shrinkage import soft_threshold
from benchmark.options.checks import (
    boolean,
    nonnegative_number,
    positive_number,
    strictly_between,
)
from benchmark.problems.lower_level import Known, LowerLevelProblem


@final
class Lasso(LowerLevelProblem):
    """‖Ax−y‖²/(2n) + ε/2‖x‖² + Σ_p e^θ_p |x_p|, n the number of observations of a sample.

        T(x) = soft(x − τ(Aᵀ(Ax − y)/n + εx), τe^θ)

    scikit-learn's objective, and sparse-ho's: the bridge from deep equilibria to its hyperparameter
    selection, with the error of x itself in the place of that of held-out observations (A as a
    random design: ``deepinv.CompressedSensing(m=…)``). With ε = 0 and S the support of x*,
    s its signs and H = A_SᵀA_S/n, all is closed: x*_S = H⁻¹(A_Sᵀy/n − e^θ s), and
    ∂x*_S/∂θ_p = −e^θ_p s_p H⁻¹ e_p for p in S; zero for others. The state is x. Bertrand,
    Klopfenstein, Massias, Blondel, Vaiter, Gramfort, Salmon, "Implicit differentiation for fast
    hyperparameter selection in non-smooth convex learning" (2021), arXiv 2105.01637.

    θ: ``log_weights``, (1, 1, 1), or one for each coefficient, (C, H, W).

    Parameters
    ----------
    physics : A, a linear operator of deepinv between real images or vectors.
    lipschitz : ‖A‖².
    image_shape : (C, H, W).
    weight : the initial e^θ in units of ‖A‖²/n.
    per_coefficient : whether each coefficient has a weight of its own, the weighted lasso.
    ridge : ε ≥ 0 in units of ‖A‖²/n, the elastic net.
    stepsize : τ in units of 1/L, in (0, 2), L = ‖A‖²/n + ε.

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: one A, one Aᵀ. Raises
    ValueError for a parameter out of its range.
    """

    strength = ("log_weights",)
    splits = True

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        weight: float = 0.05,
        per_coefficient: bool = False,
        ridge: float = 0.0,
        stepsize: float = 1.0,
    ) -> None:
        super().__init__()
        positive_number("weight", weight)
        boolean("per_coefficient", per_coefficient)
        nonnegative_number("ridge", ridge)
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        self.physics = physics.requires_grad_(False)
        with torch.no_grad():
            self.number = physics.A(torch.zeros(1, *image_shape, dtype=torch.float64)).numel()
        unit = lipschitz / self.number
        self.ridge, self.stepsize = ridge * unit, stepsize / (unit + ridge * unit)
        shape = image_shape if per_coefficient else (1, 1, 1)
        start = torch.full(shape, math.log(weight * unit), dtype=torch.float64)
        self.log_weights = nn.Parameter(start)

    @property
    def known(self) -> Known:
        convex = self.ridge > 0
        return Known(unique=convex, contraction=convex, symmetric=True)

    def init(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)

    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        data = self.physics.A_adjoint(self.physics.A(x) - y) / self.number
        return x - self.stepsize * (data + self.ridge * x)

    def proximity(self, v: Tensor) -> Tensor:
        return soft_threshold(v, self.stepsize * self.log_weights.exp())

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.proximity(self.gradient_step(x, y))

    def reconstruct(self, x: Tensor) -> Tensor:
        return x


FAMILY = Lasso
