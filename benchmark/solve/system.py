"""What a solver of A x = b is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.vectors import Array, MatVec, expand, norm, on_host


@dataclass(frozen=True)
class LinearSolution:
    """x : (N, …); residual : (N,), ‖b − A x‖ / ‖b‖; steps : (N,), products until the sample
    converged; converged : (N,), whether ``residual`` is within the tolerance.
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor


@dataclass(frozen=True)
class ProjectedSystem:
    """A = I − G P with G symmetric and P an orthogonal projection.

    P and G map (N, …) to (N, …). The adjoint of forward-backward with soft-thresholding is of this
    form: J = P G, G the Jacobian of the gradient step, P that of the threshold.
    """

    P: MatVec
    G: MatVec

    def __call__(self, x: Tensor) -> Tensor:
        """A x, each sample by its own matrix."""
        return x - self.G(self.P(x))


#: numbers that overflow, or stop being numbers, are told by comparisons
QUIET = np.errstate(all="ignore")


def start(x0: Tensor, b: Tensor) -> Tensor:
    """``x0`` without its graph; zero, the solution, for samples whose right-hand side is zero."""
    return torch.where(expand(norm(b) > 0, b), x0.detach(), 0.0)


def scale_of(b: Tensor) -> Array:
    return on_host(norm(b))[0].clip(torch.finfo(b.dtype).tiny)


def solution(x: Tensor, residual: Array, steps: Array, tol: float) -> LinearSolution:
    found = (torch.as_tensor(v, device=x.device) for v in (residual, steps, residual <= tol))
    residual, steps, converged = found
    return LinearSolution(x, residual.to(x.dtype), steps, converged)


def checked_tolerance(tol: float, max_steps: int, dtype: torch.dtype) -> float:
    positive_number("tol", tol)
    positive_integer("max_steps", max_steps)
    return max(tol, reachable_tolerance(dtype))
