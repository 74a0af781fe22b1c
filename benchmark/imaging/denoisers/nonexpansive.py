"""How far a denoiser is from firm nonexpansiveness."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.solve.vectors import expand, norm


def reflected_norm(
    denoise: Callable[[Tensor, Tensor], Tensor],
    v: Tensor,
    sigma: Tensor,
    *,
    generator: torch.Generator,
    products: int = 6,
) -> Tensor:
    """‖(2Jᵀ − I)u‖/‖u‖ per sample (N,), J = ∂D/∂v, u from a power iteration, differentiable.

    A lower bound of ‖2J − I‖, which is at most 1 where D is firmly nonexpansive. Cost: one D and
    ``products`` vector-Jacobian products.
    """
    v = v.detach().requires_grad_()
    image = denoise(v, sigma)
    u = torch.randn(v.shape, generator=generator, dtype=v.dtype)
    for product in range(1, products + 1):
        last = product == products
        u = u / expand(norm(u), u)
        (jt_u,) = torch.autograd.grad(image, v, u, retain_graph=True, create_graph=last)
        u = 2 * jt_u - u
    return norm(u)
