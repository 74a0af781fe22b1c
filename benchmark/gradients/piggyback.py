"""State and adjoint iterated together: the adjoint's recursion rides on the state's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import LayerGraph
from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.vectors import expand, norm


@dataclass(frozen=True)
class Piggybacked:
    """x and w (N, …) where the iteration ended; per sample (N,), the larger of the relative changes
    of the last step, the steps taken, and whether the change is within the tolerance.
    """

    x: Tensor
    w: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor


def piggyback(
    problem: EquilibriumLoss, x: Tensor, w: Tensor, *, tol: float, max_layers: int
) -> Piggybacked:
    """w ← ∇ℓ(x) + J(x)ᵀw and x ← T(x), at once, until neither changes by more than ``tol``.

    With κ < 1 and T smooth, x after k steps is κᵏ from x*, and w O(kκᵏ) from (I − Jᵀ)⁻¹∇ℓ: for a
    while the adjoint is that of states that are not yet there. A sample that has converged rests.
    Cost: a layer and a product with Jᵀ each step; memory: one graph, x and w (N, …). Raises
    ValueError unless ``tol`` is a finite number > 0, floored at ``reachable_tolerance``, and
    ``max_layers`` an integer ≥ 1.
    """
    positive_number("tol", tol)
    positive_integer("max_layers", max_layers)
    tol = max(tol, reachable_tolerance(x.dtype))
    going = torch.ones(len(x), dtype=torch.bool, device=x.device)
    residual, steps = x.new_full((len(x),), torch.inf), torch.zeros_like(going, dtype=torch.int64)
    for _ in range(max_layers):
        graph, image = LayerGraph.of(problem.T, x, halves=False)
        with torch.enable_grad():
            loss = problem.loss(graph.x)
        (g,) = torch.autograd.grad(loss, graph.x, materialize_grads=True, allow_unused=True)
        onward = g + graph.jt(w)
        image = image.detach()
        change = torch.maximum(_change(image, x), _change(onward, w))
        x = torch.where(expand(going, x), image, x)
        w = torch.where(expand(going, w), onward, w)
        residual = torch.where(going, change, residual)
        steps = steps + going
        going = going & ~(residual <= tol)
        if not going.any():
            break
    return Piggybacked(x, w, residual, steps, residual <= tol)


def _change(new: Tensor, old: Tensor) -> Tensor:
    """‖new − old‖/‖new‖ (N,)."""
    return norm(new - old) / norm(new).clamp_min(torch.finfo(new.dtype).tiny)
