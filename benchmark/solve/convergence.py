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

    Smaller tolerances are read as this one.

    Examples
    --------
    >>> [f"{reachable_tolerance(dtype):.0e}" for dtype in (torch.float64, torch.float32)]
    ['7e-15', '4e-06']
    """
    return 32 * torch.finfo(dtype).eps


class Solution(Protocol):
    """What every solver returns, per sample (N,): see ``Equilibrium`` and ``LinearSolution``."""

    @property
    def residual(self) -> Tensor:
        """Relative, of the state or system returned."""

    @property
    def steps(self) -> Tensor:
        """Layers or products that the sample took."""

    @property
    def converged(self) -> Tensor:
        """Whether ``residual`` is within the tolerance."""


S = TypeVar("S", bound=Solution)


def warn_unless_converged(solution: S, *, what: str) -> S:
    """``solution`` itself; warns where it is not as exact as it was to be.

    Parameters
    ----------
    solution : what a solver returned.
    what : which solver, in words, the subject of the message.

    Warns
    -----
    NotConverged
        If any sample has not converged: of how many that is so, the worst residual, the most steps.
        The warning points at the caller of the caller.
    """
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
