"""The implicit function theorem as a backward pass: one layer's graph, many products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmark.convergence import warn_unless_converged
from benchmark.linear import LinearSolution
from benchmark.problem import Layer


def implicit_layer(
    T: Layer, x: Tensor, *, solve: Callable[[Callable[[Tensor], Tensor], Tensor], LinearSolution]
) -> Tensor:
    """T(x), whose backward pass solves (I − Jᵀ) w = g and goes on into θ with w instead of g.

    At x = x*, the gradient of ℓ(R(T(x))) is then Bᵀ(I − Jᵀ)⁻¹∇ℓ. ``solve(matvec, b)`` is a solver
    of ``benchmark.linear``. Memory: the graph of one layer and what ``solve`` keeps; every product
    with Jᵀ reuses that graph. Where gradients are disabled this is T(x). Not twice differentiable.
    Warns ``NotConverged`` where the solver says so.
    """
    x = x.detach().requires_grad_()
    image = T(x)
    return _Adjoint.apply(image, x, solve) if image.requires_grad else image


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, x, solve):
        ctx.save_for_backward(image, x)
        ctx.solve = solve
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        image, x = ctx.saved_tensors

        def matvec(w: Tensor) -> Tensor:
            (jt_w,) = torch.autograd.grad(
                image, x, w, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return w - jt_w

        solution = warn_unless_converged(ctx.solve(matvec, g), what="the adjoint system")
        return solution.x, None, None
