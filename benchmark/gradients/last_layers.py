"""The last layers alone are differentiated: unrolling, and Jacobian-free backpropagation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from benchmark.gradients.rule import AdjointRecord, GraphRule, once_only
from benchmark.options.checks import fraction, positive_integer
from benchmark.solve.fixed_point import Equilibrium, Layer, iterate
from benchmark.solve.search import Search

#: a state is held fixed: what a second derivative would miss
HELD = "the state that the last layers start from is held fixed; Implicit has one"


@final
@dataclass(frozen=True)
class LastLayers(GraphRule):
    """x̂ = Tᴷ(x), K = ``layers``, from the state x that was found: Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ at x = x*.

    With K = 1 Jacobian-free backpropagation (Fung et al., arXiv 2103.12803); after R·K plain steps
    restarted JFB (Davy, Briceño-Arias, Pustelnik, arXiv 2506.13239); after none truncated
    unrolling, which alone has second derivatives. Cost: K layers, K vector-Jacobian products;
    memory: K graphs.

    Examples
    --------
    T(x) = θx/2 + 1 has x* = 2/(2 − θ), whose derivative is 2 at θ = 1; J = 1/2 and B = 1 there.

    >>> import torch
    >>> from benchmark import LastLayers, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     gradient=LastLayers(3), tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(theta.grad.item(), 6)
    1.75
    """

    layers: int = 1

    def __post_init__(self) -> None:
        positive_integer("layers", self.layers)

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        found = search(T, x0, on_failure=adjoint.on_failure)
        x = iterate(T, found.x, steps=self.layers)
        return replace(found, x=once_only(x, why=HELD) if found.steps.any() else x)


@final
@dataclass(frozen=True)
class Phantom(GraphRule):
    """K = ``layers`` damped steps x ← (1 − d)x + d·T(x), d = ``damping``, from the state found.

    Σ_{k<K} d Bᵀ((1 − d)I + dJᵀ)ᵏ∇ℓ at x*: the truncated series of the adjoint system of the damped
    layer, which has the same equilibrium. Cost: K layers, K vector-Jacobian products; memory: K
    graphs. Geng et al., "On training implicit models" (2021), arXiv 2111.05177.

    Examples
    --------
    T(x) = θx/2 + 1 has x* = 2/(2 − θ), whose derivative is 2 at θ = 1; J = 1/2 and B = 1 there.

    >>> import torch
    >>> from benchmark import Phantom, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     gradient=Phantom(2, damping=0.5), tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(theta.grad.item(), 6)
    0.875
    """

    layers: int = 10
    damping: float = 0.5

    def __post_init__(self) -> None:
        positive_integer("layers", self.layers)
        fraction("damping", self.damping)

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        found = search(T, x0, on_failure=adjoint.on_failure)
        x = iterate(lambda x: x + self.damping * (T(x) - x), found.x, steps=self.layers)
        return replace(found, x=once_only(x, why=HELD))
