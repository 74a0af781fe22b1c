"""Anderson mixing, shared by the solvers of fixed points and of linear systems."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from benchmark.solve.vectors import (
    Array,
    combination,
    dot,
    expand_from_host,
    on_device,
    products,
    rows,
)


@final
class AndersonMixing:
    """Anderson's next point for x = T(x): T(x) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(x) − x.

    ΔT and Δf hold the last ``depth`` differences of T(x) and f in a ring. The least-squares problem
    of each sample, with Tikhonov regularisation relative to the size of Δf, is on the host, and its
    matrix is renewed a row at a time. Cost of a step: 4 ``depth`` n flops; memory: 2 ``depth`` + 2
    vectors, from the first step on. Walker and Ni, "Anderson acceleration for fixed-point
    iterations" (2011).

    Examples
    --------
    T(x) = x/2 + 1 is affine, and one difference says all of a line:

    >>> mixing, x = AndersonMixing(depth=1), torch.zeros(1, 1).double()
    >>> for _ in range(2):
    ...     image = x / 2 + 1
    ...     x = mixing.propose(image, *(m.numpy() for m in mixing.measure(image, image - x)))
    >>> x
    tensor([[2.0000]], dtype=torch.float64)
    """

    def __init__(self, *, depth: int) -> None:
        self.depth = depth
        self.step = -1

    def measure(self, image: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        """What ``propose`` is to know, (N, depth) and (N,), of T(x) and f (N, …); first nothing."""
        image, f = rows(image), rows(f)
        self.step += 1
        if self.step == 0:
            n, size = f.shape
            self.image_steps = f.new_zeros(n, self.depth, size)
            self.f_steps = f.new_zeros(n, self.depth, size)
            self.gram = np.zeros((n, self.depth, self.depth))
            self.right = np.zeros((n, self.depth))
            self.last = image, f
            return ()
        self.slot = self.step % self.depth
        f_step = f - self.last[1]
        self.image_steps[:, self.slot] = image - self.last[0]
        self.f_steps[:, self.slot] = f_step
        self.last = image, f
        return products(self.f_steps, f_step), dot(f_step, f)

    def propose(self, image: Tensor, *measured: Array, forget: Array | None = None) -> Tensor:
        """The next point, (N, …), from T(x) and what was measured on the host; samples in
        ``forget`` (N,) start afresh.
        """
        if not measured:
            return image
        row, along = measured
        self.gram[:, self.slot] = self.gram[:, :, self.slot] = row
        # ⟨Δf_k, f⟩ = ⟨Δf_k, f'⟩ + ⟨Δf_k, f − f'⟩ saves reading all of Δf once more
        self.right += row
        self.right[:, self.slot] = along
        if forget is not None and forget.any():
            # a difference of zero has no part in the least squares
            self.gram[forget] = self.right[forget] = 0.0
            for steps in (self.image_steps, self.f_steps):
                steps.masked_fill_(expand_from_host(forget, steps), 0.0)
        numbers = torch.finfo(image.dtype)
        size = self.gram.trace(axis1=1, axis2=2).clip(numbers.tiny)[:, None]
        normal = self.gram / size[..., None] + 10 * numbers.eps * np.eye(self.depth)
        system = (torch.from_numpy(part) for part in (normal, self.right / size))
        gamma = torch.linalg.solve_ex(*system).result.numpy()
        gamma = np.where(np.isfinite(gamma), gamma, 0.0)
        return image - combination(on_device(gamma, image), self.image_steps).view_as(image)
