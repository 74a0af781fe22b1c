"""What iterative solvers can be asked for, and what they say when they stop before it."""

from __future__ import annotations

import warnings
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class NotConverged(UserWarning):
    """A solver stopped before its tolerance: the result is less exact than what was asked for."""


def reachable_tolerance(dtype: torch.dtype) -> float:
    """The smallest relative residual that a solver is held to: 32 units of rounding of ``dtype``.

    Smaller tolerances are read as this one (7e-15 in float64, 4e-6 in float32).
    """
    return 32 * torch.finfo(dtype).eps


class Solution(Protocol):
    """What every solver returns, per sample (N,): see Equilibrium and LinearSolution."""

    residual: Tensor
    steps: Tensor
    converged: Tensor


S = TypeVar("S", bound=Solution)


def warn_unless_converged(solution: S, *, what: str) -> S:
    """``solution`` itself; warns ``NotConverged`` with the worst residual where it is too large."""
    if not solution.converged.all():
        worst = float(solution.residual.max())
        warnings.warn(
            f"{what} did not converge for {int((~solution.converged).sum())} of "
            f"{len(solution.converged)} samples: relative residual {worst:.1e} "
            f"after {int(solution.steps.max())} steps",
            NotConverged,
            stacklevel=3,
        )
    return solution
