"""Vectors of each sample, one after another, with memory for those that there are."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from benchmark.solve.vectors import Array, combination, expand_from_host, products

#: vectors in the first block; each further one doubles what there is room for
_FIRST = 5


@final
class Vectors:
    """Up to ``most`` vectors (N, n) of each sample, in blocks that are made as they are needed.

    Memory: at most twice the vectors that are in use, and five. Few blocks, for a product with all
    vectors is one operation a block.

    Examples
    --------
    >>> kept = Vectors(torch.zeros(1, 2), most=100)
    >>> for k in range(2):
    ...     kept.slot(k).copy_(torch.tensor([[float(k), 1.0]]))
    tensor([[0., 1.]])
    tensor([[1., 1.]])
    >>> kept.products(torch.tensor([[2.0, 3.0]])), kept.combination(torch.tensor([[1.0, 1.0]]))
    (tensor([[3., 5.]]), tensor([[1., 2.]]))
    """

    def __init__(self, like: Tensor, *, most: int) -> None:
        self.like, self.most = like.new_empty(()), most
        self.samples, self.size = like.shape
        self.blocks: list[Tensor] = []
        self.room = self.used = 0

    def slot(self, k: int) -> Tensor:
        """Where vector ``k`` is (N, n), to be written into: one that is there, or the next."""
        if k == self.room:
            number = min(max(_FIRST, self.room), self.most - self.room)
            self.blocks.append(self.like.new_zeros(self.samples, number, self.size))
            self.room += number
        self.used = max(self.used, k + 1)
        for block in self.blocks:
            if k < block.shape[1]:
                return block[:, k]
            k -= block.shape[1]
        raise IndexError(f"vector {k} beyond the {self.room} there are and the next")

    def products(self, w: Tensor) -> Tensor:
        """⟨v_k, w⟩ of all vectors so far, (N, n) → (N, K)."""
        found = [products(block, w) for block in self._in_use()]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def combination(self, coefficients: Tensor) -> Tensor:
        """Σ_k c_k v_k, (N, K) → (N, n), of the first K vectors."""
        total, start = None, 0
        for block in self._in_use():
            part = coefficients[:, start : start + block.shape[1]]
            if part.shape[1] == 0:
                break
            start += part.shape[1]
            found = combination(part, block[:, : part.shape[1]])
            total = found if total is None else total.add_(found)
        if total is None:
            return self.like.new_zeros(self.samples, self.size)
        return total

    def forget(self, flags: Array) -> None:
        """Zeros in place of all vectors of samples with a flag (N,)."""
        for block in self.blocks:
            block.masked_fill_(expand_from_host(flags, block), 0.0)

    def _in_use(self) -> list[Tensor]:
        left, found = self.used, []
        for block in self.blocks:
            if left > 0:
                found.append(block if left >= block.shape[1] else block[:, :left])
            left -= block.shape[1]
        return found
