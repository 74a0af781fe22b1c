"""What an estimate of a hypergradient is, and how far it says it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan, nan
from typing import final

import torch
from torch import Tensor

from benchmark.solve.convergence import OnFailure, tell


@final
@dataclass(frozen=True)
class Hypergradient:
    """An estimate ĝ of ∇F(θ), and the state at which it was made.

    loss : ℓ at ``state``, 0-d; gradient : ĝ, one tensor a parameter; state : x̂ (N, …), without a
    graph; adjoint : the w of the adjoint system (N, …), None where none was solved;
    state_residual, adjoint_residual : relative, the worst of the batch, NaN where unknown; error :
    the method's own estimate of ‖ĝ − ∇F‖/‖∇F‖, NaN where it makes none; converged : whether every
    tolerance that was asked for was met.
    """

    loss: Tensor
    gradient: tuple[Tensor, ...]
    state: Tensor
    adjoint: Tensor | None = None
    state_residual: float = nan
    adjoint_residual: float = nan
    error: float = nan
    converged: bool = True

    def to(self, dtype: torch.dtype) -> Hypergradient:
        """Loss, gradient and state in another dtype; the adjoint, to start from, as it is."""
        return replace(
            self,
            loss=self.loss.to(dtype),
            gradient=tuple(g.to(dtype) for g in self.gradient),
            state=self.state.to(dtype),
        )


def require_exact(found: Hypergradient, *, on_failure: OnFailure = "warn") -> Hypergradient:
    """``found`` itself; where a tolerance was not met, ``tell`` with the residuals."""
    if not found.converged:
        known = "" if isnan(found.error) else f", estimated gradient error {found.error:.1e}"
        tell(
            "the hypergradient is less exact than asked for: relative residuals of state and "
            f"adjoint {found.state_residual:.1e} and {found.adjoint_residual:.1e}{known}",
            on_failure,
        )
    return found
