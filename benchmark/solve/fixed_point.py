"""Solvers of x = T(x): plain iteration, and accelerations that fall back to it safely.

All work on a batch (N, …) whose samples are independent of each other, need T alone, and let each
sample converge on its own: a converged sample is frozen while the others go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import final

import numpy as np
import torch
from torch import Tensor

from benchmark.options.checks import nonnegative_integer, positive_integer, positive_number
from benchmark.solve.complex_numbers import RealLayer, as_complex, as_real
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.mixing import AndersonMixing
from benchmark.solve.vectors import Array, dot, expand_from_host, norm, on_host, select

#: x ↦ T(x), (N, …) to (N, …), each sample independent of the others
Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Equilibrium:
    """What a solver of x = T(x) found, per sample.

    Attributes
    ----------
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
    """T applied ``steps`` times to ``x`` (N, …); differentiable where gradients are enabled.

    Raises ValueError unless ``steps`` is an integer ≥ 0.
    """
    nonnegative_integer("steps", steps)
    for _ in range(steps):
        x = T(x)
    return x


def picard(T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
    """x ← T(x): error at most κᵏ times the first after k steps of a contraction of factor κ.

    Cost: a layer per step; memory: two states.

    Parameters
    ----------
    T : the layer, x (N, …) ↦ T(x) (N, …), each sample by itself.
    x0 : (N, …), where to start.
    tol : the relative residual asked for, see ``Equilibrium``, floored at ``reachable_tolerance``.
    max_layers : applications of T at most.

    Returns
    -------
    Equilibrium
        Without a graph, converged or not.

    Raises
    ------
    ValueError
        Unless ``tol`` is a finite number > 0 and ``max_layers`` an integer ≥ 1.

    Examples
    --------
    >>> found = picard(torch.cos, torch.zeros(1, 1), tol=1e-3, max_layers=100)
    >>> found.x, found.steps  # the residual shrinks by sin(0.739) = 0.67 per step
    (tensor([[0.7393]]), tensor([19]))
    """
    return _solve(T, x0, _Picard(), tol=tol, max_layers=max_layers)


def fista(T: Layer, x0: Tensor, *, tol: float, max_layers: int) -> Equilibrium:
    """x ← T(z), z ← x + β(x − x'), β Nesterov's, restarted where momentum does harm.

    O'Donoghue and Candès, "Adaptive restart for accelerated gradient schemes" (2015): β starts
    again from zero where ⟨z − x, x − x'⟩ > 0, x' the iterate before x; and, beyond them, where
    ‖T(z) − z‖ has grown, or falls more slowly than its direction turns, without which layers that
    are no gradient steps can creep. Momentum suits
    proximal-gradient layers with a stepsize up to 1/L; those with a longer one reverse directions,
    and momentum makes that grow. A sample that has to start again time after time within a few
    steps goes on with (x + T(x))/2 in place of T(x), which has the same equilibria and reverses
    nothing where T does not expand. Cost: a layer per step; memory: seven states. Arguments, result
    and errors are those of ``picard``.

    Examples
    --------
    >>> rates = torch.tensor([[0.99, 0.5, 0.0]])  # a gradient step on a quadratic
    >>> T, x0 = lambda x: rates * x + 1, torch.zeros(1, 3)
    >>> [solve(T, x0, tol=1e-4, max_layers=999).steps.item() for solve in (picard, fista)]
    [461, 37]
    """
    return _solve(T, x0, _Nesterov(), tol=tol, max_layers=max_layers)


def anderson(T: Layer, x0: Tensor, *, tol: float, max_layers: int, depth: int = 10) -> Equilibrium:
    """Anderson acceleration (type II), one small least-squares problem of ``depth`` per sample.

    z ← T(z) − ΔT γ, γ minimising ‖f − Δf γ‖, f = T(z) − z, with Tikhonov regularisation relative
    to the size of Δf. Walker and Ni, "Anderson acceleration for fixed-point iterations" (2011).
    Cost: a layer per step, and 4 ``depth`` n flops; memory: twice ``depth`` in states. A depth of
    20 takes fewer layers where convergence is slow. Arguments, result and errors are those of
    ``picard``; ``depth``, an integer ≥ 1, is the number of differences kept.

    Examples
    --------
    >>> rates = torch.tensor([[0.99, 0.5, 0.0]]).double()  # three eigenvalues: three differences
    >>> anderson(lambda x: rates * x + 1, rates, tol=1e-9, max_layers=99).steps
    tensor([5])
    """
    positive_integer("depth", depth, most=1000)
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

    def measure(self, image: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        """What ``propose`` decides by, (N,) or (N, k), from T(z) and f."""
        return ()

    @abstractmethod
    def propose(
        self, image: Tensor, f: Tensor, moved: Array, restart: Array, measured: Sequence[Array]
    ) -> Tensor:
        """The next z, from T(z), f, ‖f‖ (N,) and what ``measure`` said of them.

        ``restart`` (N,) marks samples that go back to an earlier point instead.
        """


@final
class _Picard(_Acceleration):
    can_fail = False

    def propose(
        self, image: Tensor, f: Tensor, moved: Array, restart: Array, measured: Sequence[Array]
    ) -> Tensor:
        return image


#: with momentum, ‖f‖ of a gradient step falls at least as fast as the cosine of the angle between f
#: and the one before says, √λ for an eigenvalue λ > 0; a fall slower by this much, this many times
#: in a row, is that of eigenvalues that reverse or turn, where momentum can creep for ever
_TURN, _TURNS = 0.1, 5
#: momentum that starts again within this many steps, this many times in a row, has met a layer that
#: reverses directions
_SOON, _REVERSALS = 10, 5


@final
class _Nesterov(_Acceleration):
    """Nesterov's momentum on x ← (1 − ρ) x + ρ T(x), ρ = 1 or, for samples where that fails, ½."""

    def __init__(self) -> None:
        self.started = False

    def _start(self, x0: Tensor) -> None:
        n, self.x, self.started = len(x0), x0, True
        self.t, self.moved = np.ones(n), np.full(n, inf)
        self.age, self.reversals, self.turning = np.zeros((3, n), dtype=int)
        self.went_back, self.averaging = np.zeros((2, n), dtype=bool)

    def measure(self, image: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        if not self.started:
            self._start(image - f)
            self.f = f
        along_last, self.f = dot(f, self.f), f
        previous, self.x = self.x, image
        if self.averaging.any():
            self.x = torch.addcmul(image, expand_from_host(-0.5 * self.averaging, f), f)
        self.move = self.x - previous
        return dot(f, self.move), along_last

    def propose(
        self, image: Tensor, f: Tensor, moved: Array, restart: Array, measured: Sequence[Array]
    ) -> Tensor:
        along, along_last = measured
        creeps = along_last / self.moved < moved * (moved / self.moved - _TURN)
        self.turning = np.where(creeps, self.turning + 1, 0)
        again = self.went_back | (along < 0) | (moved > self.moved) | (self.turning >= _TURNS)
        self.turning = np.where(again, 0, self.turning)
        soon = np.where(self.age < _SOON, self.reversals + 1, 0)
        self.reversals = np.where(again, soon, self.reversals)
        self.age = np.where(again, 0, self.age + 1)
        self.averaging = self.averaging | (self.reversals >= _REVERSALS)
        t = np.where(again, 1.0, self.t)
        self.t = (1 + np.sqrt(1 + 4 * t**2)) / 2
        self.moved, self.went_back = moved, restart
        z = torch.addcmul(self.x, expand_from_host((t - 1) / self.t, f), self.move)
        # the same, unless T has overflowed and zero times the move is no number
        return select(again, self.x, z)


@final
class _Anderson(_Acceleration):
    def __init__(self, *, depth: int) -> None:
        self.mixing = AndersonMixing(depth=depth)

    def measure(self, image: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        return self.mixing.measure(image, f)

    def propose(
        self, image: Tensor, f: Tensor, moved: Array, restart: Array, measured: Sequence[Array]
    ) -> Tensor:
        return self.mixing.propose(image, *measured, forget=restart)


#: a residual this many times the best one seen is a rise; one that does not improve on the best
#: for this many steps is a stall; a sample with this many of either iterates plainly from then on
_RISE, _STALL, _STRIKES = 100.0, 100, 3
#: a state larger than this many times T(x⁰) counts no more than that: where T moves far points by a
#: bounded amount, as soft-thresholding does, a state that an acceleration has thrown far away would
#: have a small relative residual
FAR = 1e3


@dataclass(frozen=True)
class _Seen:
    """What the last T(z) is to a solve, per sample.

    moved : (N,), ‖T(z) − z‖, infinite where T(z) is not finite.
    update : (N,), whether T(z) is the best value so far.
    failed : (N,), whether the acceleration is to forget its past.
    """

    moved: Array
    update: Array
    failed: Array


class _Safeguard:
    """Which value of T a sample keeps, whether it goes on, and by the plain iteration or not.

    After a rise or a stall of ‖T(z) − z‖ a sample goes back to its best value and forgets its past;
    after a few of them it stays with the plain iteration, which needs no safeguard.
    """

    def __init__(self, n: int, *, plain: bool, tol: float, tiny: float) -> None:
        self.tol, self.tiny = tol, tiny
        self.distance, self.residual = np.full((2, n), inf)
        self.steps, self.since_best, self.strikes = np.zeros((3, n), dtype=int)
        self.plain, self.active = np.full(n, plain), np.ones(n, dtype=bool)

    def look(self, step: int, size: Array, moved: Array) -> _Seen:
        """Take note of ‖T(z)‖ and ‖T(z) − z‖ (N,) at ``step``, counted from 1."""
        if step == 1:
            self.far = np.where(size > 0, FAR * size, inf)
        finite = np.isfinite(size)
        moved = np.where(finite, moved, inf)
        # beyond what the plain iteration can mend
        lost = ~finite & self.plain
        improved = moved < self.distance
        rise = ~(moved <= _RISE * self.distance) & ~self.plain & self.active
        update = self.active & (improved | self.plain)
        self.distance = np.where(update, moved, self.distance)
        relative = moved / np.minimum(size, self.far).clip(self.tiny)
        self.residual = np.where(update, relative, self.residual)
        self.steps = np.where(self.active, step, self.steps)
        self.active = self.active & ~(self.residual <= self.tol) & ~lost
        self.since_best = np.where(improved, 0, self.since_best + 1)
        failed = rise | ((self.since_best >= _STALL) & ~self.plain)
        self.strikes = self.strikes + failed
        self.since_best = np.where(failed, 0, self.since_best)
        self.plain = self.plain | (self.strikes >= _STRIKES)
        return _Seen(moved, update, failed)


@torch.no_grad()
@np.errstate(invalid="ignore", over="ignore")
def _solve(
    T: Layer, x0: Tensor, acceleration: _Acceleration, *, tol: float, max_layers: int
) -> Equilibrium:
    """Apply T at proposed points until every sample's residual is within ``tol``.

    ``tol`` is floored at what the dtype can reach; ``_Safeguard`` looks after the acceleration.
    """
    positive_number("tol", tol)
    positive_integer("max_layers", max_layers)
    if x0.is_complex():
        layer, start = RealLayer(T), as_real(x0)
        found = _solve(layer, start, acceleration, tol=tol, max_layers=max_layers)
        return replace(found, x=as_complex(found.x))
    tol = max(tol, reachable_tolerance(x0.dtype))
    z = best = x0.detach()
    guard = _Safeguard(
        len(x0), plain=not acceleration.can_fail, tol=tol, tiny=torch.finfo(x0.dtype).tiny
    )
    for step in range(1, max_layers + 1):
        image = T(z)
        f = image - z
        # one look at the device per step
        size, moved, *measured = on_host(norm(image), norm(f), *acceleration.measure(image, f))
        seen = guard.look(step, size, moved)
        best = select(seen.update, image, best)
        if not guard.active.any():
            break
        z = acceleration.propose(image, f, seen.moved, seen.failed, measured)
        if acceleration.can_fail:
            z = select(guard.plain, image, z)
        # converged samples rest at their best value; failed ones start again from it
        z = select(seen.failed | ~guard.active, best, z)
        del image, f  # not held during the next layer
    return Equilibrium(
        best,
        residual=torch.as_tensor(guard.residual, device=z.device).to(z.dtype),
        steps=torch.as_tensor(guard.steps, device=z.device),
        converged=torch.as_tensor(guard.residual <= tol, device=z.device),
    )
