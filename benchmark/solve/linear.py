"""Solvers of linear systems A x = b known by their products, one system per sample of a batch.

They know nothing of imaging: ``matvec`` maps (N, …) to (N, …), each sample by its own matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from benchmark.solve.complex_numbers import as_complex, as_real
from benchmark.solve.krylov import bicgstab, cg, gmres
from benchmark.solve.mixing import AndersonMixing
from benchmark.solve.system import (
    QUIET,
    LinearSolution,
    ProjectedSystem,
    checked_tolerance,
    real_system,
    scale_of,
    solution,
    start,
)
from benchmark.solve.vectors import MatVec, norm, on_host, select


def neumann(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """x ← x + (b − A x): the series Σ_k (I − A)ᵏ b, or Richardson's iteration from another start.

    Converges where the spectral radius of I − A is below 1: the residual after k steps is
    (I − A)ᵏ r⁰. Cost: one product per step; memory: two vectors.

    Parameters
    ----------
    matvec : x (N, …) ↦ A x, each sample by its own matrix.
    b : (N, …), the right-hand sides.
    tol : the relative residual ‖b − A x‖ / ‖b‖ asked for, floored at ``reachable_tolerance``.
    max_steps : products at most.
    x0 : (N, …), where to start, by default b.

    Raises
    ------
    ValueError
        Unless ``tol`` is a finite number > 0 and ``max_steps`` an integer ≥ 1.

    Examples
    --------
    >>> import torch
    >>> found = neumann(lambda x: 0.5 * x, torch.ones(1, 2), tol=1e-3, max_steps=100)
    >>> found.x, found.steps
    (tensor([[1.9980, 1.9980]]), tensor([10]))
    """
    return _richardson(matvec, b, None, tol=tol, max_steps=max_steps, x0=x0)


def anderson(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Anderson mixing of depth 10 on x ← x + (b − A x), without asking A for symmetry.

    Without its limited depth it would be GMRES (Walker and Ni, "Anderson acceleration for
    fixed-point iterations", 2011). Sound where the spectral radius of I − A is below 1, and often
    beyond. Cost: one product per step; memory: 24 vectors. Arguments, from b by default, and errors
    are those of ``neumann``.

    Examples
    --------
    >>> import torch
    >>> rates = torch.tensor([[0.1, 0.4, 0.7]]).double()  # three eigenvalues
    >>> anderson(lambda x: rates * x, torch.ones(1, 3).double(), tol=1e-9, max_steps=99).steps
    tensor([5])
    """
    mixing = AndersonMixing(depth=10)
    return _richardson(matvec, b, mixing, tol=tol, max_steps=max_steps, x0=x0)


def auto(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """``cg`` where ``matvec`` is a ``ProjectedSystem``, ``gmres`` where it is not."""
    if isinstance(matvec, ProjectedSystem):
        return cg(matvec, b, tol=tol, max_steps=max_steps, x0=x0)
    return gmres(matvec, b, tol=tol, max_steps=max_steps, x0=x0)


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
    if b.is_complex():
        found = _richardson(
            real_system(matvec),
            as_real(b),
            mixing,
            tol=tol,
            max_steps=max_steps,
            x0=None if x0 is None else as_real(x0),
        )
        return replace(found, x=as_complex(found.x))
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
