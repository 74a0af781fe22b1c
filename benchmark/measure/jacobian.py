"""‖J‖, the contraction factor κ of a layer near its equilibrium."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.measure.reference import linearized, true_equilibrium
from benchmark.problems.bilevel import Images
from benchmark.problems.lower_level import LowerLevelProblem

#: relative residual at which the Jacobian is taken, and above which it is not
_AT, _AT_MOST = 1e-8, 1e-4
#: relative accuracy of ‖J‖²
_TOL = 1e-4


def jacobian_norm(
    lower: LowerLevelProblem, batch: Images, *, judged_in: torch.dtype = torch.float64
) -> float:
    """‖J‖₂ at the true equilibrium, the largest over ``batch``; NaN where none is found.

    Products are ``judged_in`` a dtype of their own, where a layer can be had in it.

    It bounds the errors of K terms by κᴷ whether J is normal or not; the spectral radius is the
    rate that they come to. Cost: the equilibrium, and some thirty products with J and with Jᵀ
    (Lanczos on JJᵀ).
    """
    norms = []
    for part in batch.parts:
        here = lower.at(part.operator)
        found = true_equilibrium(here, part.observation, tol=_AT)
        if not found.residual <= _AT_MOST:
            return nan
        problem = EquilibriumLoss.of_lower_level(here, part)
        norms.append(_norm(linearized(problem, found.x, judged_in)))
    return max(norms)


def _norm(at: Linearization) -> float:
    """Of all samples together, J being one block for each, the largest of theirs."""
    shape, number = at.g.shape, at.g.numel()

    def product(v: np.ndarray) -> np.ndarray:
        w: Tensor = torch.from_numpy(v).to(at.g).reshape(shape)
        return at.j(at.jt(w)).detach().double().flatten().cpu().numpy()

    start = np.random.default_rng(0).standard_normal(number)
    if not product(start).any():
        return 0.0
    operator = LinearOperator((number, number), matvec=product, dtype=np.float64)
    (square,) = eigsh(operator, k=1, v0=start, tol=_TOL, return_eigenvectors=False)
    return sqrt(max(float(square), 0.0))
