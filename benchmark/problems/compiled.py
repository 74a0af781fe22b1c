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
    # families of layers, dtypes and numbers of images: more than torch expects of one function.
    # What it could not compile would run as it is, and pass for compiled
    torch._dynamo.config.recompile_limit = 200
    torch._dynamo.config.accumulated_recompile_limit = 2000
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # buffers given away in a backward pass would not be there for the next product
    torch._functorch.config.donated_buffer = False
    return torch.compile(function)
