"""What a solver of A x = b is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.complex_numbers import RealLayer
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.vectors import Array, MatVec, expand, norm, on_host


@dataclass(frozen=True)
class LinearSolution:
    """What a solver of A x = b found, per sample.

    Attributes
    ----------
    x : (N, …).
    residual : (N,), ‖b − A x‖ / ‖b‖, computed from ``x`` and not by a recurrence.
    steps : (N,), products with A until the sample converged.
    converged : (N,), whether ``residual`` is within the tolerance.
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor


@dataclass(frozen=True)
class ProjectedSystem:
    """A = I − G P with G symmetric and P an orthogonal projection, per sample.

    The adjoint of forward-backward with soft-thresholding is of this form: J = P G, G the Jacobian
    of the gradient step, P that of the threshold.

    Attributes
    ----------
    P, G : (N, …) → (N, …), each sample by its own matrix. Nobody checks what they are said to be.
    """

    P: MatVec
    G: MatVec

    def __call__(self, x: Tensor) -> Tensor:
        """A x (N, …), each sample by its own matrix; a product with P and one with G."""
        return x - self.G(self.P(x))


System = TypeVar("System", bound=MatVec)


def real_system(matvec: System) -> System:
    """A of complex vectors (N, …) as that of real ones (N, …, 2), both halves where it has them."""
    real: MatVec = RealLayer(matvec)
    if isinstance(matvec, ProjectedSystem):
        real = ProjectedSystem(P=RealLayer(matvec.P), G=RealLayer(matvec.G))
    return cast(System, real)


#: numbers that overflow, or stop being numbers, are told by comparisons
QUIET = np.errstate(all="ignore")


def start(x0: Tensor, b: Tensor) -> Tensor:
    """``x0`` in the dtype of ``b``, without its graph; zero, the solution, for samples whose
    right-hand side is zero.
    """
    return torch.where(expand(norm(b) > 0, b), x0.detach().to(b.dtype), 0.0)


def scale_of(b: Tensor) -> Array:
    """What residuals are relative to: ‖b‖ (N,) on the host, and never zero."""
    return on_host(norm(b))[0].clip(torch.finfo(b.dtype).tiny)


def solution(x: Tensor, residual: Array, steps: Array, tol: float) -> LinearSolution:
    """``x`` with what is known of it on the host, relative ``residual`` and ``steps`` (N,)."""
    return LinearSolution(
        x,
        residual=torch.as_tensor(residual, device=x.device).to(x.dtype),
        steps=torch.as_tensor(steps, device=x.device),
        converged=torch.as_tensor(residual <= tol, device=x.device),
    )


def checked_tolerance(tol: float, max_steps: int, dtype: torch.dtype) -> float:
    """``tol``, or what ``dtype`` can reach where that is more.

    Raises
    ------
    ValueError
        Unless ``tol`` is a finite number > 0 and ``max_steps`` an integer ≥ 1.
    """
    positive_number("tol", tol)
    positive_integer("max_steps", max_steps)
    return max(tol, reachable_tolerance(dtype))
