"""Linear systems one after another, each starting from directions that the last one has left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from benchmark.options.checks import positive_integer
from benchmark.solve.complex_numbers import as_complex, as_real
from benchmark.solve.system import LinearSolution, checked_tolerance, real_system, start
from benchmark.solve.vectors import MatVec, combination, expand, norm, principal, products, rows

#: directions at which those that are kept are chosen anew
_MOST = 60
#: rounds from the true residual, and what each must gain
_ROUNDS, _GAIN = 5, 0.5


@dataclass(frozen=True)
class Recycled:
    """solution : of A x = b; space : (N, keep, n), what to hand on, zero where there is less; of
    complex systems (N, keep, 2n), real and imaginary parts.
    """

    solution: LinearSolution
    space: Tensor


class _Directions:
    """P and C = A P, (N, m, n) each, C orthonormal where it is not zero."""

    def __init__(self, b: Tensor) -> None:
        self.p = self.c = rows(b).new_zeros(len(b), 0, rows(b).shape[1])

    def add(self, p: Tensor, image: Tensor) -> Tensor:
        """Append the direction ``p`` (N, n) and its image A p, orthonormalised; the latter.

        Both are zero where the image is, to rounding, a combination of those that are there.
        """
        least = min(1e3 * torch.finfo(image.dtype).eps, 0.1) * norm(image)
        for _ in range(2):
            h = products(self.c, image)
            image, p = image - combination(h, self.c), p - combination(h, self.p)
        size = norm(image)
        scale = torch.where(size > least, 1 / size, 0.0)[:, None]
        self.c = torch.cat([self.c, (scale * image)[:, None]], dim=1)
        self.p = torch.cat([self.p, (scale * p)[:, None]], dim=1)
        return self.c[:, -1]

    def keep(self, number: int) -> None:
        """Of all combinations those that A shortens the most: P's largest singular vectors."""
        vectors = principal(self.p)[1][..., -number:].to(self.p.dtype)
        self.p, self.c = vectors.mT @ self.p, vectors.mT @ self.c


@torch.no_grad()
def recycled(
    matvec: MatVec,
    b: Tensor,
    space: Tensor | None,
    *,
    tol: float,
    max_steps: int,
    x0: Tensor | None = None,
    keep: int = 8,
) -> Recycled:
    """Generalised conjugate residuals, ‖b − A x‖ least over ``space`` and the directions found.

    Eisenstat, Elman, Schultz (1983): equal to GMRES where A + Aᵀ is definite, as that of I − J for
    a contraction. The first directions are those of ``space``, (N, k, n) or None, at a product
    each; handed on are the ``keep`` combinations z of all directions with the smallest ‖Az‖/‖z‖,
    along which the next system, where A has changed little, would converge slowest. Cost: a product
    and 8 m n flops per step at m directions, one product for each round; memory: 2 m states, m at
    most 60. Arguments and errors else are those of ``gmres``.

    Examples
    --------
    >>> rates, b = torch.tensor([[1.0, 0.9, 0.1, 0.01]]).double(), torch.ones(1, 4).double()
    >>> A = lambda x: rates * x
    >>> first = recycled(A, b, None, tol=1e-9, max_steps=20, keep=2)
    >>> second = recycled(A, b + rates, first.space, tol=1e-9, max_steps=20, keep=2)
    >>> first.solution.steps, second.solution.steps
    (tensor([5]), tensor([5]))
    """
    positive_integer("keep", keep, most=_MOST // 2)
    if b.is_complex():
        found = recycled(
            real_system(matvec),
            as_real(b),
            space,
            tol=tol,
            max_steps=max_steps,
            x0=None if x0 is None else as_real(x0),
            keep=keep,
        )
        complex_x = as_complex(found.solution.x)
        return replace(found, solution=replace(found.solution, x=complex_x))
    tol = checked_tolerance(tol, max_steps, b.dtype)
    scale = norm(b).clamp_min(torch.finfo(b.dtype).tiny)
    x, r, known, used = _begun(matvec, b, space, x0)
    steps = torch.full_like(scale, used, dtype=torch.int64)
    for _ in range(_ROUNDS):
        before = norm(r) / scale
        while used < max_steps - 1 and (active := norm(r) > tol * scale).any():
            p = torch.where(expand(active, r), r, 0.0)
            c = known.add(rows(p), rows(matvec(p)))
            used, steps = used + 1, torch.where(active, steps + 1, steps)
            if not c.any():
                break
            along = products(c[:, None], rows(r))
            x = x + (along * known.p[:, -1]).view_as(b)
            r = r - (along * c).view_as(b)
            if known.p.shape[1] == _MOST:
                known.keep(keep)
        r, used, steps = b - matvec(x), used + 1, steps + 1
        residual = norm(r) / scale
        gained = (residual < _GAIN * before) & (residual > tol)
        if used >= max_steps - 1 or not gained.any():
            break
    known.keep(keep)
    handed = pad(known.p, (0, 0, 0, keep - known.p.shape[1]))
    return Recycled(LinearSolution(x, residual, steps, residual <= tol), handed)


def _begun(
    matvec: MatVec, b: Tensor, space: Tensor | None, x0: Tensor | None
) -> tuple[Tensor, Tensor, _Directions, int]:
    """x with the least r = b − A x over ``space`` from ``x0``, r, the directions, the products."""
    x = torch.zeros_like(b) if x0 is None else start(x0, b)
    r, used = (b, 0) if x0 is None else (b - matvec(x), 1)
    known = _Directions(b)
    # of a sample with fewer directions the others are zero, and so are their images
    for u in () if space is None else space.to(b.dtype).unbind(1):
        known.add(u, rows(matvec(u.view_as(b))))
        used += 1
    along = products(known.c, rows(r))
    x = x + combination(along, known.p).view_as(b)
    return x, r - combination(along, known.c).view_as(b), known, used
