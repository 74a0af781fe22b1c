"""What an estimate of a hypergradient is, and how far it says it can be trusted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import final

import torch
from torch import Tensor

from benchmark.solve.complex_numbers import keeping_complex
from benchmark.solve.convergence import OnFailure, tell


@final
@dataclass(frozen=True)
class Hypergradient:
    """An estimate ĝ of ∇F(θ), and the state at which it was made.

    loss : ℓ at ``state``, 0-d; gradient : ĝ, one tensor a parameter; state : x̂ (N, …), without a
    graph; adjoint : the w of the adjoint system (N, …), None where none was solved;
    state_residual, adjoint_residual : relative, the worst of the batch, NaN where unknown; error :
    the method's own estimate of ‖ĝ − ∇F‖/‖∇F‖, NaN where it makes none; converged : whether every
    tolerance that was asked for was met; parts : of a mean over images of several shapes or
    operators, the estimates of each, of which ``state`` and ``adjoint`` are the first's.
    """

    loss: Tensor
    gradient: tuple[Tensor, ...]
    state: Tensor
    adjoint: Tensor | None = None
    state_residual: float = nan
    adjoint_residual: float = nan
    error: float = nan
    converged: bool = True
    parts: tuple[Hypergradient, ...] = ()

    def to(self, dtype: torch.dtype) -> Hypergradient:
        """Loss, gradient and state in another real dtype, what is complex in that of its parts; the
        adjoint, to start from, as it is.
        """
        return replace(
            self,
            loss=self.loss.to(dtype),
            gradient=tuple(keeping_complex(lambda t: t.to(dtype))(g) for g in self.gradient),
            state=self.state.to(dtype),
        )


def mean_of(found: Sequence[Hypergradient], weights: Sequence[float]) -> Hypergradient:
    """Σ_i w_i ĝ_i, with the largest of the residuals and Σ_i w_i ‖ĝ_i‖ e_i / ‖ĝ‖, which bounds the
    error; one alone as it is.
    """
    if len(found) == 1:
        return found[0]
    columns = zip(*(h.gradient for h in found), strict=True)
    gradient = tuple(_weighted(column, weights) for column in columns)
    sizes = [weight * _size(h.gradient) * h.error for h, weight in zip(found, weights, strict=True)]
    return replace(
        found[0],
        loss=_weighted([h.loss for h in found], weights),
        gradient=gradient,
        state_residual=max(h.state_residual for h in found),
        adjoint_residual=max(h.adjoint_residual for h in found),
        error=sum(sizes) / max(_size(gradient), sys.float_info.min),
        converged=all(h.converged for h in found),
        parts=tuple(found),
    )


def _weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([w * t for w, t in zip(weights, tensors, strict=True)]).sum(0)


def _size(gradient: Sequence[Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.cat([g.detach().flatten() for g in gradient])))


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
