"""A gradient rule that is one function: the equilibrium in, the same state with a graph out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from benchmark.gradients.rule import AdjointRecord, GraphRule, once_only
from benchmark.solve.checked import require_like
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.search import Search


@final
@dataclass(frozen=True)
class FromFunction(GraphRule):
    """x̂ = ``differentiate(T, x)`` at the state x that was found, which has no graph.

    What automatic differentiation makes of ℓ(x̂) is the estimate: ``lambda T, x: T(x)`` is
    Jacobian-free backpropagation. There are no second derivatives, for x is held fixed. Raises
    TypeError, with ``name``, where x̂ is not a tensor of the shape, dtype and device of x, and
    ValueError where gradients are enabled and it has no graph although T(x) has one.
    """

    differentiate: Callable[[Layer, Tensor], Tensor]
    name: str

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        found = search(T, x0, on_failure=adjoint.on_failure)
        images: list[Tensor] = []

        def seen(x: Tensor) -> Tensor:
            images.append(T(x))
            return images[-1]

        x = self.differentiate(seen, found.x)
        require_like(found.x, x, f"the gradient rule {self.name}")
        if any(image.requires_grad for image in images) and not x.requires_grad:
            raise ValueError(
                f"the gradient rule {self.name} returned a state without a graph, expected one "
                "that reaches what T closes over"
            )
        return replace(found, x=once_only(x, why="the state is held fixed; Implicit has one"))
