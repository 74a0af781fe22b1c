"""Anderson mixing, shared by the solvers of fixed points and of linear systems."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from benchmark.solve.growing import Vectors
from benchmark.solve.vectors import Array, dot, on_device, rows


@final
class AndersonMixing:
    """Anderson's next point for x = T(x): T(x) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(x) − x.

    ΔT and Δf hold the last ``depth`` differences of T(x) and f in a ring. The least-squares problem
    of each sample, with Tikhonov regularisation relative to the size of Δf, is on the host, and its
    matrix is renewed a row at a time. Cost of a step: 4 ``depth`` n flops; memory: 2 ``depth`` + 2
    vectors, fewer in the first steps (``Vectors``). Walker and Ni, "Anderson acceleration for
    fixed-point iterations" (2011).

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
        """What ``propose`` is to know, (N, K) of the K differences that there are and (N,), of T(x)
        and f (N, …); first nothing.
        """
        image, f = rows(image), rows(f)
        self.step += 1
        if self.step == 0:
            n = len(f)
            self.image_steps, self.f_steps = (Vectors(f, most=self.depth) for _ in range(2))
            self.gram, self.right = np.zeros((n, 0, 0)), np.zeros((n, 0))
            self.last = image, f
            return ()
        self.slot = (self.step - 1) % self.depth
        f_step = self.f_steps.slot(self.slot)
        torch.sub(f, self.last[1], out=f_step)
        torch.sub(image, self.last[0], out=self.image_steps.slot(self.slot))
        self.last = image, f
        return self.f_steps.products(f_step), dot(f_step, f)

    def propose(self, image: Tensor, *measured: Array, forget: Array | None = None) -> Tensor:
        """The next point, (N, …), from T(x) and what was measured on the host; samples in
        ``forget`` (N,) start afresh.
        """
        if not measured:
            return image
        row, along = measured
        more = row.shape[1] - self.right.shape[1]
        self.gram = np.pad(self.gram, ((0, 0), (0, more), (0, more)))
        self.right = np.pad(self.right, ((0, 0), (0, more)))
        self.gram[:, self.slot] = self.gram[:, :, self.slot] = row
        # ⟨Δf_k, f⟩ = ⟨Δf_k, f'⟩ + ⟨Δf_k, f − f'⟩ saves reading all of Δf once more
        self.right += row
        self.right[:, self.slot] = along
        if forget is not None and forget.any():
            # a difference of zero has no part in the least squares
            self.gram[forget] = self.right[forget] = 0.0
            for steps in (self.image_steps, self.f_steps):
                steps.forget(forget)
        numbers = torch.finfo(image.dtype)
        size = self.gram.trace(axis1=1, axis2=2).clip(numbers.tiny)[:, None]
        normal = self.gram / size[..., None] + 10 * numbers.eps * np.eye(row.shape[1])
        system = (torch.from_numpy(part) for part in (normal, self.right / size))
        gamma = torch.linalg.solve_ex(*system).result.numpy()
        gamma = np.where(np.isfinite(gamma), gamma, 0.0)
        return image - self.image_steps.combination(on_device(gamma, image)).view_as(image)
