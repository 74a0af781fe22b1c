"""Solvers that a user wrote: what they return is measured, never taken on trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import MatVec, norm


@final
@dataclass(frozen=True)
class CheckedEquilibriumSolver:
    """``solve(T, x0, *, tol, max_layers)``, which returns the state x (N, …) or an ``Equilibrium``.

    Of a state alone residual and convergence are measured, at the cost of one more layer, whose
    image T(x) is returned; its applications of T are counted for the batch. Raises TypeError, with
    ``name``, where it returns anything else, or of another shape, dtype or device than ``x0``.
    """

    solve: Callable[..., Any]
    name: str

    @torch.no_grad()
    def __call__(self, T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
        counted = _Counted(T)
        found: object = self.solve(counted, x0.detach(), tol=tol, max_layers=max_layers)
        what = f"the equilibrium solver {self.name}"
        if isinstance(found, Equilibrium):
            require_like(x0, found.x, what)
            return found
        x = require_like(x0, found, what)
        image = counted(x)
        residual, steps, converged = _measured(image - x, image, counted.calls, tol)
        return Equilibrium(image, residual, steps, converged)


@final
@dataclass(frozen=True)
class CheckedAdjointSolver:
    """``solve(matvec, b, *, tol, max_steps, x0)``, which returns x (N, …) or a ``LinearSolution``.

    Of x alone residual and convergence are measured, at the cost of one more product; the products
    are counted for the batch. Raises TypeError as ``CheckedEquilibriumSolver`` does.
    """

    solve: Callable[..., Any]
    name: str

    @torch.no_grad()
    def __call__(
        self,
        matvec: MatVec,
        b: Tensor,
        *,
        tol: float,
        max_steps: int,
        x0: Tensor | None = None,
    ) -> LinearSolution:
        counted = _Counted(matvec)
        found: object = self.solve(counted, b, tol=tol, max_steps=max_steps, x0=x0)
        what = f"the adjoint solver {self.name}"
        if isinstance(found, LinearSolution):
            require_like(b, found.x, what)
            return found
        x = require_like(b, found, what)
        residual, steps, converged = _measured(b - counted(x), b, counted.calls, tol)
        return LinearSolution(x, residual, steps, converged)


class _Counted:
    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        self.call, self.calls = call, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.call(x)


def require_like(expected: Tensor, found: object, what: str) -> Tensor:
    """``found``; TypeError, naming ``what``, unless it is a tensor like ``expected``."""
    if not isinstance(found, Tensor):
        raise TypeError(f"{what} returned {type(found).__name__}, expected a tensor or its result")
    kinds = [f"{tuple(t.shape)} in {t.dtype} on {t.device}" for t in (found, expected)]
    if kinds[0] != kinds[1]:
        raise TypeError(f"{what} returned a tensor {kinds[0]}, expected {kinds[1]}")
    return found


def _measured(error: Tensor, of: Tensor, calls: int, tol: float) -> tuple[Tensor, Tensor, Tensor]:
    """Relative residuals, steps and convergence, each (N,)."""
    scale = norm(of).clamp_min(torch.finfo(of.dtype).tiny)
    residual = norm(error) / scale
    return residual, torch.full_like(residual, calls, dtype=torch.int64), residual <= tol
