"""The truncated Neumann series of the adjoint system."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.implicit import adjoint_layer
from benchmark.gradients.rule import AdjointRecord, GraphRule
from benchmark.options.checks import positive_integer
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.search import Search
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import MatVec, norm


@final
@dataclass(frozen=True)
class Series(GraphRule):
    """The first ``terms`` of the series of (I − Jᵀ)⁻¹ at the equilibrium: Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ.

    What ``LastLayers`` tends to, with the graph of one layer instead of K: the relative error of
    the adjoint is at most κᴷ. Cost: one layer, K vector-Jacobian products; memory: one graph and
    two states. Lorraine, Vicol, Duvenaud, "Optimizing millions of hyperparameters by implicit
    differentiation" (2020), arXiv 1911.02590.

    Examples
    --------
    T(x) = θx/2 + 1 has x* = 2/(2 − θ), whose derivative is 2 at θ = 1; J = 1/2 and B = 1 there.

    >>> import torch
    >>> from benchmark import Series, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     gradient=Series(3), tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(theta.grad.item(), 6)
    1.75
    """

    terms: int = 10

    def __post_init__(self) -> None:
        positive_integer("terms", self.terms)

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        found = search(T, x0, on_failure=adjoint.on_failure)
        why = "the series is cut off at a state that is held fixed; Implicit has one"
        x = adjoint_layer(T, found.x, solve=self._sum, record=adjoint, why=why)
        return replace(found, x=x)

    def _sum(self, matvec: MatVec, g: Tensor) -> LinearSolution:
        """Σ_{k<K} (I − A)ᵏ g by Horner's rule, w ← w + (g − A w); stopped there on purpose."""
        w, last = g, g
        for _ in range(self.terms - 1):
            last = g - matvec(w)
            w = w + last
        size = norm(g).clamp_min(torch.finfo(g.dtype).tiny)
        steps = torch.full_like(size, self.terms - 1, dtype=torch.int64)
        return LinearSolution(w, norm(last) / size, steps, torch.ones_like(size, dtype=torch.bool))
