"""Solvers of x = T(x): plain iteration, and accelerations that fall back to it safely.

All work on a batch (N, …) whose samples are independent of each other, need T alone, and let each
sample converge on its own: a converged sample is frozen while the others go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from benchmark.checks import nonnegative_integer, positive_integer, positive_number
from benchmark.convergence import reachable_tolerance
from benchmark.linear import dot, like, norm, rows
from benchmark.problem import Layer


@dataclass(frozen=True)
class Equilibrium:
    """What a solver found, per sample.

    x : (N, …), a value of T.
    residual : (N,), ‖T(x') − x'‖ / ‖T(x')‖ at the point x' with x = T(x'); where T does not expand
        distances, that of x is no larger in absolute terms. A ‖T(x')‖ above 1000 ‖T(x⁰)‖ counts as
        that.
    steps : (N,), applications of T until the sample converged.
    converged : (N,), whether ``residual`` is within the tolerance.
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor


def iterate(T: Layer, x: Tensor, *, steps: int) -> Tensor:
    """T applied ``steps`` times to ``x``; differentiable where gradients are enabled."""
    nonnegative_integer("steps", steps)
    for _ in range(steps):
        x = T(x)
    return x


def picard(T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
    """x ← T(x). Error κᵏ after k steps of a contraction of factor κ; memory: two states."""
    return _solve(T, x0, _Picard(), tol=tol, max_layers=max_layers)


def fista(T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
    """x ← T(z), z ← x + β(x − x'), β Nesterov's, restarted where momentum does harm.

    O'Donoghue and Candès, "Adaptive restart for accelerated gradient schemes" (2015): β starts
    again from zero where ⟨z − x, x − x'⟩ > 0, x' the iterate before x; and, beyond them, where
    ‖T(z) − z‖ has grown, without which layers that are no gradient steps can creep. Meant for
    proximal-gradient layers with a stepsize up to 1/L; memory: five states.
    """
    return _solve(T, x0, _Nesterov(), tol=tol, max_layers=max_layers)


def anderson(T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
    """Anderson acceleration of depth 10 (type II), one small least-squares problem per sample.

    z ← T(z) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(z) − z, with Tikhonov regularisation relative
    to the size of Δf. Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011).
    Memory: twice its depth in states.
    """
    return _solve(T, x0, _Anderson(depth=10), tol=tol, max_layers=max_layers)


EQUILIBRIUM_SOLVERS: dict[str, Callable[..., Equilibrium]] = {
    "picard": picard,
    "fista": fista,
    "anderson": anderson,
}


class _Acceleration(ABC):
    """Proposes the next point to apply T to, from the last one z and its image T(z)."""

    #: whether a sample may have to fall back to the plain iteration
    can_fail = True

    @abstractmethod
    def propose(self, z: Tensor, image: Tensor, restart: Tensor) -> Tensor:
        """The next z; ``restart`` (N,) marks samples that go back to an earlier point instead."""


@final
class _Picard(_Acceleration):
    can_fail = False

    def propose(self, z: Tensor, image: Tensor, restart: Tensor) -> Tensor:
        return image


@final
class _Nesterov(_Acceleration):
    def __init__(self) -> None:
        self.previous: Tensor | None = None

    def propose(self, z: Tensor, image: Tensor, restart: Tensor) -> Tensor:
        moved = norm(image - z)
        if self.previous is None:
            self.previous, self.t, self.moved = z, torch.ones_like(moved), moved
            self.went_back = torch.zeros_like(restart)
        move = image - self.previous
        harmful = (dot(z - image, move) > 0) | (moved > self.moved)
        t = torch.where(self.went_back | harmful, 1.0, self.t)
        t_next = (1 + (1 + 4 * t**2).sqrt()) / 2
        self.previous, self.t, self.moved, self.went_back = image, t_next, moved, restart
        return image + like((t - 1) / t_next, image) * move


@final
class _Anderson(_Acceleration):
    """Differences are kept in a ring, and their Gram matrix with them, a row at a time."""

    def __init__(self, *, depth: int) -> None:
        self.depth = depth
        self.step = 0
        self.last: tuple[Tensor, Tensor] | None = None

    def propose(self, z: Tensor, image: Tensor, restart: Tensor) -> Tensor:
        image_flat, f = rows(image), rows(image - z)
        if self.last is None:
            self.last = image_flat, f
            n, size = f.shape
            self.image_steps = f.new_zeros(n, self.depth, size)
            self.f_steps = f.new_zeros(n, self.depth, size)
            self.gram = f.new_zeros(n, self.depth, self.depth)
            self.known = restart.new_zeros(n, self.depth)
            return image
        slot = self.step % self.depth
        self.step += 1
        f_step = f - self.last[1]
        self.image_steps[:, slot] = image_flat - self.last[0]
        self.f_steps[:, slot] = f_step
        self.last = image_flat, f
        products = self.f_steps @ torch.stack([f_step, f], dim=2)
        self.gram[:, slot] = self.gram[:, :, slot] = products[:, :, 0]
        self.known[:, slot] = True
        self.known &= ~restart[:, None]
        # a difference that is not known has no part in the least squares
        gram = torch.where(self.known[:, :, None] & self.known[:, None], self.gram, 0.0)
        right = torch.where(self.known, products[:, :, 1], 0.0)
        size = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(f.dtype).tiny)
        eye = torch.eye(self.depth, dtype=f.dtype, device=f.device)
        normal = gram / like(size, gram) + 10 * torch.finfo(f.dtype).eps * eye
        gamma, _ = torch.linalg.solve_ex(normal, right / like(size, right))
        gamma = torch.where(self.known & gamma.isfinite(), gamma, 0.0)
        return (image_flat - (gamma[:, None] @ self.image_steps)[:, 0]).view_as(image)


#: a residual this many times the best one seen is a rise; one that does not improve on the best
#: for this many steps is a stall; a sample with this many of either iterates plainly from then on
_RISE, _STALL, _STRIKES = 10.0, 100, 3
#: a state larger than this many times T(x⁰) counts no more than that: where T moves far points by a
#: bounded amount, as soft-thresholding does, a state that an acceleration has thrown far away would
#: have a small relative residual
_FAR = 1e3


@torch.no_grad()
def _solve(
    T: Layer, x0: Tensor, acceleration: _Acceleration, *, tol: float, max_layers: int
) -> Equilibrium:
    """Apply T at proposed points until every sample's residual is within ``tol``.

    ``tol`` is floored at what the dtype can reach. After a rise or a stall of ‖T(z) − z‖ a sample
    goes back to its best value and forgets its past; after a few of them it stays with the plain
    iteration, which needs no safeguard.
    """
    positive_number("tol", tol)
    positive_integer("max_layers", max_layers)
    tol = max(tol, reachable_tolerance(x0.dtype))
    tiny = torch.finfo(x0.dtype).tiny
    z = best = x0.detach()
    n = len(x0)
    distance = z.new_full((n,), torch.inf)
    residual = torch.full_like(distance, torch.inf)
    steps = torch.zeros(n, dtype=torch.int64, device=z.device)
    since_best, strikes = torch.zeros_like(steps), torch.zeros_like(steps)
    plain = torch.full_like(steps, not acceleration.can_fail, dtype=torch.bool)
    active = torch.ones_like(plain)
    for step in range(1, max_layers + 1):
        image = T(z)
        size = norm(image)
        if step == 1:
            far = torch.where(size > 0, _FAR * size, torch.inf)
        moved = torch.where(size.isfinite(), norm(image - z), torch.inf)
        improved = moved < distance
        rise = ~(moved <= _RISE * distance) & ~plain & active
        update = active & (improved | plain)
        best = torch.where(like(update, image), image, best)
        distance = torch.where(update, moved, distance)
        residual = torch.where(update, moved / torch.minimum(size, far).clamp_min(tiny), residual)
        steps = torch.where(active, step, steps)
        active = active & ~(residual <= tol)
        since_best = torch.where(improved, 0, since_best + 1)
        failed = rise | ((since_best >= _STALL) & ~plain)
        strikes = strikes + failed
        since_best = torch.where(failed, 0, since_best)
        plain = plain | (strikes >= _STRIKES)
        proposal = acceleration.propose(z, image, failed)
        z = torch.where(like(plain, image), image, proposal)
        # converged samples rest at their best value; failed ones start again from it
        z = torch.where(like(failed | ~active, image), best, z)
        if not (active & (size.isfinite() | ~plain)).any():
            break
    return Equilibrium(best, residual, steps, residual <= tol)
