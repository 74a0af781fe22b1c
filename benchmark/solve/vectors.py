"""Arithmetic per sample of a batch (N, …), and numbers per sample on the host.

What is decided per sample is decided on the host, in float64, from a few numbers of each step: on
any device, operations on so little data cost more than what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: x (N, …) ↦ A x (N, …), each sample by its own matrix
MatVec = Callable[[Tensor], Tensor]

#: numbers or flags per sample, (N,) or (N, k), on the host
Array = NDArray[Any]


def rows(a: Tensor) -> Tensor:
    """One row per sample, (N, …) → (N, n); a sample may be a single number. A view if it can be.

    Examples
    --------
    >>> rows(torch.zeros(2, 3, 4)).shape, rows(torch.zeros(2)).shape
    (torch.Size([2, 12]), torch.Size([2, 1]))
    """
    return a.flatten(1) if a.ndim > 1 else a[:, None]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ per sample, (N, …) → (N,)."""
    each: Tensor = torch.linalg.vecdot(rows(a), rows(b))
    return each


def norm(a: Tensor) -> Tensor:
    """‖a‖₂ per sample, (N, …) → (N,)."""
    each: Tensor = torch.linalg.vector_norm(rows(a), dim=1)
    return each


def expand(v: Tensor, a: Tensor) -> Tensor:
    """``v`` (N,) shaped to broadcast against ``a`` (N, …): a view (N, 1, …, 1)."""
    return v.view(-1, *[1] * (a.ndim - 1))


def on_host(*numbers: Tensor) -> list[Array]:
    """Tensors (N,) or (N, k) as arrays of float64 of the same shapes: one look at the device.

    Examples
    --------
    >>> one, several = on_host(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    >>> one.tolist(), several.tolist()
    ([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]])
    """
    columns = torch.column_stack(numbers)
    table = np.array(columns.tolist()).reshape(columns.shape)
    found, start = [], 0
    for n in numbers:
        stop = start + (1 if n.ndim == 1 else n.shape[1])
        found.append(table[:, start] if n.ndim == 1 else table[:, start:stop])
        start = stop
    return found


def on_device(v: Array, a: Tensor) -> Tensor:
    """Numbers in the dtype of ``a``, or flags as they are, on its device; shape of ``v``."""
    dtype = torch.bool if v.dtype == bool else a.dtype
    return torch.as_tensor(v, dtype=dtype).to(a.device, non_blocking=True)


def expand_from_host(v: Array, a: Tensor) -> Tensor:
    """``v`` (N,) on the device of ``a`` (N, …), to broadcast against it."""
    return expand(on_device(v, a), a)


def select(flags: Array, a: Tensor, b: Tensor) -> Tensor:
    """``a`` for samples with a flag, ``b`` for those without; no copy where one of them is all.

    ``flags`` (N,), ``a`` (N, …), ``b`` as ``a`` or a single number, of no dimension.
    """
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


def principal(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, (N, K) and eigenvectors (N, K, K) of the products (N, K, K) of
    ``vectors`` (N, K, n) with each other; in float32 at least, which decompositions ask for.
    """
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    values, each = torch.linalg.eigh(wide @ wide.mT)
    return values, each
