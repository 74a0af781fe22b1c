"""Solvers of linear systems A x = b known by their products, one system per sample of a batch.

They know nothing of imaging: ``matvec`` maps (N, …) to (N, …), each sample by its own matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from benchmark.checks import positive_integer, positive_number
from benchmark.convergence import reachable_tolerance

MatVec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LinearSolution:
    """x : (N, …); residual : (N,), ‖b − A x‖ / ‖b‖; steps : (N,), products until the sample
    converged; converged : (N,), whether ``residual`` is within the tolerance.
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor


def rows(a: Tensor) -> Tensor:
    """One row per sample, (N, …) → (N, n); a sample may be a single number."""
    return a.reshape(len(a), -1)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩ per sample, (N, …) → (N,)."""
    return (rows(a)[:, None] @ rows(b)[:, None].mT)[:, 0, 0]


def norm(a: Tensor) -> Tensor:
    """‖a‖₂ per sample, (N, …) → (N,)."""
    return torch.linalg.vector_norm(rows(a), dim=1)


def like(v: Tensor, a: Tensor) -> Tensor:
    """``v`` (N,) shaped to broadcast against ``a`` (N, …)."""
    return v.view(-1, *[1] * (a.ndim - 1))


def products(vectors: Tensor, w: Tensor) -> Tensor:
    """⟨v_k, w⟩ per sample, (N, K, n), (N, n) → (N, K).

    The vector stands on the left: CPU libraries are several times slower the other way round.
    """
    return (w[:, None] @ vectors.mT)[:, 0]


def combination(coefficients: Tensor, vectors: Tensor) -> Tensor:
    """Σ_k c_k v_k per sample, (N, K), (N, K, n) → (N, n)."""
    return (coefficients[:, None] @ vectors)[:, 0]


@final
class AndersonMixing:
    """Anderson's next point for x = T(x): T(x) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(x) − x.

    ΔT and Δf hold the last ``depth`` differences of T(x) and f in a ring, with the Gram matrix and
    the products of Δf, a row at a time; Tikhonov regularisation relative to the size of Δf. One
    least-squares problem per sample. Memory: 2 ``depth`` + 2 vectors, from the first step on.
    Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011).
    """

    def __init__(self, *, depth: int) -> None:
        self.depth = depth
        self.step = 0
        self.last: tuple[Tensor, Tensor] | None = None

    def propose(self, image: Tensor, f: Tensor, *, forget: Tensor | None = None) -> Tensor:
        """The next point, (N, …), from T(x) and f; samples in ``forget`` (N,) start afresh."""
        shape, image, f = image.shape, rows(image), rows(f)
        if self.last is None:
            self.last = image, f
            n, size = f.shape
            self.image_steps = f.new_zeros(n, self.depth, size)
            self.f_steps = f.new_zeros(n, self.depth, size)
            self.gram = f.new_zeros(n, self.depth, self.depth)
            self.right = f.new_zeros(n, self.depth)
            self.known = torch.zeros_like(self.right, dtype=torch.bool)
            self.eye = torch.eye(self.depth, dtype=f.dtype, device=f.device)
            return image.view(shape)
        slot = self.step % self.depth
        self.step += 1
        f_step = f - self.last[1]
        self.image_steps[:, slot] = image - self.last[0]
        self.f_steps[:, slot] = f_step
        self.last = image, f
        self.gram[:, slot] = self.gram[:, :, slot] = row = products(self.f_steps, f_step)
        # ⟨Δf_k, f⟩ = ⟨Δf_k, f'⟩ + ⟨Δf_k, f − f'⟩ saves reading all of Δf once more
        self.right += row
        self.right[:, slot] = dot(f_step, f)
        self.known[:, slot] = True
        if forget is not None:
            self.known &= ~forget[:, None]
        # a difference that is not known has no part in the least squares
        gram = torch.where(self.known[:, :, None] & self.known[:, None], self.gram, 0.0)
        right = torch.where(self.known, self.right, 0.0)
        size = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(f.dtype).tiny)
        normal = gram / like(size, gram) + 10 * torch.finfo(f.dtype).eps * self.eye
        gamma, _ = torch.linalg.solve_ex(normal, right / like(size, right))
        gamma = torch.where(self.known & gamma.isfinite(), gamma, 0.0)
        return (image - combination(gamma, self.image_steps)).view(shape)


def neumann(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """x ← x + (b − A x) from x⁰, by default b: the series Σ_k (I − A)ᵏ b, or Richardson's.

    Converges where the spectral radius of I − A is below 1. Memory: two vectors.
    """
    return _richardson(matvec, b, lambda image, r: image, tol=tol, max_steps=max_steps, x0=x0)


def anderson(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, x0: Tensor | None = None
) -> LinearSolution:
    """Anderson mixing of depth 10 on x ← x + (b − A x) from x⁰, by default b.

    Without its limited depth it would be GMRES (Walker and Ni, 2011). Sound where the spectral
    radius of I − A is below 1, and often beyond. Memory: 24 vectors.
    """
    mixing = AndersonMixing(depth=10)
    return _richardson(matvec, b, mixing.propose, tol=tol, max_steps=max_steps, x0=x0)


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


@dataclass(frozen=True)
class ProjectedSystem:
    """A = I − G P with G symmetric and P an orthogonal projection.

    P and G map (N, …) to (N, …). The adjoint of forward-backward with soft-thresholding is of this
    form: J = P G, G the Jacobian of the gradient step, P that of the threshold.
    """

    P: MatVec
    G: MatVec

    def __call__(self, x: Tensor) -> Tensor:
        """A x, each sample by its own matrix."""
        return x - self.G(self.P(x))


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
            "as soft-thresholding is, and that says so (LowerLevelProblem.halves)"
        )
    return _in_cycles(
        _cg_cycle, matvec, b, tol=tol, max_steps=max_steps, x0=x0, cycle_size=max_steps
    )


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


def _richardson(
    matvec: MatVec,
    b: Tensor,
    propose: Callable[[Tensor, Tensor], Tensor],
    *,
    tol: float,
    max_steps: int,
    x0: Tensor | None,
) -> LinearSolution:
    """x ← propose(x + r, r), r = b − A x, until every sample's residual is within ``tol``."""
    tol = _checked_tolerance(tol, max_steps, b.dtype)
    x, scale = b if x0 is None else _start(x0, b), _scale(b)
    steps = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    residual = torch.full_like(scale, torch.inf)
    active = torch.ones_like(scale, dtype=torch.bool)
    for step in range(1, max_steps + 1):
        r = b - matvec(x)
        residual = torch.where(active, norm(r) / scale, residual)
        steps = torch.where(active, step, steps)
        active = active & (residual > tol) & residual.isfinite()
        if step == max_steps or not active.any():
            break
        x = torch.where(like(active, x), propose(x + r, r), x)
    return LinearSolution(x, residual, steps, residual <= tol)


