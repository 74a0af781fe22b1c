"""T and ℓ at a state x, for products with their Jacobians: one graph, kept for all products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.problems.lower_level import Splitting
from benchmark.solve.fixed_point import Layer
from benchmark.solve.system import ProjectedSystem
from benchmark.solve.vectors import MatVec


@runtime_checkable
class SplittingLayer(Protocol):
    """A layer that may say what its two halves are: conjugate gradients need them."""

    @property
    def splitting(self) -> Splitting | None:
        """The halves, None where there are none."""


def splitting_of(T: Layer) -> Splitting | None:
    """The halves of ``T`` where it has an attribute ``splitting``."""
    return T.splitting if isinstance(T, SplittingLayer) else None


@final
@dataclass(frozen=True)
class LayerGraph:
    """The graph of T at x, without the entries of T(x): for products with Jᵀ = (∂T/∂x)ᵀ.

    x : the state (N, …), a leaf; ``end`` and ``between`` : where T(x), and the point between the
    two halves of T, hang in the graph; None where there is no graph, or no half.
    """

    x: Tensor
    end: GradientEdge | None
    between: GradientEdge | None
    split: bool

    @classmethod
    def of(cls, T: Layer, x: Tensor, *, halves: bool) -> tuple[LayerGraph, Tensor]:
        """The graph of ``T`` at ``x``, with ``halves`` by its two halves where it says what they
        are, and T(x) with it. Cost: one layer.
        """
        x = x.detach().requires_grad_()
        split, between = splitting_of(T) if halves else None, None
        with torch.enable_grad():
            if split is None:
                image = T(x)
            else:
                middle = split.gradient_step(x)
                between = _edge(middle)
                image = split.proximity(middle)
        return cls(x, _edge(image), between, split is not None), image

    def jt(self, w: Tensor) -> Tensor:
        """Jᵀw (N, …)."""
        return _product(self.end, self.x, w)

    def adjoint_system(self) -> MatVec:
        """w ↦ (I − Jᵀ)w; for a layer with two halves, with both at hand."""
        if not self.split:
            return lambda w: w - self.jt(w)
        return ProjectedSystem(
            P=lambda w: _product(self.end, self.between, w),
            G=lambda w: _product(self.between, self.x, w),
        )


@final
class Linearization:
    """T and ℓ at a state x, for products with Jᵀ, Bᵀ, J and B, B = ∂T/∂θ.

    loss : ℓ(x), 0-d; g : ∇ₓℓ (N, …); direct : ∂ℓ/∂θ at fixed x, for each parameter a tensor, or
    None where ℓ does not hold it. With (I − Jᵀ)w = g at x = x*, ∇F = Bᵀw + direct. Cost: one layer
    and its graph, of which T(x) itself is not kept, and one ℓ; with products with J or B, the graph
    of one backward pass more.
    """

    def __init__(self, problem: EquilibriumLoss, x: Tensor) -> None:
        self.parameters = list(problem.parameters)
        self.graph, _ = LayerGraph.of(problem.T, x, halves=True)
        self.x = self.graph.x
        with torch.enable_grad():
            loss = problem.loss(self.x)
        self.g, *direct = torch.autograd.grad(loss, [self.x, *self.parameters], allow_unused=True)
        self.direct = tuple(direct)
        # on the CPU torch's mean squared error keeps the memory of all the squares
        self.loss = loss.detach().clone()

    def jt(self, w: Tensor) -> Tensor:
        """Jᵀw (N, …)."""
        return self.graph.jt(w)

    def adjoint_system(self) -> MatVec:
        """See ``LayerGraph.adjoint_system``."""
        return self.graph.adjoint_system()

    def gradient(self, w: Tensor, *, last: bool = False) -> tuple[Tensor, ...]:
        """Bᵀw + direct, one tensor a parameter; no product may follow the ``last`` one."""
        if self.graph.end is None:
            return self.with_direct(torch.zeros_like(p) for p in self.parameters)
        return self.with_direct(
            torch.autograd.grad(
                self.graph.end,
                self.parameters,
                w,
                retain_graph=not last,
                allow_unused=True,
                materialize_grads=True,
            )
        )

    def with_direct(self, implicit: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """``implicit`` + direct, one tensor a parameter."""
        pairs = zip(implicit, self.direct, strict=True)
        return tuple(i if d is None else i + d for i, d in pairs)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """u, Jᵀu and all of Bᵀu as one vector, with the graph from u: linear, so any u will do."""
        u = torch.zeros_like(self.x, requires_grad=True)
        assert self.graph.end is not None, "T depends on x or on θ"
        with torch.enable_grad():
            jt, *bt = torch.autograd.grad(
                self.graph.end,
                [self.x, *self.parameters],
                u,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return u, jt, torch.cat([b.flatten() for b in bt])

    def j(self, v: Tensor) -> Tensor:
        """Jv (N, …): the derivative along ``v`` of u ↦ Jᵀu, whose graph is made once and kept."""
        u, jt, _ = self._transposed
        return _product(_edge(jt), u, v)

    def tangent_product(self, v: Tensor) -> Tensor:
        """(I − J)v (N, …)."""
        return v - self.j(v)

    def columns(self) -> Iterator[Tensor]:
        """B e_p (N, …) for each entry p of θ in turn, as for ``j``."""
        u, _, bt = self._transposed
        for entry in bt:
            yield _product(_edge(entry), u, torch.ones_like(entry))


def _edge(image: Tensor) -> GradientEdge | None:
    """Where ``image`` hangs in its graph, without its entries; None where it has no graph."""
    return get_gradient_edge(image) if image.requires_grad else None


def _product(image: GradientEdge | None, x: Tensor | GradientEdge | None, w: Tensor) -> Tensor:
    """w times ∂image/∂x, shaped as x; zero where ``image`` does not depend on ``x``."""
    if image is None or x is None:
        return torch.zeros_like(x if isinstance(x, Tensor) else w)
    (product,) = torch.autograd.grad(image, x, w, retain_graph=True, allow_unused=True)
    if product is None:
        return torch.zeros_like(x if isinstance(x, Tensor) else w)
    return product
