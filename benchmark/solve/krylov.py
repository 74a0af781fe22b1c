"""Krylov solvers of A x = b, in cycles that start from the true residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmark.options.checks import positive_integer
from benchmark.solve.complex_numbers import as_complex, as_real
from benchmark.solve.growing import Vectors
from benchmark.solve.system import (
    QUIET,
    LinearSolution,
    ProjectedSystem,
    System,
    checked_tolerance,
    real_system,
    scale_of,
    solution,
    start,
)
from benchmark.solve.vectors import (
    Array,
    MatVec,
    dot,
    expand_from_host,
    norm,
    on_host,
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
    time where the first cancels. Needs no symmetry; without restart it ends in as many products as
    A has distinct eigenvalues, and one for the true residual, with which each cycle ends: what is
    reported is not a recurrence's. Cost: a product, and 2 ``restart`` n flops on average, per step;
    memory: ``restart`` + 3 vectors, fewer where it ends earlier (``Vectors``).

    Parameters
    ----------
    matvec : x (N, …) ↦ A x, each sample by its own matrix.
    b : (N, …), the right-hand sides.
    tol : the relative residual ‖b − A x‖ / ‖b‖ asked for, floored at ``reachable_tolerance``.
    max_steps : products at most.
    x0 : (N, …), where to start, by default zero; its residual is a product too.
    restart : vectors in the basis.

    Raises
    ------
    ValueError
        Unless ``tol`` is a finite number > 0, ``max_steps`` and ``restart`` integers ≥ 1.

    Examples
    --------
    >>> rates = torch.tensor([1.0, 2.0, 2.0, 3.0])  # three distinct eigenvalues
    >>> found = gmres(lambda x: rates * x, torch.ones(1, 4), tol=1e-5, max_steps=20)
    >>> found.x, found.steps
    (tensor([[1.0000, 0.5000, 0.5000, 0.3333]]), tensor([4]))
    """
    positive_integer("restart", restart, most=10_000)
    return _in_cycles(
        _gmres_cycle, matvec, b, tol=tol, max_steps=max_steps, x0=x0, cycle_size=restart
    )


def bicgstab(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Van der Vorst, "Bi-CGSTAB" (1992), from x⁰, by default zero; needs no symmetry, no basis.

    It may break down, or believe its recurrence when the residual is elsewhere: where it breaks
    down or thinks it is done, the true residual is computed, and it starts again from there for as
    long as that gains anything. A sample keeps the best point of its recurrence. Cost: two products
    per step, one at the end; memory: ten vectors. Arguments and errors are those of ``gmres``.

    Examples
    --------
    >>> A = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    >>> bicgstab(lambda x: x @ A.T, torch.tensor([[3.0, 1.0]]), tol=1e-5, max_steps=20).x
    tensor([[1., 1.]])
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
    and at the end; memory: seven vectors. Arguments are those of ``gmres``, x⁰ zero by default.

    Raises
    ------
    ValueError
        For a ``matvec`` that is not of that form, and where ``gmres`` does.

    Examples
    --------
    >>> kept, rates = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.5, 0.0, 0.9])
    >>> A = ProjectedSystem(P=lambda x: kept * x, G=lambda x: rates * x)
    >>> found = cg(A, torch.ones(1, 3), tol=1e-5, max_steps=20)
    >>> found.x, found.steps  # two eigenvalues on the range of P
    (tensor([[2., 1., 1.]]), tensor([4]))
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
    """What some steps of a method come to.

    correction : (N, …), to be added to x, zero for samples that were not active.
    products : (N,), used per sample, at least one sample by every product.
    hopeless : (N,), samples that another cycle would not help.
    """

    correction: Tensor
    products: Array
    hopeless: Array


