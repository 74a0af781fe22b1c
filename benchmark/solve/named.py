"""Solvers by name: "anderson(depth=20)" as the function that it names."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.options.spec import Kind
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS, Equilibrium
from benchmark.solve.linear import ADJOINT_SOLVERS
from benchmark.solve.system import LinearSolution

#: (T, x0, *, tol, max_layers)
EquilibriumSolver = Callable[..., Equilibrium]
#: (matvec, b, *, tol, max_steps, x0=None)
AdjointSolver = Callable[..., LinearSolution]

EQUILIBRIUM_SOLVER: Kind[Equilibrium] = Kind(
    "equilibrium solver", EQUILIBRIUM_SOLVERS, form="a function (T, x0, *, tol, max_layers)"
)
ADJOINT_SOLVER: Kind[LinearSolution] = Kind(
    "adjoint solver", ADJOINT_SOLVERS, form="a function (matvec, b, *, tol, max_steps, x0=None)"
)


def equilibrium_solver(named: str | EquilibriumSolver) -> EquilibriumSolver:
    """The solver (T, x0, *, tol, max_layers) that a text names; a function as it is.

    Raises ValueError for a name or an option that is not known.
    """
    if callable(named):
        return named
    given = ("T", "x0", "tol", "max_layers")
    return EQUILIBRIUM_SOLVER.choose(named, given=given)


def adjoint_solver(named: str | AdjointSolver) -> AdjointSolver:
    """The solver (matvec, b, *, tol, max_steps, x0) that a text names; a function as it is.

    Raises ValueError for a name or an option that is not known.
    """
    if callable(named):
        return named
    given = ("matvec", "b", "x0", "tol", "max_steps")
    return ADJOINT_SOLVER.choose(named, given=given)
