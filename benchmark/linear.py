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


def neumann(matvec: MatVec, b: Tensor, *, tol: float, max_steps: int) -> LinearSolution:
    """x ← x + (b − A x) from x = b: the series Σ_k (I − A)ᵏ b, or Richardson's.

    Converges where the spectral radius of I − A is below 1. Memory: two vectors.
    """
    tol = _checked_tolerance(tol, max_steps, b.dtype)
    x, scale = b, _scale(b)
    steps = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    residual = torch.full_like(scale, torch.inf)
    active = torch.ones_like(scale, dtype=torch.bool)
    for step in range(1, max_steps + 1):
        r = b - matvec(x)
        residual = torch.where(active, norm(r) / scale, residual)
        steps = torch.where(active, step, steps)
        active = active & (residual > tol) & residual.isfinite()
        if not active.any():
            break
        x = torch.where(like(active, x), x + r, x)
    return LinearSolution(x, residual, steps, residual <= tol)


def gmres(
    matvec: MatVec, b: Tensor, *, tol: float, max_steps: int, restart: int = 50
) -> LinearSolution:
    """The x that minimises ‖b − A x‖ over the Krylov space, rebuilt every ``restart`` products.

    Saad and Schultz, "GMRES" (1986), the basis orthogonalised twice against itself. Needs no
    symmetry; without restart it ends in as many products as the dimension. Each cycle starts with
    the true residual, so that what is reported is not a recurrence's. Memory: ``restart`` + 3
    vectors.
    """
    tol = _checked_tolerance(tol, max_steps, b.dtype)
    positive_integer("restart", restart)
    x, scale = torch.zeros_like(b), _scale(b)
    r, steps = b, torch.zeros(len(b), dtype=torch.int64, device=b.device)
    residual, best = norm(b) / scale, torch.full_like(scale, torch.inf)
    used = 0
    while True:
        # a cycle that gains nothing has met the rounding floor: more of them would change nothing
        active = (residual > tol) & (residual < 0.99 * best)
        best = torch.minimum(best, residual)
        size = min(restart, max_steps - used - 1)
        if size < 1 or not active.any():
            break
        correction, products = _krylov_cycle(matvec, r, active, tol * scale, size)
        x = x + correction
        r = b - matvec(x)
        used += int(products.max()) + 1
        steps = torch.where(active, steps + products + 1, steps)
        residual = norm(r) / scale
    return LinearSolution(x, residual, steps, residual <= tol)


ADJOINT_SOLVERS: dict[str, Callable[..., LinearSolution]] = {"neumann": neumann, "gmres": gmres}


def _krylov_cycle(
    matvec: MatVec, r: Tensor, active: Tensor, target: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """The correction of one GMRES cycle of at most ``size`` products, and the products used (N,).

    The Hessenberg matrix is kept triangular by the accumulated rotations ``q`` as it grows, so
    that the last entry of ``g`` is the residual's norm. Inactive samples get zero.
    """
    n, options = len(r), {"dtype": r.dtype, "device": r.device}
    tiny = torch.finfo(r.dtype).tiny
    beta = norm(r)
    basis = torch.zeros(n, size + 1, r[0].numel(), **options)
    basis[:, 0] = rows(r) / beta.clamp_min(tiny)[:, None]
    triangle = torch.eye(size, **options).repeat(n, 1, 1)
    q = torch.eye(size + 1, **options).repeat(n, 1, 1)
    g = torch.zeros(n, size + 1, **options)
    g[:, 0] = torch.where(active, beta, 0.0)
    products = torch.zeros(n, dtype=torch.int64, device=r.device)
    used = torch.zeros_like(products)
    for j in range(size):
        w = rows(matvec(basis[:, j].view_as(r)))
        products = products + active
        h = torch.zeros(n, size + 1, **options)
        before = torch.linalg.vector_norm(w, dim=1)
        past = basis[:, : j + 1]
        for _ in range(2):
            overlap = (past @ w[..., None])[..., 0]
            w = w - (overlap[:, None] @ past)[:, 0]
            h[:, : j + 1] += overlap
        length = torch.linalg.vector_norm(w, dim=1)
        # what rounding leaves of a vector inside the space is not a direction
        length = torch.where(length > 10 * torch.finfo(r.dtype).eps * before, length, 0.0)
        h[:, j + 1] = length
        basis[:, j + 1] = torch.where(length > 0, 1 / length.clamp_min(tiny), 0.0)[:, None] * w
        h = (q @ h[..., None])[..., 0]
        radius = torch.hypot(h[:, j], h[:, j + 1])
        usable = active & (radius > 0)
        used = used + usable
        c = torch.where(usable, h[:, j] / radius.clamp_min(tiny), 1.0)
        s = torch.where(usable, h[:, j + 1] / radius.clamp_min(tiny), 0.0)
        rotation = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)
        q[:, j : j + 2] = rotation @ q[:, j : j + 2]
        h[:, j] = radius
        column = torch.where(usable[:, None], h[:, : j + 1], triangle[:, : j + 1, j])
        triangle[:, : j + 1, j] = column
        g[:, j : j + 2] = (rotation @ g[:, j : j + 2, None])[..., 0]
        # a sample without a new direction, or at its target, is done
        active = usable & (g[:, j + 1].abs() > target) & (length > 0)
        if not active.any():
            break
    # the unused columns of the triangle are the identity's and meet zeros of g, but for the
    # residual itself, which stands just behind the last used column
    columns = torch.arange(size, device=r.device)
    right = torch.where(columns < used[:, None], g[:, :size], 0.0)
    y = torch.linalg.solve_triangular(triangle, right[..., None], upper=True)
    return (y.mT @ basis[:, :size])[:, 0].view_as(r), products


def _scale(b: Tensor) -> Tensor:
    return norm(b).clamp_min(torch.finfo(b.dtype).tiny)


def _checked_tolerance(tol: float, max_steps: int, dtype: torch.dtype) -> float:
    positive_number("tol", tol)
    positive_integer("max_steps", max_steps)
    return max(tol, reachable_tolerance(dtype))
