"""Layers through torch.compile: fused kernels, for the time that compiling takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


@cache
def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function``, compiled where it is first called and anew for other dtypes and shapes.

    Its graph allows any number of products, as an adjoint needs, but no double backward. Needs a
    C++ compiler on the CPU, Triton on CUDA; torch raises where they are missing.
    """
    # buffers given away in a backward pass would not be there for the next product
    torch._functorch.config.donated_buffer = False
    return torch.compile(function)
