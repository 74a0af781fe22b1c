"""Arithmetic per sample of a batch (N, …), and numbers per sample on the host.

What is decided per sample is decided on the host, in float64, from a few numbers of each step: on
any device, operations on so little data cost more than what they compute.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MatVec = Callable[[Tensor], Tensor]


#: numbers or flags per sample, on the host
Array = NDArray


def rows(a: Tensor) -> Tensor:
    """One row per sample, (N, …) → (N, n); a sample may be a single number."""
    return a.reshape(a.shape[0], -1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ per sample, (N, …) → (N,)."""
    return torch.linalg.vecdot(rows(a), rows(b))


def norm(a: Tensor) -> Tensor:
    """‖a‖₂ per sample, (N, …) → (N,)."""
    return torch.linalg.vector_norm(rows(a), dim=1)


def expand(v: Tensor, a: Tensor) -> Tensor:
    """``v`` (N,) shaped to broadcast against ``a`` (N, …)."""
    return v.view(-1, *[1] * (a.ndim - 1))


def on_host(*numbers: Tensor) -> list[Array]:
    """Tensors (N,) or (N, k) as arrays of float64 of the same shapes: one look at the device."""
    table = np.array(torch.column_stack(numbers).tolist())
    found, start = [], 0
    for n in numbers:
        stop = start + (1 if n.ndim == 1 else n.shape[1])
        found.append(table[:, start] if n.ndim == 1 else table[:, start:stop])
        start = stop
    return found


def on_device(v: Array, a: Tensor) -> Tensor:
    """Numbers in the dtype of ``a``, or flags, on its device."""
    dtype = torch.bool if v.dtype == bool else a.dtype
    return torch.as_tensor(v, dtype=dtype).to(a.device, non_blocking=True)


def expand_from_host(v: Array, a: Tensor) -> Tensor:
    """``v`` (N,) on the device of ``a`` (N, …), to broadcast against it."""
    return expand(on_device(v, a), a)


def select(flags: Array, a: Tensor, b: Tensor | float) -> Tensor | float:
    """``a`` for samples with a flag, ``b`` for those without; no copy where one of them is all."""
    if flags.all():
        return a
    return torch.where(expand_from_host(flags, a), a, b) if flags.any() else b


def products(vectors: Tensor, w: Tensor) -> Tensor:
    """⟨v_k, w⟩ per sample, (N, K, n), (N, n) → (N, K).

    The vector stands on the left: CPU libraries are several times slower the other way round.
    """
    return (w[:, None] @ vectors.mT)[:, 0]


def combination(coefficients: Tensor, vectors: Tensor) -> Tensor:
    """Σ_k c_k v_k per sample, (N, K), (N, K, n) → (N, n)."""
    return (coefficients[:, None] @ vectors)[:, 0]
