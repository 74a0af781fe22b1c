"""Systems I − Jᵀ solved along the directions that a few random ones show J to have."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmark.options.checks import positive_integer
from benchmark.solve.system import LinearSolution, ProjectedSystem
from benchmark.solve.vectors import MatVec, combination, norm, products, rows


def sketched(
    A: MatVec, b: Tensor, *, forward: MatVec, rank: int, generator: torch.Generator
) -> LinearSolution:
    """(I − QVᵀ)⁻¹b = b + Q(I − VᵀQ)⁻¹Vᵀb, Q a basis of the range of JᵀΩ, V = JQ; A = I − Jᵀ.

    QVᵀ = QQᵀJᵀ is Jᵀ where it has no more rank; elsewhere it is no larger than Jᵀ. Ω, of ``rank``
    random columns, is drawn on the CPU and the same for all samples; ``forward`` is J. A
    ``ProjectedSystem`` A = I − GP is solved by x = b + Gu with (I − PGP)u = Pb, where PGP in the
    place of J is symmetric, and ``forward`` is not called. Nothing is iterated, and ``converged``
    says no more than that the residual, which is measured, is finite. Cost: ``rank`` + 2 products
    with A, ``rank`` with J, or, where A is projected, with A again; memory: 2 ``rank`` vectors.
    Halko, Martinsson, Tropp, "Finding structure with randomness" (2011), arXiv 0909.4061.

    Raises ValueError for a ``rank`` that is no integer ≥ 1.
    """
    positive_integer("rank", rank, most=100_000)
    n = rows(b).shape[1]
    omega = torch.randn(min(rank, n), n, generator=generator, dtype=torch.float64)
    omega = omega.to(dtype=b.dtype).to(b.device)
    if isinstance(A, ProjectedSystem):
        start, P, G = A.P(b), A.P, A.G
        transposed = forward = lambda w: P(G(P(w)))
    else:
        start, transposed = b, lambda w: w - A(w)
    z = _images(transposed, (v.expand_as(rows(b)) for v in omega), b)
    q = torch.linalg.qr(z.mT)[0].mT
    v = _images(forward, q.unbind(1), b)
    weights = torch.linalg.pinv((q - v) @ q.mT) @ products(v, rows(start))[..., None]
    x = start + combination(weights[..., 0], q).view_as(b)
    if isinstance(A, ProjectedSystem):
        x = b + A.G(x)
    residual = norm(b - A(x)) / norm(b).clamp_min(torch.finfo(b.dtype).tiny)
    steps = torch.full(residual.shape, 2 * len(omega) + 2, device=b.device)
    return LinearSolution(x, residual, steps, residual.isfinite())


def _images(matvec: MatVec, directions: Iterable[Tensor], like: Tensor) -> Tensor:
    """``matvec`` of each of the directions (N, n): (N, K, n)."""
    return torch.stack([rows(matvec(v.reshape(like.shape))) for v in directions], dim=1)