@dataclass(frozen=True)
class _Cycle:
    """correction : (N, …), to be added to x, zero for samples that were not active.
    products : (N,), used per sample, at least one sample by every product.
    hopeless : (N,), samples that another cycle would not help.
    """

    correction: Tensor
    products: Tensor
    hopeless: Tensor


def _in_cycles(
    cycle: Callable[[MatVec, Tensor, Tensor, Tensor, int], _Cycle],
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
    tol = _checked_tolerance(tol, max_steps, b.dtype)
    steps = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    scale, used = _scale(b), 0
    if x0 is None:
        x, r = 0.0, b  # a number: no memory for a zero state while the first cycle is at work
    else:
        x = _start(x0, b)
        r, used, steps = b - matvec(x), 1, steps + 1
    residual = norm(r) / scale
    best = torch.full_like(scale, torch.inf)
    hopeless = torch.zeros_like(scale, dtype=torch.bool)
    while True:
        # a cycle that gains nothing has met the rounding floor: more of them would change nothing
        active = (residual > tol) & (residual < 0.99 * best) & ~hopeless
        best = torch.minimum(best, residual)
        size = min(cycle_size, max_steps - used - 1)
        if size < 1 or not active.any():
            break
        done = cycle(matvec, r, active, tol * scale, size)
        moved = x + done.correction
        r_moved = b - matvec(moved)
        used += int(done.products.max()) + 1
        steps = torch.where(active, steps + done.products + 1, steps)
        hopeless = hopeless | done.hopeless
        residual_moved = norm(r_moved) / scale
        # false for NaN: a residual that no longer is a number is none to go on from
        taken = active & (residual_moved < residual)
        x = torch.where(like(taken, b), moved, x)
        r = torch.where(like(taken, b), r_moved, r)
        residual = torch.where(taken, residual_moved, residual)
        del done, moved, r_moved  # nor for what the next cycle does not need
    x = x if isinstance(x, Tensor) else torch.zeros_like(b)
    return LinearSolution(x, residual, steps, residual <= tol)


#: a vector that Gram-Schmidt leaves less than this of itself is orthogonalised once more
_CANCELS = 0.1


def _gmres_cycle(matvec: MatVec, r: Tensor, active: Tensor, target: Tensor, size: int) -> _Cycle:
    """At most ``size`` steps of GMRES: A V = V⁺ H, y minimising ‖βe₁ − H y‖, correction V y.

    The smallest residual so far is β / ‖u‖, u the vector with uᵀH = 0 and u₀ = 1, which gains an
    entry per step and needs no factorisation of H until the end.
    """
    n, options = len(r), {"dtype": r.dtype, "device": r.device}
    eps, tiny = torch.finfo(r.dtype).eps, torch.finfo(r.dtype).tiny
    beta = norm(r)
    basis = torch.zeros(n, size, r[0].numel(), **options)
    basis[:, 0] = rows(r) / beta.clamp_min(tiny)[:, None]
    hessenberg = torch.zeros(n, size + 1, size, **options)
    u = torch.zeros(n, size + 1, **options)
    u[:, 0] = 1
    used = spent = torch.zeros(n, dtype=torch.int64, device=r.device)
    for j in range(size):
        w = rows(matvec(basis[:, j].view_as(r)))
        spent = spent + active
        before = norm(w)
        past = basis[:, : j + 1]
        h = products(past, w)
        w = w - combination(h, past)
        length = norm(w)
        cancels = length < _CANCELS * before
        if cancels.any():
            overlap = torch.where(cancels[:, None], products(past, w), 0.0)
            h = h + overlap
            w = w - combination(overlap, past)
            length = norm(w)
        # what rounding leaves of a vector inside the space is not a direction
        length = torch.where(length > 10 * eps * before, length, 0.0)
        if j + 1 < size:
            inverse = torch.where(length > 0, 1 / length.clamp_min(tiny), 0.0)
            torch.mul(w, inverse[:, None], out=basis[:, j + 1])
        del w  # not held during the next product
        hessenberg[:, : j + 1, j] = h
        hessenberg[:, j + 1, j] = length
        against = dot(u[:, : j + 1], h)
        # without a new direction the column closes the system, unless it is not independent
        closes = against.abs() > 10 * eps * norm(u) * before
        usable = active & ((length > 0) | closes)
        u[:, j + 1] = torch.where(usable, -against / length, 0.0)
        used = used + usable
        # a sample without a new direction, or at its target, is done
        active = usable & (beta / norm(u) > target) & (length > 0)
        if not active.any():
            break
    size = j + 1
    columns = torch.arange(size, device=r.device) < used[:, None]
    hessenberg = torch.where(columns[:, None], hessenberg[:, : size + 1, :size], 0.0)
    q, triangle = torch.linalg.qr(hessenberg)
    triangle = triangle + torch.diag_embed((~columns).to(r.dtype))
    right = torch.where(columns, beta[:, None] * q[:, 0], 0.0)
    y = torch.linalg.solve_triangular(triangle, right[..., None], upper=True)[..., 0]
    correction = combination(y, basis[:, :size]).view_as(r)
    return _Cycle(correction, spent, torch.zeros_like(active))


def _bicgstab_cycle(matvec: MatVec, r: Tensor, active: Tensor, target: Tensor, size: int) -> _Cycle:
    """BiCGStab on A c = r from c = 0, its shadow residual r, until its first breakdown."""
    x = best = torch.zeros_like(r)
    shadow = p = torch.where(like(active, r), r, 0.0)
    r = shadow
    rho, smallest = dot(shadow, r), norm(r)
    used = torch.zeros(len(r), dtype=torch.int64, device=r.device)
    eps = torch.finfo(r.dtype).eps
    # two products per step, and none beyond ``size``
    for _ in range(size // 2):
        v = matvec(p)
        along = dot(shadow, v)
        sound = along.abs() > eps * norm(shadow) * norm(v)
        alpha = torch.where(active & sound, rho / along, 0.0)
        s = r - like(alpha, r) * v
        t = matvec(s)
        omega = dot(t, s) / dot(t, t)
        omega = torch.where(active & sound & omega.isfinite(), omega, 0.0)
        used = torch.where(active, used + 2, used)
        x = x + like(alpha, x) * p + like(omega, x) * s
        r = s - like(omega, r) * t
        length = norm(r)
        better = active & (length < smallest)
        best = torch.where(like(better, x), x, best)
        smallest = torch.where(better, length, smallest)
        rho_next = dot(shadow, r)
        beta = rho_next / rho * (alpha / omega)
        # ω = 0 and a residual orthogonal to the shadow are the other two ways to break down
        sound = sound & (rho_next.abs() > eps * norm(shadow) * length) & beta.isfinite()
        active = active & sound & (length > target)
        if not active.any():
            break
        p = torch.where(like(active, r), r + like(beta, r) * (p - like(omega, r) * v), 0.0)
        rho = rho_next
    return _Cycle(best, used, torch.zeros_like(active))


def _cg_cycle(A: ProjectedSystem, r: Tensor, active: Tensor, target: Tensor, size: int) -> _Cycle:
    """Conjugate gradients on A c = r from c = 0, until a direction with ⟨p, (I − PG)p⟩ ≤ 0."""
    p = s = A.P(r)
    u = torch.zeros_like(s)
    rho = dot(s, s)
    # the P above and the G below are a product too
    used = active.to(torch.int64)
    indefinite = torch.zeros_like(active)
    active = active & (rho.sqrt() > target)
    for _ in range(size - 1):
        if not active.any():
            break
        image = p - A.P(A.G(p))
        used = used + active
        curvature = dot(p, image)
        indefinite = indefinite | (active & ~(curvature > 0))
        active = active & ~indefinite
        alpha = like(torch.where(active, rho / curvature, 0.0), p)
        u = torch.addcmul(u, alpha, p)
        s = torch.addcmul(s, alpha, image, value=-1)
        del image  # not held during the next product
        rho, before = dot(s, s), rho
        active = active & (rho.sqrt() > target)
        p = torch.addcmul(s, like(torch.where(active, rho / before, 0.0), s), p)
    return _Cycle(r + A.G(u), used, indefinite)


def _start(x0: Tensor, b: Tensor) -> Tensor:
    """``x0`` without its graph; zero, the solution, for samples whose right-hand side is zero."""
    return torch.where(like(norm(b) > 0, b), x0.detach(), 0.0)


def _scale(b: Tensor) -> Tensor:
    return norm(b).clamp_min(torch.finfo(b.dtype).tiny)


def _checked_tolerance(tol: float, max_steps: int, dtype: torch.dtype) -> float:
    positive_number("tol", tol)
    positive_integer("max_steps", max_steps)
    return max(tol, reachable_tolerance(dtype))
