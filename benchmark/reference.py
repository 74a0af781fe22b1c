"""The reference hypergradient and the true equilibrium, in float64, with what vouches for them.

Independent of the methods under test: the equilibrium by Anderson's method or, where that stops
short, by FISTA from there; the adjoint by GMRES; the residual of the state is computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.certified import flat, relative_change
from benchmark.fixed_point import anderson, fista
from benchmark.implicit import Linearization
from benchmark.linear import LinearSolution, gmres, like, norm
from benchmark.metrics import relative_residual
from benchmark.problem import Batch, LowerLevelProblem

#: the error bar compares with residuals this many times larger
_COARSER = 100.0


@dataclass(frozen=True)
class TrueEquilibrium:
    """x* (N, …) and ‖T(x*) − x*‖ / ‖x*‖."""

    x: Tensor
    residual: float


@dataclass(frozen=True)
class Reference:
    """∇F on a batch, flat in the order of ``lower.theta()``, and its certificate.

    error : ‖∇F − ∇F'‖ / ‖∇F‖, ∇F' the same at residuals a hundred times larger: the error bar.
    state_residual : ‖T(x*) − x*‖ / ‖x*‖.
    adjoint_residual : ‖g − (I − Jᵀ)w‖ / ‖g‖.
    contraction : the spectral radius of J at x*, the local rate of x ← T(x); the largest over the
        batch. It is κ where J is normal, and at most κ in general.
    """

    gradient: Tensor
    error: float
    state_residual: float
    adjoint_residual: float
    contraction: float

    @property
    def residual(self) -> float:
        """The larger of the two residuals."""
        return max(self.state_residual, self.adjoint_residual)

    @property
    def trusted(self) -> bool:
        """Whether the gradient may serve as a reference at all: residuals of at most 1e-6."""
        return self.residual <= 1e-6


def true_equilibrium(
    lower: LowerLevelProblem,
    y: Tensor,
    *,
    tol: float,
    max_layers: int = 10_000,
    x0: Tensor | None = None,
) -> TrueEquilibrium:
    """The fixed point of ``lower.layer(y)`` to the relative residual ``tol``, without a graph.

    ``x0`` is where to start, ``lower.init(y)`` if it is None.
    """
    T = lower.layer(y)
    found = anderson(T, lower.init(y) if x0 is None else x0, tol=tol, max_layers=max_layers)
    if not found.converged.all():
        found = fista(T, found.x, tol=tol, max_layers=max_layers)
    with torch.no_grad():
        return TrueEquilibrium(found.x, relative_residual(T(found.x), found.x))


def reference_hypergradient(
    lower: LowerLevelProblem, batch: Batch, *, tol: float = 1e-12, max_layers: int = 10_000
) -> Reference:
    """∇F(θ) = Bᵀ(I − Jᵀ)⁻¹∇ℓ + the direct term through R_θ, at the true equilibrium of ``batch``.

    ``lower`` and ``batch`` must be in float64 (ValueError otherwise). Cost: the equilibrium, some
    hundred vector-Jacobian products for the adjoint, fifty for the contraction factor.
    """
    theta = list(lower.theta().values())
    for tensor in (batch.observation, *theta):
        if tensor.dtype != torch.float64:
            raise ValueError(f"the reference is computed in float64, got {tensor.dtype}")
    equilibrium = true_equilibrium(
        lower, batch.observation, tol=_COARSER * tol, max_layers=max_layers
    )
    coarse = Linearization(lower, batch, equilibrium.x)
    w = _adjoint(coarse, None, tol=_COARSER * tol, max_steps=max_layers).x
    before = flat(coarse.gradient(w))
    equilibrium = true_equilibrium(
        lower, batch.observation, tol=tol, max_layers=max_layers, x0=equilibrium.x
    )
    at = Linearization(lower, batch, equilibrium.x)
    adjoint = _adjoint(at, w, tol=tol, max_steps=max_layers)
    gradient = flat(at.gradient(adjoint.x))
    start = torch.randn(at.g.shape, generator=torch.Generator().manual_seed(0), dtype=at.g.dtype)
    return Reference(
        gradient=gradient,
        error=relative_change(gradient, before),
        state_residual=equilibrium.residual,
        adjoint_residual=float(adjoint.residual.max()),
        contraction=_spectral_radius(at.jt, start.to(at.g.device), steps=50),
    )


def _adjoint(at: Linearization, w0: Tensor | None, *, tol: float, max_steps: int) -> LinearSolution:
    return gmres(at.adjoint_system(), at.g, x0=w0, tol=tol, max_steps=max_steps, restart=100)


def _spectral_radius(product, v: Tensor, *, steps: int) -> float:
    """The geometric mean growth of ‖v‖ over the second half of ``steps`` products, worst sample."""
    growth = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for step in range(steps):
        v = v / like(norm(v).clamp_min(torch.finfo(v.dtype).tiny), v)
        v = product(v)
        if step >= steps // 2:
            growth = growth + norm(v).clamp_min(torch.finfo(v.dtype).tiny).log()
    return float((growth / (steps - steps // 2)).exp().max())
