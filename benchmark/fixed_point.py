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
from benchmark.linear import AndersonMixing, dot, like, norm
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
    ‖T(z) − z‖ has grown, without which layers that are no gradient steps can creep. Momentum suits
    proximal-gradient layers with a stepsize up to 1/L; those with a longer one reverse directions,
    and momentum makes that grow. A sample that has to start again time after time within a few
    steps goes on with (x + T(x))/2 in place of T(x), which has the same equilibria and reverses
    nothing where T does not expand. Memory: six states.
    """
    return _solve(T, x0, _Nesterov(), tol=tol, max_layers=max_layers)


def anderson(T: Layer, x0: Tensor, *, tol: float, max_layers: int, depth: int = 10) -> Equilibrium:
    """Anderson acceleration (type II), one small least-squares problem of ``depth`` per sample.

    z ← T(z) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(z) − z, with Tikhonov regularisation relative
    to the size of Δf. Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011).
    Memory: twice ``depth`` in states. A depth of 20 takes fewer layers where convergence is slow.
    """
    positive_integer("depth", depth)
    return _solve(T, x0, _Anderson(depth=depth), tol=tol, max_layers=max_layers)


EQUILIBRIUM_SOLVERS: dict[str, Callable[..., Equilibrium]] = {
    "picard": picard,
    "fista": fista,
    "anderson": anderson,
}


class _Acceleration(ABC):
    """Proposes the next point to apply T to, from T(z) and f = T(z) − z at the last one z."""

    #: whether a sample may have to fall back to the plain iteration
    can_fail = True

    @abstractmethod
    def propose(self, image: Tensor, f: Tensor, moved: Tensor, restart: Tensor) -> Tensor:
        """The next z, from T(z), f and ‖f‖ (N,).

        ``restart`` (N,) marks samples that go back to an earlier point instead.
        """


@final
class _Picard(_Acceleration):
    can_fail = False

    def propose(self, image: Tensor, f: Tensor, moved: Tensor, restart: Tensor) -> Tensor:
        return image


#: momentum that starts again within this many steps, this many times in a row, has met a layer that
#: reverses directions
_SOON, _REVERSALS = 10, 5


@final
class _Nesterov(_Acceleration):
    """Nesterov's momentum on x ← (1 − ρ) x + ρ T(x), ρ = 1 or, for samples where that fails, ½."""

    def __init__(self) -> None:
        self.previous: Tensor | None = None

    def propose(self, image: Tensor, f: Tensor, moved: Tensor, restart: Tensor) -> Tensor:
        if self.previous is None:
            self.previous, self.t, self.moved = image - f, torch.ones_like(moved), moved
            self.went_back = torch.zeros_like(restart)
            self.age = torch.zeros_like(moved, dtype=torch.int64)
            self.reversals, self.held_back = self.age, torch.zeros_like(moved)
        averaged = torch.addcmul(image, like(self.held_back, f), f)
        move = averaged - self.previous
        harmful = (dot(f, move) < 0) | (moved > self.moved)
        again = self.went_back | harmful
        soon = torch.where(self.age < _SOON, self.reversals + 1, 0)
        self.reversals = torch.where(again, soon, self.reversals)
        self.age = torch.where(again, 0, self.age + 1)
        self.held_back = torch.where(self.reversals >= _REVERSALS, -0.5, self.held_back)
        t = torch.where(again, 1.0, self.t)
        t_next = (1 + (1 + 4 * t**2).sqrt()) / 2
        self.previous, self.t, self.moved, self.went_back = averaged, t_next, moved, restart
        return torch.addcmul(averaged, like((t - 1) / t_next, image), move)


@final
class _Anderson(_Acceleration):
    def __init__(self, *, depth: int) -> None:
        self.mixing = AndersonMixing(depth=depth)

    def propose(self, image: Tensor, f: Tensor, moved: Tensor, restart: Tensor) -> Tensor:
        return self.mixing.propose(image, f, forget=restart)


#: a residual this many times the best one seen is a rise; one that does not improve on the best
#: for this many steps is a stall; a sample with this many of either iterates plainly from then on
_RISE, _STALL, _STRIKES = 100.0, 100, 3
#: a state larger than this many times T(x⁰) counts no more than that: where T moves far points by a
#: bounded amount, as soft-thresholding does, a state that an acceleration has thrown far away would
#: have a small relative residual
FAR = 1e3


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
        f = image - z
        size, moved = norm(image), norm(f)
        if step == 1:
            far = torch.where(size > 0, FAR * size, torch.inf)
        finite = size.isfinite()
        moved = torch.where(finite, moved, torch.inf)
        improved = moved < distance
        rise = ~(moved <= _RISE * distance) & ~plain & active
        update = active & (improved | plain)
        distance = torch.where(update, moved, distance)
        residual = torch.where(update, moved / torch.minimum(size, far).clamp_min(tiny), residual)
        steps = torch.where(active, step, steps)
        active = active & ~(residual <= tol)
        since_best = torch.where(improved, 0, since_best + 1)
        failed = rise | ((since_best >= _STALL) & ~plain)
        strikes = strikes + failed
        since_best = torch.where(failed, 0, since_best)
        plain = plain | (strikes >= _STRIKES)
        rest = failed | ~active
        z = acceleration.propose(image, f, moved, failed)
        # one look at the device per step; states are selected per sample only where samples differ
        going = active & (finite | ~plain)
        all_update, any_plain, any_rest, any_going = torch.stack(
            [update.all(), plain.any(), rest.any(), going.any()]
        ).tolist()
        best = image if all_update else torch.where(like(update, image), image, best)
        if any_plain and acceleration.can_fail:
            z = torch.where(like(plain, image), image, z)
        if any_rest:  # converged samples rest at their best value; failed ones start again from it
            z = torch.where(like(rest, image), best, z)
        if not any_going:
            break
    return Equilibrium(best, residual, steps, residual <= tol)
