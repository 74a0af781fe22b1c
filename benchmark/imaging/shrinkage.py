"""Soft-thresholding with derivatives of any order, which keeps one byte an entry for them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from benchmark.solve.functions import Function


def soft_threshold(d: Tensor, threshold: Tensor) -> Tensor:
    """sign(d)·max(|d| − t, 0), t ≥ 0 broadcasting over ``d``: the proximity operator of t‖·‖₁.

    Its derivative keeps the entries above t and no other; where t = 0 it is the identity.
    Saved for a product with Jᵀ: the signs of the result, one byte an entry.
    """
    if torch.compiler.is_compiling():
        # d − clip(d, −t, t) is the same; of its derivative the compiler makes more operations
        return torch.relu(d - threshold) - torch.relu(-d - threshold)
    if not keeps_derivatives():
        return d - torch.clamp(d, -threshold, threshold)
    return _SoftThreshold.apply(d, threshold)[0]


def keeps_derivatives() -> bool:
    """Whether a graph is recorded, in which a function's own derivative is the faster one.

    Entering such a function costs some ten small operations. Without a graph there is nothing to
    gain; and torch.compile differentiates what it has traced, and fuses it.
    """
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


@final
class _SoftThreshold(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(d: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        shrunk = d - torch.clamp(d, -threshold, threshold)
        return shrunk, shrunk.sign().to(torch.int8)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, threshold = inputs
        _, sign = output
        ctx.mark_non_differentiable(sign)
        ctx.save_for_backward(sign, threshold)
        ctx.save_for_forward(sign, threshold)

    @staticmethod
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None]:
        sign, threshold = ctx.saved_tensors
        kept = _kept(gradient, sign, threshold)
        slope = -(kept * sign).sum_to_size(threshold.shape) if ctx.needs_input_grad[1] else None
        return kept, slope

    @staticmethod
    def jvp(ctx, d: Tensor, threshold: Tensor) -> tuple[Tensor, None]:
        sign, t = ctx.saved_tensors
        return _kept(d, sign, t) - sign * threshold, None


def _kept(tangent: Tensor, sign: Tensor, threshold: Tensor) -> Tensor:
    return torch.where((sign != 0) | (threshold == 0), tangent, 0)