@QUIET
def _in_cycles(
    cycle: Callable[[System, Tensor, Array, Array, int], _Cycle],
    matvec: System,
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
    if b.is_complex():
        found = _in_cycles(
            cycle,
            real_system(matvec),
            as_real(b),
            tol=tol,
            max_steps=max_steps,
            x0=None if x0 is None else as_real(x0),
            cycle_size=cycle_size,
        )
        return replace(found, x=as_complex(found.x))
    tol = checked_tolerance(tol, max_steps, b.dtype)
    # a number: no memory for a zero state while the first cycle is at work
    x = b.new_zeros(()) if x0 is None else start(x0, b)
    r = b if x0 is None else b - matvec(x)
    used = int(x0 is not None)
    steps, hopeless = np.full(len(b), used), np.zeros(len(b), dtype=bool)
    scale = scale_of(b)
    residual, best = on_host(norm(r))[0] / scale, np.full(len(b), np.inf)
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
    return solution(x if x.ndim else torch.zeros_like(b), residual, steps, tol)


#: singular values of H below this many units of rounding of the largest are taken for zero
_NOISE = 10.0
#: a vector that Gram-Schmidt leaves less than this of itself is orthogonalised once more
_CANCELS = 0.1


def _gmres_cycle(matvec: MatVec, r: Tensor, active: Array, target: Array, size: int) -> _Cycle:
    """At most ``size`` steps of GMRES: A V = V⁺ H, y minimising ‖βe₁ − H y‖, correction V y."""
    tiny = torch.finfo(r.dtype).tiny
    (beta,) = on_host(norm(r))
    basis = Vectors(rows(r), most=size)
    torch.mul(rows(r), expand_from_host(1 / beta.clip(tiny), rows(r)), out=basis.slot(0))
    projected = _Projected(beta, size=size, eps=torch.finfo(r.dtype).eps)
    spent = np.zeros(len(r), dtype=int)
    for j in range(size):
        spent = spent + active
        new = _orthogonalise(rows(matvec(basis.slot(j).view_as(r))), basis)
        active = projected.append(new, active=active, target=target)
        if not active.any() or j + 1 == size:
            break
        inverse = np.where(new.length > 0, 1 / new.length.clip(tiny), 0.0)
        torch.mul(new.w, expand_from_host(inverse, new.w), out=basis.slot(j + 1))
        del new  # not held during the next product
    y = projected.solve()
    correction = basis.combination(y.to(r)).view_as(r)
    return _Cycle(correction, spent, np.zeros(len(r), dtype=bool))


@dataclass(frozen=True)
class _Orthogonalised:
    """w : (N, n), a vector without its parts along those before it.
    along : (N, K), these parts.
    before : (N,), ‖w‖ with them.
    length : (N,), ‖w‖ without; zero where no more is left than rounding leaves.
    """

    w: Tensor
    along: Array
    before: Array
    length: Array


def _orthogonalise(w: Tensor, past: Vectors) -> _Orthogonalised:
    """``w`` (N, n) less its projection on the K orthonormal vectors of ``past``."""
    size, h = norm(w), past.products(w)
    w = w - past.combination(h)
    along, before, length = on_host(h, size, norm(w))
    if (length < _CANCELS * before).any():
        # for samples that do not need it, it does no harm
        h = past.products(w)
        w = w - past.combination(h)
        overlap, length = on_host(h, norm(w))
        along = along + overlap
    # what rounding leaves of a vector inside the space is not a direction
    length = np.where(length > 10 * torch.finfo(w.dtype).eps * before, length, 0.0)
    return _Orthogonalised(w, along, before, length)


class _Projected:
    """min ‖βe₁ − H y‖ on the host, H (N, size + 1, size) upper Hessenberg, a column at a time.

    The smallest residual so far is β / ‖u‖, u the vector with uᵀH = 0 and u₀ = 1, which gains an
    entry per column and needs no factorisation of H until the end.
    """

    def __init__(self, beta: Array, *, size: int, eps: float) -> None:
        n = len(beta)
        self.beta, self.eps, self.columns = beta, eps, 0
        self.H, self.u = np.zeros((n, size + 1, size)), np.zeros((n, size + 1))
        self.u[:, 0] = 1
        self.used = np.zeros(n, dtype=int)

    def append(self, new: _Orthogonalised, *, active: Array, target: Array) -> Array:
        """Whether a sample goes on (N,): it has a new direction and is not at its target."""
        j, self.columns = self.columns, self.columns + 1
        self.H[:, : j + 1, j] = new.along
        self.H[:, j + 1, j] = new.length
        against = (self.u[:, : j + 1] * new.along).sum(1)
        # without a new direction the column closes the system, unless it is not independent
        least = 10 * self.eps * np.linalg.norm(self.u, axis=1) * new.before
        usable = active & ((new.length > 0) | (np.abs(against) > least))
        self.u[:, j + 1] = np.where(usable, -against / new.length, 0.0)
        self.used = self.used + usable
        far = self.beta / np.linalg.norm(self.u, axis=1) > target
        going_on: Array = usable & far & (new.length > 0)
        return going_on

    def solve(self) -> Tensor:
        """y (N, columns), zero beyond the columns that a sample could use; the shortest one where A
        is singular on the space up to rounding: what b has there is left in the residual.
        """
        size = self.columns
        columns = np.arange(size) < self.used[:, None]
        H = np.where(columns[:, None], self.H[:, : size + 1, :size], 0.0)
        finite = np.asarray(np.isfinite(H).all((1, 2), keepdims=True))
        left, values, right = np.linalg.svd(np.where(finite, H, 0.0), full_matrices=False)
        seen = values > _NOISE * self.eps * values[:, :1]
        along = self.beta[:, None] * left[:, 0] * seen / np.where(seen, values, 1.0)
        return torch.from_numpy((along[:, None] @ right)[:, 0])


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
