"""What iterative solvers can be asked for, and what is said when they stop before it."""

from __future__ import annotations

import warnings
from math import nan
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

#: what happens where a solver stops before its tolerance
OnFailure = Literal["warn", "raise", "ignore"]

#: relative residual that rounding may excuse
_LOOSEST = 1e-3


class NotConverged(UserWarning):
    """A solver stopped before its tolerance: the result is less exact than what was asked for."""


class NotConvergedError(RuntimeError):
    """The same where it was asked to be an error."""


def reachable_tolerance(dtype: torch.dtype) -> float:
    """The smallest relative residual that a solver is held to: 32 units of rounding of ``dtype``.

    Smaller tolerances are read as this one. No more than ``_LOOSEST``: what is further from an
    equilibrium is none, and in bfloat16, whose 32 units are 0.25, a solver that stops there has
    not converged.

    Examples
    --------
    >>> [f"{reachable_tolerance(dtype):.0e}" for dtype in (torch.float64, torch.float32)]
    ['7e-15', '4e-06']
    """
    return min(32 * torch.finfo(dtype).eps, _LOOSEST)


class Solution(Protocol):
    """What every solver returns, per sample (N,): see ``Equilibrium`` and ``LinearSolution``."""

    @property
    def residual(self) -> Tensor:
        """Relative."""

    @property
    def steps(self) -> Tensor:
        """Layers or products until the sample converged."""

    @property
    def converged(self) -> Tensor:
        """Whether ``residual`` is within the tolerance."""


def worst(residual: Tensor) -> float:
    """The largest of (N,), NaN where one is no number, or where there is none."""
    return float(residual.max()) if len(residual) else nan


S = TypeVar("S", bound=Solution)


def tell(message: str, on_failure: OnFailure) -> None:
    """Warn ``NotConverged``, raise ``NotConvergedError`` or stay silent, as ``on_failure`` says.

    Raises ValueError for another ``on_failure``.
    """
    if on_failure == "raise":
        raise NotConvergedError(message)
    if on_failure == "warn":
        warnings.warn(message, NotConverged, stacklevel=4)
    elif on_failure != "ignore":
        raise ValueError(f"on_failure must be 'warn', 'raise' or 'ignore', got {on_failure!r}")


def require_converged(solution: S, *, what: str, on_failure: OnFailure = "warn") -> S:
    """``solution`` itself; where a sample did not converge, ``tell`` with the worst residual."""
    if not solution.converged.all():
        tell(
            f"{what} did not converge for {int((~solution.converged).sum())} of "
            f"{len(solution.converged)} samples: relative residual {worst(solution.residual):.1e} "
            f"after {int(solution.steps.max())} steps",
            on_failure,
        )
    return solution
