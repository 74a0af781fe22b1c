"""Solvers of linear systems A x = b known by their products, one system per sample of a batch.

They know nothing of imaging: ``matvec`` maps (N, …) to (N, …), each sample by its own matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from benchmark.solve.krylov import bicgstab, cg, gmres
from benchmark.solve.mixing import AndersonMixing
from benchmark.solve.system import (
    QUIET,
    LinearSolution,
    ProjectedSystem,
    checked_tolerance,
    scale_of,
    solution,
    start,
)
from benchmark.solve.vectors import MatVec, norm, on_host, select


def neumann(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """x ← x + (b − A x) from x⁰, by default b: the series Σ_k (I − A)ᵏ b, or Richardson's.

    Converges where the spectral radius of I − A is below 1. Memory: two vectors.
    """
    return _richardson(matvec, b, None, tol=tol, max_steps=max_steps, x0=x0)


def anderson(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Anderson mixing of depth 10 on x ← x + (b − A x) from x⁰, by default b.

    Without its limited depth it would be GMRES (Walker and Ni, 2011). Sound where the spectral
    radius of I − A is below 1, and often beyond. Memory: 24 vectors.
    """
    mixing = AndersonMixing(depth=10)
    return _richardson(matvec, b, mixing, tol=tol, max_steps=max_steps, x0=x0)


def auto(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """``cg`` where ``matvec`` is a ``ProjectedSystem``, ``gmres`` where it is not."""
    solve = cg if isinstance(matvec, ProjectedSystem) else gmres
    return solve(matvec, b, tol=tol, max_steps=max_steps, x0=x0)


#: ``cg`` needs more of the layer than its products
ADJOINT_SOLVERS: dict[str, Callable[..., LinearSolution]] = {
    "neumann": neumann,
    "anderson": anderson,
    "gmres": gmres,
    "bicgstab": bicgstab,
    "cg": cg,
    "auto": auto,
}


@QUIET
def _richardson(
    matvec: MatVec,
    b: Tensor,
    mixing: AndersonMixing | None,
    *,
    tol: float,
    max_steps: int,
    x0: Tensor | None,
) -> LinearSolution:
    """x ← x + r, r = b − A x, mixed or not, until every sample's residual is within ``tol``."""
    tol = checked_tolerance(tol, max_steps, b.dtype)
    x, scale = b if x0 is None else start(x0, b), scale_of(b)
    steps = np.zeros(len(b), dtype=int)
    residual = np.full(len(b), np.inf)
    active = np.ones(len(b), dtype=bool)
    for step in range(1, max_steps + 1):
        r = b - matvec(x)
        image = x + r
        size, *measured = on_host(norm(r), *(mixing.measure(image, r) if mixing else ()))
        residual = np.where(active, size / scale, residual)
        steps = np.where(active, step, steps)
        active = active & (residual > tol) & np.isfinite(residual)
        if step == max_steps or not active.any():
            break
        x = select(active, mixing.propose(image, *measured) if mixing else image, x)
        del image, r  # not held during the next product
    return solution(x, residual, steps, tol)
