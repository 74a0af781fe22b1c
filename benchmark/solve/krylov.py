"""Krylov solvers of A x = b, in cycles that start from the true residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.options.checks import positive_integer
from benchmark.solve.system import (
    QUIET,
    LinearSolution,
    ProjectedSystem,
    checked_tolerance,
    scale_of,
    solution,
    start,
)
from benchmark.solve.vectors import (
    Array,
    MatVec,
    combination,
    dot,
    expand_from_host,
    norm,
    on_host,
    products,
    rows,
    select,
)


def gmres(
    matvec: MatVec,
    b: Tensor,
    *,
    tol: float,
    max_steps: int,
    x0: Tensor | None = None,
    restart: int = 50,
) -> LinearSolution:
    """The x that minimises ‖b − A x‖ over x⁰ + the Krylov space, rebuilt after ``restart`` steps.

    Saad and Schultz, "GMRES" (1986), the basis orthogonalised by classical Gram-Schmidt, a second
    time where the first cancels. x⁰ is zero by default. Needs no symmetry; without restart it ends
    in as many products as the dimension. Each cycle starts with the true residual, so that what is
    reported is not a recurrence's. Memory: ``restart`` + 3 vectors.
    """
    positive_integer("restart", restart)
    return _in_cycles(
        _gmres_cycle, matvec, b, tol=tol, max_steps=max_steps, x0=x0, cycle_size=restart
    )


def bicgstab(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Van der Vorst, "Bi-CGSTAB" (1992), from x⁰, by default zero.

    Needs no symmetry, two products per step and no basis. It may break down, or believe its
    recurrence when the residual is elsewhere: where it breaks down or thinks it is done, the true
    residual is computed, and it starts again from there for as long as that gains anything. A
    sample keeps the best point of its recurrence. Memory: ten vectors.
    """
    return _in_cycles(
        _bicgstab_cycle, matvec, b, tol=tol, max_steps=max_steps, x0=x0, cycle_size=max_steps
    )


