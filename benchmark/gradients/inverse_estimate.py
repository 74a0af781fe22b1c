"""The inverse that a quasi-Newton solver has built on its way, shared with the backward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.implicit import adjoint_layer
from benchmark.gradients.rule import AdjointRecord, GraphRule
from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.search import Search, ToTolerance
from benchmark.solve.secants import Secants
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import MatVec, expand, norm


@final
@dataclass(frozen=True)
class InverseEstimate(GraphRule):
    """BᵀHᵀ∇ℓ, H ≈ (I − J)⁻¹ what the solver's last ``memory`` steps say of the inverse.

    No adjoint system is solved. H is right along these steps and the identity across them
    (``Secants``). Where ‖Hᵀ∇ℓ‖ > ``fallback``·‖∇ℓ‖ a sample falls back to ∇ℓ, unless that
    is None. Cost: one layer, one vector-Jacobian product; memory: one graph, 2·``memory`` states.
    Ramzi et al., "SHINE" (2022), arXiv 2106.00553, with Broyden's second method for its first.

    Examples
    --------
    T(x) = θx/2 + 1 has x* = 2/(2 − θ), whose derivative is 2 at θ = 1; J = 1/2 and B = 1 there.

    >>> import torch
    >>> from benchmark import InverseEstimate, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     gradient=InverseEstimate(), tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(theta.grad.item(), 6)
    2.0
    """

    memory: int = 30
    fallback: float | None = None

    def __post_init__(self) -> None:
        positive_integer("memory", self.memory)
        if self.fallback is not None:
            positive_number("fallback", self.fallback)

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        tol = search.tol if isinstance(search, ToTolerance) else reachable_tolerance(x0.dtype)
        secants = Secants(T, memory=self.memory, tol=tol)
        found = search(secants, x0, on_failure=adjoint.on_failure)

        def share(matvec: MatVec, g: Tensor) -> LinearSolution:
            w, size = secants.adjoint(g), norm(g)
            if self.fallback is not None:
                w = torch.where(expand(norm(w) > self.fallback * size, g), g, w)
            # nothing is iterated, so there is no residual to fall short of a tolerance
            steps, done = (torch.zeros_like(size, dtype=d) for d in (torch.int64, torch.bool))
            return LinearSolution(w, torch.full_like(size, torch.nan), steps, ~done)

        why = "what the solver's steps say of the inverse is held fixed; Implicit has one"
        x = adjoint_layer(T, found.x, solve=share, record=adjoint, why=why)
        return replace(found, x=x)
