"""Implicit differentiation at an equilibrium: one layer's graph, as many products as are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import GradientEdge, get_gradient_edge

from benchmark.problems.lower_level import Batch, Layer, LowerLevelProblem, upper_loss
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.system import LinearSolution, ProjectedSystem
from benchmark.solve.vectors import MatVec

PRODUCT = {"allow_unused": True, "materialize_grads": True}


@final
class Linearization:
    """T and ℓ∘R_θ at a state x, for products with Jᵀ, Bᵀ, J and B: one graph, kept for all.

    loss : ℓ(R_θ(x), x̄), 0-d; g : ∇ₓℓ (N, …); direct : ∂ℓ/∂θ at fixed x, for each parameter a
    tensor, or None where R_θ does not hold it. With (I − Jᵀ)w = g at x = x*, ∇F = Bᵀw + direct.
    Cost: one layer and its graph, of which T(x) itself is not kept, and one R_θ; with products with
    J or B, the graph of one backward pass more.
    """

    def __init__(self, lower: LowerLevelProblem, batch: Batch, x: Tensor) -> None:
        self.theta = list(lower.theta().values())
        self.x = x.detach().requires_grad_()
        halves = lower.halves()
        with torch.enable_grad():
            if halves is None:
                self._between = None
                image = lower.layer(batch.observation)(self.x)
            else:
                between = halves.gradient_step(self.x, batch.observation)
                self._between = _edge(between)
                image = halves.proximity(between)
            self._image = _edge(image)
            loss = upper_loss(lower, self.x, batch.truth)
        self.g, *direct = torch.autograd.grad(loss, [self.x, *self.theta], allow_unused=True)
        self.direct = tuple(direct)
        # on the CPU torch's mean squared error keeps the memory of all the squares
        self.loss = loss.detach().clone()

    def jt(self, w: Tensor) -> Tensor:
        """Jᵀw (N, …)."""
        return _product(self._image, self.x, w)

    def adjoint_system(self) -> MatVec:
        """w ↦ (I − Jᵀ)w; for a layer with two halves, with both at hand."""
        if self._between is None:
            return lambda w: w - self.jt(w)
        return ProjectedSystem(
            P=lambda w: _product(self._image, self._between, w),
            G=lambda w: _product(self._between, self.x, w),
        )

    def gradient(self, w: Tensor, *, last: bool = False) -> tuple[Tensor, ...]:
        """Bᵀw + direct, one tensor a parameter; no product may follow the ``last`` one."""
        return self.with_direct(
            torch.autograd.grad(self._image, self.theta, w, retain_graph=not last, **PRODUCT)
        )

    def with_direct(self, implicit: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """``implicit`` + direct, one tensor a parameter."""
        pairs = zip(implicit, self.direct, strict=True)
        return tuple(i if d is None else i + d for i, d in pairs)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """u, Jᵀu and all of Bᵀu as one vector, with the graph from u: linear, so any u will do."""
        u = torch.zeros_like(self.x, requires_grad=True)
        with torch.enable_grad():
            jt, *bt = torch.autograd.grad(
                self._image, [self.x, *self.theta], u, create_graph=True, **PRODUCT
            )
            return u, jt, torch.cat([b.flatten() for b in bt])

    def j(self, v: Tensor) -> Tensor:
        """Jv (N, …): the derivative along ``v`` of u ↦ Jᵀu, whose graph is made once and kept."""
        u, jt, _ = self._transposed
        if not jt.requires_grad:
            return torch.zeros_like(v)
        return torch.autograd.grad(jt, u, v, retain_graph=True, **PRODUCT)[0]

    def tangent_product(self, v: Tensor) -> Tensor:
        """(I − J)v (N, …)."""
        return v - self.j(v)

    def columns(self) -> Iterator[Tensor]:
        """B e_p (N, …) for each entry p of θ in turn, as for ``j``."""
        u, _, bt = self._transposed
        for entry in bt:
            if entry.requires_grad:
                yield torch.autograd.grad(entry, u, retain_graph=True, **PRODUCT)[0]
            else:
                yield torch.zeros_like(u)


def _edge(image: Tensor) -> GradientEdge | None:
    """Where ``image`` hangs in its graph, without its entries; None where it has no graph."""
    return get_gradient_edge(image) if image.requires_grad else None


def _product(image: GradientEdge | None, x: Tensor | GradientEdge | None, w: Tensor) -> Tensor:
    """w times ∂image/∂x; zero where ``image`` does not depend on ``x``."""
    if image is None or x is None:
        return torch.zeros_like(w)
    (product,) = torch.autograd.grad(image, x, w, retain_graph=True, allow_unused=True)
    return torch.zeros_like(w) if product is None else product


def implicit_layer(
    T: Layer, x: Tensor, *, solve: Callable[[Callable[[Tensor], Tensor], Tensor], LinearSolution]
) -> Tensor:
    """T(x), whose backward pass solves (I − Jᵀ) w = g and goes on into θ with w instead of g.

    At x = x*, the gradient of ℓ(R(T(x))) is then Bᵀ(I − Jᵀ)⁻¹∇ℓ. ``solve(matvec, b)`` is a solver
    of ``benchmark.solve``. Memory: the graph of one layer and what ``solve`` keeps; every product
    with Jᵀ reuses that graph. Where gradients are disabled this is T(x). Not twice differentiable.
    Warns ``NotConverged`` where the solver says so.
    """
    x = x.detach().requires_grad_()
    image = T(x)
    return _Adjoint.apply(image, x, solve) if image.requires_grad else image


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, x, solve):
        ctx.image, ctx.x, ctx.solve = _edge(image), x, solve
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        found = ctx.solve(lambda w: w - _product(ctx.image, ctx.x, w), g)
        solution = warn_unless_converged(found, what="the adjoint system")
        return solution.x, None, None