def cg(
    matvec: ProjectedSystem, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Conjugate gradients (Hestenes and Stiefel, 1952) for A = I − G P on the range of P.

    There u = Px solves (I − PGP) u = Pb, which is symmetric, and then x = b + Gu. It must be
    positive definite too: a direction with ⟨p, (I − PG)p⟩ ≤ 0 shows that it is not, and the sample
    stops there. A G or P that is not as ``ProjectedSystem`` says can go unnoticed, but not in
    ``residual``, which is the true one. Cost: a product with P and one with G each step,
    and at the end; memory: seven vectors. From ``x0``, by default zero.

    Raises ValueError for a ``matvec`` that is not of that form.
    """
    if not isinstance(matvec, ProjectedSystem):
        raise ValueError(
            "cg needs a layer that is a gradient step followed by a projection in its derivative, "
            "as soft-thresholding is, and that says so (an attribute `splitting`)"
        )
    return _in_cycles(
        _cg_cycle, matvec, b, tol=tol, max_steps=max_steps, x0=x0, cycle_size=max_steps
    )


@dataclass(frozen=True)
class _Cycle:
    """correction : (N, …), to be added to x, zero for samples that were not active.
    products : (N,), used per sample, at least one sample by every product.
    hopeless : (N,), samples that another cycle would not help.
    """

    correction: Tensor
    products: Array
    hopeless: Array


@QUIET
def _in_cycles(
    cycle: Callable[[MatVec, Tensor, Array, Array, int], _Cycle],
    matvec: MatVec,
    b: Tensor,
    *,
    tol: float,
    max_steps: int,
    x0: Tensor | None,
    cycle_size: int,
) -> LinearSolution:
    """x ← x + the cycle's correction, r ← b − A x, until ‖r‖ is within ``tol``.

    ``cycle(matvec, r, active, target, size)`` solves A c = r to ‖r − A c‖ ≤ ``target`` (N,) as far
    as ``size`` products go. A correction that makes a sample's residual larger is not taken.
    """
    tol = checked_tolerance(tol, max_steps, b.dtype)
    steps = np.zeros(len(b), dtype=int)
    scale, used = scale_of(b), 0
    if x0 is None:
        x, r = 0.0, b  # a number: no memory for a zero state while the first cycle is at work
    else:
        x = start(x0, b)
        r, used, steps = b - matvec(x), 1, steps + 1
    residual = on_host(norm(r))[0] / scale
    best = np.full(len(b), np.inf)
    hopeless = np.zeros(len(b), dtype=bool)
    while True:
        # a cycle that gains nothing has met the rounding floor: more of them would change nothing
        active = (residual > tol) & (residual < 0.99 * best) & ~hopeless
        best = np.minimum(best, residual)
        size = min(cycle_size, max_steps - used - 1)
        if size < 1 or not active.any():
            break
        done = cycle(matvec, r, active, tol * scale, size)
        moved = x + done.correction
        r_moved = b - matvec(moved)
        used += int(done.products.max()) + 1
        steps = np.where(active, steps + done.products + 1, steps)
        hopeless = hopeless | done.hopeless
        residual_moved = on_host(norm(r_moved))[0] / scale
        # false for NaN: a residual that no longer is a number is none to go on from
        taken = active & (residual_moved < residual)
        x = select(taken, moved, x)
        r = select(taken, r_moved, r)
        residual = np.where(taken, residual_moved, residual)
        del done, moved, r_moved  # nor for what the next cycle does not need
    x = x if isinstance(x, Tensor) else torch.zeros_like(b)
    return solution(x, residual, steps, tol)


#: a vector that Gram-Schmidt leaves less than this of itself is orthogonalised once more
_CANCELS = 0.1


def _gmres_cycle(matvec: MatVec, r: Tensor, active: Array, target: Array, size: int) -> _Cycle:
    """At most ``size`` steps of GMRES: A V = V⁺ H, y minimising ‖βe₁ − H y‖, correction V y.

    The smallest residual so far is β / ‖u‖, u the vector with uᵀH = 0 and u₀ = 1, which gains an
    entry per step and needs no factorisation of H until the end. H and u are on the host.
    """
    n = len(r)
    eps, tiny = torch.finfo(r.dtype).eps, torch.finfo(r.dtype).tiny
    (beta,) = on_host(norm(r))
    basis = r.new_zeros(n, size, r[0].numel())
    torch.mul(rows(r), expand_from_host(1 / beta.clip(tiny), rows(r)), out=basis[:, 0])
    hessenberg = np.zeros((n, size + 1, size))
    u = np.zeros((n, size + 1))
    u[:, 0] = 1
    used = spent = np.zeros(n, dtype=int)
    for j in range(size):
        w = rows(matvec(basis[:, j].view_as(r)))
        spent = spent + active
        past = basis[:, : j + 1]
        w, h, before, length = _orthogonalise(w, past)
        cancels = length < _CANCELS * before
        if cancels.any():
            # for samples that do not need it, it does no harm
            w, overlap, _, length = _orthogonalise(w, past)
            h = h + overlap
        # what rounding leaves of a vector inside the space is not a direction
        length = np.where(length > 10 * eps * before, length, 0.0)
        if j + 1 < size:
            inverse = np.where(length > 0, 1 / length.clip(tiny), 0.0)
            torch.mul(w, expand_from_host(inverse, w), out=basis[:, j + 1])
        del w  # not held during the next product
        hessenberg[:, : j + 1, j] = h
        hessenberg[:, j + 1, j] = length
        against = (u[:, : j + 1] * h).sum(1)
        # without a new direction the column closes the system, unless it is not independent
        closes = np.abs(against) > 10 * eps * np.linalg.norm(u, axis=1) * before
        usable = active & ((length > 0) | closes)
        u[:, j + 1] = np.where(usable, -against / length, 0.0)
        used = used + usable
        # a sample without a new direction, or at its target, is done
        active = usable & (beta / np.linalg.norm(u, axis=1) > target) & (length > 0)
        if not active.any():
            break
    size = j + 1
    columns = np.arange(size) < used[:, None]
    hessenberg = np.where(columns[:, None], hessenberg[:, : size + 1, :size], 0.0)
    q, triangle = (torch.from_numpy(part) for part in np.linalg.qr(hessenberg))
    triangle = triangle + torch.diag_embed(torch.from_numpy(~columns).double())
    right = torch.from_numpy(np.where(columns, beta[:, None] * q[:, 0].numpy(), 0.0))
    y = torch.linalg.solve_triangular(triangle, right[..., None], upper=True)[..., 0]
    correction = combination(y.to(r), basis[:, :size]).view_as(r)
    return _Cycle(correction, spent, np.zeros(n, dtype=bool))


def _orthogonalise(w: Tensor, past: Tensor) -> tuple[Tensor, Array, Array, Array]:
    """w (N, n) without its parts along ``past`` (N, K, n), these (N, K), ‖w‖ before and after."""
    before, h = norm(w), products(past, w)
    w = w - combination(h, past)
    return w, *on_host(h, before, norm(w))


def _bicgstab_cycle(matvec: MatVec, r: Tensor, active: Array, target: Array, size: int) -> _Cycle:
    """BiCGStab on A c = r from c = 0, its shadow residual r, until its first breakdown."""
    x = best = zero = torch.zeros_like(r)
    shadow = p = select(active, r, zero)
    r = shadow
    rho, smallest = on_host(dot(shadow, r), norm(r))
    used = np.zeros(len(r), dtype=int)
    eps = torch.finfo(r.dtype).eps
    # two products per step, and none beyond ``size``
    for _ in range(size // 2):
        v = matvec(p)
        along, shadow_size, v_size = on_host(dot(shadow, v), norm(shadow), norm(v))
        sound = np.abs(along) > eps * shadow_size * v_size
        alpha = np.where(active & sound, rho / along, 0.0)
        s = torch.addcmul(r, expand_from_host(-alpha, r), v)
        t = matvec(s)
        ts, tt = on_host(dot(t, s), dot(t, t))
        omega = np.where(active & sound & np.isfinite(ts / tt), ts / tt, 0.0)
        used = np.where(active, used + 2, used)
        x = x + expand_from_host(alpha, x) * p + expand_from_host(omega, x) * s
        r = torch.addcmul(s, expand_from_host(-omega, s), t)
        rho_next, length = on_host(dot(shadow, r), norm(r))
        better = active & (length < smallest)
        best = select(better, x, best)
        smallest = np.where(better, length, smallest)
        beta = rho_next / rho * (alpha / omega)
        # ω = 0 and a residual orthogonal to the shadow are the other two ways to break down
        sound = sound & (np.abs(rho_next) > eps * shadow_size * length) & np.isfinite(beta)
        active = active & sound & (length > target)
        if not active.any():
            break
        p = torch.addcmul(p, expand_from_host(-omega, p), v)
        p = select(
            active, torch.addcmul(r, expand_from_host(np.where(active, beta, 0.0), p), p), zero
        )
        rho = rho_next
    return _Cycle(best, used, np.zeros(len(used), dtype=bool))


def _cg_cycle(A: ProjectedSystem, r: Tensor, active: Array, target: Array, size: int) -> _Cycle:
    """Conjugate gradients on A c = r from c = 0, until a direction with ⟨p, (I − PG)p⟩ ≤ 0."""
    p = s = A.P(r)
    u = torch.zeros_like(s)
    (rho,) = on_host(dot(s, s))
    # the P above and the G below are a product too
    used = active.astype(int)
    indefinite = np.zeros_like(active)
    active = active & (np.sqrt(rho) > target)
    for _ in range(size - 1):
        if not active.any():
            break
        image = p - A.P(A.G(p))
        used = used + active
        (curvature,) = on_host(dot(p, image))
        indefinite = indefinite | (active & ~(curvature > 0))
        active = active & ~indefinite
        alpha = np.where(active, rho / curvature, 0.0)
        u = torch.addcmul(u, expand_from_host(alpha, u), p)
        s = torch.addcmul(s, expand_from_host(-alpha, s), image)
        del image  # not held during the next product
        (now,) = on_host(dot(s, s))
        active = active & (np.sqrt(now) > target)
        p = torch.addcmul(s, expand_from_host(np.where(active, now / rho, 0.0), p), p)
        rho = now
    return _Cycle(r + A.G(u), used, indefinite)
