"""Complex tensors as real ones of twice the entries: ⟨a, b⟩ is Re Σ ā b, Jᵀ its adjoint.

Solvers, adjoints and gradients are those of real vectors then, whatever T is made of: a derivative
by a complex number is one by its real and one by its imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn


@final
class RealLayer(nn.Module):
    """T of complex states (N, …) as a layer of real ones (N, …, 2)."""

    def __init__(self, T: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.T = T

    def forward(self, x: Tensor) -> Tensor:
        return as_real(self.T(as_complex(x)))


def as_real(z: Tensor) -> Tensor:
    """Complex (…) as real (…, 2), a view where it can be.

    Examples
    --------
    >>> as_real(torch.tensor([1 + 2j]))
    tensor([[1., 2.]])
    """
    return torch.view_as_real(z.resolve_conj())


def as_complex(x: Tensor) -> Tensor:
    """The inverse of ``as_real``."""
    return torch.view_as_complex(x.contiguous())


def keeping_complex(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``change`` of the parts of what is complex: a cast to a real dtype drops no imaginary part.

    Examples
    --------
    >>> keeping_complex(torch.Tensor.double)(torch.tensor([1 + 2j]))
    tensor([1.+2.j], dtype=torch.complex128)
    """
    return lambda t: as_complex(change(as_real(t))) if t.is_complex() else change(t)
