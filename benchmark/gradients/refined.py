"""The exact hypergradient by implicit differentiation, to a tolerance on the hypergradient itself.

A relative residual of the state says little of the gradient: 1e-6 can leave an error of 3e-3 where
I − J is close to singular. Here state and adjoint are refined together until the *gradient* stops
moving.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf, isnan, nan, sqrt

import torch
from torch import Tensor

from benchmark.gradients.implicit import Linearization
from benchmark.gradients.precision import in_reach
from benchmark.options.checks import positive_number
from benchmark.options.spec import choose
from benchmark.problems.lower_level import Batch, LowerLevelProblem
from benchmark.solve.convergence import NotConverged, reachable_tolerance
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS, Equilibrium
from benchmark.solve.linear import ADJOINT_SOLVERS
from benchmark.solve.system import LinearSolution

#: the first relative residuals of state and adjoint, in units of the tolerance on the gradient
_FIRST_STATE, _FIRST_ADJOINT = 0.005, 0.5
#: the largest first residual of the state: at larger ones two gradients can agree, and both be far
#: off, because the same coefficient is still on the wrong side of its threshold
_SETTLED = 1e-6
#: a refinement divides the residual of the state by something between these two
_LEAST, _MOST = 10.0, 1000.0
#: the error that is aimed at where it is extrapolated, in units of the tolerance on the gradient
_AIM = 0.3


@dataclass(frozen=True)
class ExactGradient:
    """Bᵀw + the direct term at an approximate equilibrium and adjoint, and how far to trust it.

    loss : ℓ at ``state``, 0-d; gradient : one tensor a parameter; state, adjoint : (N, …);
    state_residual, adjoint_residual : relative, the worst of the batch; error : estimate of the
    gradient's relative error, NaN where none was made; converged : whether every tolerance that
    was asked for was met.
    """

    loss: Tensor
    gradient: tuple[Tensor, ...]
    state: Tensor
    adjoint: Tensor
    state_residual: float
    adjoint_residual: float
    error: float
    converged: bool


@dataclass(frozen=True)
class Solvers:
    """How x = T(x) and (I − Jᵀ)w = g are solved, and the layers or products that one call of
    either may take.
    """

    equilibrium: Callable[..., Equilibrium]
    adjoint: Callable[..., LinearSolution]
    max_layers: int

    @classmethod
    def named(cls, equilibrium: str, adjoint: str, *, max_layers: int) -> Solvers:
        """From ``"name"`` or ``"name(option=value)"`` of the tables of solvers.

        Raises ValueError for a name or an option that is not known.
        """
        return cls(equilibrium_solver(equilibrium), adjoint_solver(adjoint), max_layers)


def equilibrium_solver(spec: str) -> Callable[..., Equilibrium]:
    """The solver (T, x0, *, tol, max_layers) that ``spec`` names."""
    given = ("T", "x0", "tol", "max_layers")
    return choose(spec, EQUILIBRIUM_SOLVERS, kind="equilibrium solver", given=given)


def adjoint_solver(spec: str) -> Callable[..., LinearSolution]:
    """The solver (matvec, b, x0=None, *, tol, max_steps) that ``spec`` names."""
    given = ("matvec", "b", "x0", "tol", "max_steps")
    return choose(spec, ADJOINT_SOLVERS, kind="adjoint solver", given=given)


def exact_gradient(
    lower: LowerLevelProblem,
    batch: Batch,
    x0: Tensor,
    w0: Tensor | None = None,
    *,
    tol: float,
    adjoint_tol: float,
    solvers: Solvers,
) -> ExactGradient:
    """∇F by the implicit function theorem, state and adjoint to relative residuals.

    ``x0`` and ``w0`` (N, …): where the two solvers start. Cost: the equilibrium, one layer, the
    products of the adjoint solver and one more; memory: one graph and what the solvers keep.
    """
    found = solvers.equilibrium(
        lower.layer(batch.observation), x0, tol=tol, max_layers=solvers.max_layers
    )
    at = Linearization(lower, batch, found.x)
    w0 = None if w0 is None else w0.to(at.g.dtype)
    adjoint = solvers.adjoint(
        at.adjoint_system(), at.g, x0=w0, tol=adjoint_tol, max_steps=solvers.max_layers
    )
    return ExactGradient(
        loss=at.loss,
        gradient=at.gradient(adjoint.x, last=True),
        state=found.x,
        adjoint=adjoint.x,
        state_residual=float(found.residual.max()),
        adjoint_residual=float(adjoint.residual.max()),
        error=nan,
        converged=bool(found.converged.all() and adjoint.converged.all()),
    )


def gradient_to(
    lower: LowerLevelProblem,
    batch: Batch,
    x0: Tensor,
    w0: Tensor | None = None,
    *,
    gradient_tol: float,
    polish: bool,
    solvers: Solvers,
) -> ExactGradient:
    """∇F, refined until an estimate of its relative error is at most ``gradient_tol``.

    State and adjoint are solved further and further, each time from where they stand: the state's
    residual is divided by a factor f of 10 to 1000, the adjoint's by √f. The change of the
    gradient is then the error it had before, up to the much smaller one that it has now, which is
    taken as ``error`` = ‖ĝₖ − ĝₖ₋₁‖ / (√f ‖ĝₖ‖): cautious where the error falls in proportion to
    the residual, as it does in the end, and no bound. f is chosen from that proportion.

    In float64 (with ``polish`` that of a float32 problem too, float32 leading up to it),
    ``tests/test_certified.py`` holds it, on random problems (``--problems 200`` for more of them),
    to a true error below ``gradient_tol`` in 95 % and never ten times it, at a median of at most
    twice the layers and products of the best tolerances that hindsight could have picked. In
    float32 alone the residuals stay larger, and it can be misled.

    Where a tolerance is below what the dtype reaches, the refinement ends: ``converged`` is False
    unless the last two gradients agreed. Raises ValueError for a ``gradient_tol`` that is not
    positive.
    """
    positive_number("gradient_tol", gradient_tol)
    if polish:
        budget = {"polish": True, "max_layers": solvers.max_layers}
        posed = in_reach(lower, batch, x0, tol=_SETTLED, **budget)
        lower, batch, x0 = posed.lower, posed.batch, posed.x0
    x, w, previous = x0, w0, None
    floor = reachable_tolerance(x.dtype)
    # two levels can be compared in any dtype
    tol = max(min(_FIRST_STATE * gradient_tol, _SETTLED), _LEAST * floor)
    adjoint_tol = max(_FIRST_ADJOINT * gradient_tol, sqrt(_LEAST) * floor)
    factor, error = _LEAST, inf
    while True:
        level = exact_gradient(
            lower, batch, x, w, tol=tol, adjoint_tol=adjoint_tol, solvers=solvers
        )
        now = flat(level.gradient)
        if previous is not None:
            error = relative_change(now, previous) / sqrt(factor)
            factor = min(max(error / (_AIM * gradient_tol), _LEAST), _MOST)
        exhausted = not level.converged or min(tol, adjoint_tol) <= floor
        if error <= gradient_tol or exhausted:
            met = level.converged and error <= gradient_tol
            return replace(level, error=error, converged=met)
        x, w, previous = level.state, level.adjoint, now
        # a residual may be 0: what is below the floor is read as the floor
        tol = max(min(tol, level.state_residual) / factor, floor / 2)
        adjoint_tol = max(min(adjoint_tol, level.adjoint_residual) / sqrt(factor), floor / 2)


def warn_unless_exact(found: ExactGradient) -> None:
    """Warn ``NotConverged`` with the residuals where a tolerance was not met."""
    if not found.converged:
        known = "" if isnan(found.error) else f", estimated gradient error {found.error:.1e}"
        warnings.warn(
            "the hypergradient is less exact than asked for: relative residuals of state and "
            f"adjoint {found.state_residual:.1e} and {found.adjoint_residual:.1e}{known}",
            NotConverged,
            stacklevel=3,
        )


def flat(gradient: Iterable[Tensor]) -> Tensor:
    """The gradient as one vector in float64."""
    return torch.cat([g.flatten() for g in gradient]).double()


def relative_change(new: Tensor, old: Tensor) -> float:
    """‖new − old‖ / ‖new‖; 0 where they are equal, two zeros included."""
    difference = torch.linalg.vector_norm(new - old)
    return float(difference / torch.linalg.vector_norm(new)) if difference > 0 else 0.0
