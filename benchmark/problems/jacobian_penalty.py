"""A penalty on the size of a layer's Jacobian, which keeps learned layers contracting."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.solve.fixed_point import Layer


def jacobian_penalty(T: Layer, x: Tensor) -> Tensor:
    """1/N Σ_i ‖Jᵢᵀv‖²/n, J = ∂T/∂x at the states ``x`` (N, …) of n numbers each, 0-d.

    v has entries ±1, the same for all states and at each call, so that this is a function of θ and
    x. Its mean over v is ‖J‖²_F/n (Hutchinson's estimate), the mean square of J's singular values:
    it pulls at all of them, and bounds none. It has a graph where gradients are enabled, which a
    compiled layer cannot give. Cost: one layer and one product, and in the backward pass one
    through both. Bai, Koltun, Kolter, "Stabilizing equilibrium models by Jacobian regularization"
    (2021), arXiv 2106.14342.
    """
    wanted = torch.is_grad_enabled()
    generator = torch.Generator().manual_seed(0)
    signs = 2 * torch.randint(2, x.shape[1:], generator=generator) - 1
    v = signs.to(x.dtype).to(x.device).expand_as(x)
    with torch.enable_grad():
        at = x if x.requires_grad else x.detach().requires_grad_()
        (jtv,) = torch.autograd.grad(T(at), at, v, create_graph=wanted)
    return jtv.square().mean()
