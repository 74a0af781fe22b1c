"""The implicit hypergradient refined until an estimate of its own error is below a tolerance.

A relative residual of the state says little of the gradient: 1e-6 can leave an error of 3e-3 where
I − J is close to singular. Here state and adjoint are refined together until the *gradient* stops
moving.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf, sqrt

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.implicit import Implicit
from benchmark.gradients.precision import promote
from benchmark.gradients.result import Hypergradient
from benchmark.gradients.rule import AdjointRecord
from benchmark.options.checks import positive_number
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.search import ToTolerance

#: the first relative residuals of state and adjoint, in units of the tolerance on the gradient
_FIRST_STATE, _FIRST_ADJOINT = 0.005, 0.5
#: the largest first residual of the state: at larger ones two gradients can agree, and both be far
#: off, because the same coefficient is still on the wrong side of its threshold
_SETTLED = 1e-6
#: a refinement divides the residual of the state by something between these two
_LEAST, _MOST = 10.0, 1000.0
#: the error that is aimed at where it is extrapolated, in units of the tolerance on the gradient
_AIM = 0.3


def refined_gradient(
    problem: EquilibriumLoss,
    x0: Tensor,
    w0: Tensor | None = None,
    *,
    gradient_tol: float,
    polish: bool,
    search: ToTolerance,
    rule: Implicit,
) -> Hypergradient:
    """∇F, refined until an estimate of its relative error is at most ``gradient_tol``.

    State and adjoint are solved further and further by the solvers of ``search`` and ``rule``, each
    time from where they stand: the state's residual is divided by a factor f of 10 to 1000, the
    adjoint's by √f. The change of the gradient is then the error it had before, up to the much
    smaller one that it has now, which is taken as ``error`` = ‖ĝₖ − ĝₖ₋₁‖ / (√f ‖ĝₖ‖): cautious
    where the error falls in proportion to the residual, as it does in the end, and no bound. f is
    chosen from that proportion.

    In float64 (with ``polish`` that of a float32 problem too, float32 leading up to it),
    ``tests/test_refined.py`` holds it, on random problems (``--problems 200`` for more of them), to
    a true error below ``gradient_tol`` in 95 % and never ten times it, at a median of at most twice
    the layers and products of the best tolerances that hindsight could have picked. In float32
    alone the residuals stay larger, and it can be misled.

    Where a tolerance is below what the dtype reaches, the refinement ends: ``converged`` is False
    unless the last two gradients agreed. Raises ValueError for a ``gradient_tol`` that is not
    positive.
    """
    positive_number("gradient_tol", gradient_tol)
    if polish:
        promoted = promote(problem, x0, tol=_SETTLED, polish=True, search=search)
        problem, x0 = promoted.problem, promoted.x0
    x, w, previous = x0, w0, None
    floor = reachable_tolerance(x.dtype)
    # two levels can be compared in any dtype
    tol = max(min(_FIRST_STATE * gradient_tol, _SETTLED), _LEAST * floor)
    adjoint_tol = max(_FIRST_ADJOINT * gradient_tol, sqrt(_LEAST) * floor)
    factor, reduced, error = _LEAST, 1.0, inf
    while True:
        level = replace(rule, tol=adjoint_tol).hypergradient(
            problem, x, replace(search, tol=tol), AdjointRecord(start=w)
        )
        now = flat(level.gradient)
        if previous is not None:
            error = relative_change(now, previous) / reduced
            factor = min(max(error / (_AIM * gradient_tol), _LEAST), _MOST)
        exhausted = not level.converged or min(tol, adjoint_tol) <= floor
        if error <= gradient_tol or exhausted:
            met = level.converged and error <= gradient_tol
            return replace(level, error=error, converged=met)
        x, w, previous = level.state, level.adjoint, now
        # a residual may be 0: what is below the floor is read as the floor
        stood = min(tol, level.state_residual), min(adjoint_tol, level.adjoint_residual)
        tol = max(stood[0] / factor, floor / 2)
        adjoint_tol = max(stood[1] / sqrt(factor), floor / 2)
        reduced = reduction(stood, (tol, adjoint_tol), floor=floor)


def reduction(stood: tuple[float, float], tols: tuple[float, float], *, floor: float) -> float:
    """By what the error of the gradient falls at least, at least 1, where the residuals of state
    and adjoint fall from ``stood`` to ``tols``, or to ``floor`` where that is more.

    In proportion to the adjoint's and to the root of the state's; what is zero need not fall.
    """
    state, adjoint = (
        before / max(tol, floor) if before > 0 else inf
        for before, tol in zip(stood, tols, strict=True)
    )
    smaller = min(sqrt(state), adjoint)
    return max(smaller, 1.0) if smaller < inf else 1.0


def flat(gradient: Iterable[Tensor]) -> Tensor:
    """The gradient as one vector in float64."""
    return torch.cat([g.flatten() for g in gradient]).double()


def relative_change(new: Tensor, old: Tensor) -> float:
    """‖new − old‖ / ‖new‖; 0 where they are equal, two zeros included."""
    difference = torch.linalg.vector_norm(new - old)
    return float(difference / torch.linalg.vector_norm(new)) if difference > 0 else 0.0
