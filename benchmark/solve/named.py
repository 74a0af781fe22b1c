"""Solvers by name: "anderson(depth=20)" as the function that it names."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.options.spec import choose
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS, Equilibrium
from benchmark.solve.linear import ADJOINT_SOLVERS
from benchmark.solve.system import LinearSolution

#: (T, x0, *, tol, max_layers)
EquilibriumSolver = Callable[..., Equilibrium]
#: (matvec, b, *, tol, max_steps, x0=None)
AdjointSolver = Callable[..., LinearSolution]


def equilibrium_solver(named: str | EquilibriumSolver) -> EquilibriumSolver:
    """The solver (T, x0, *, tol, max_layers) that a text names; a function as it is.

    Raises ValueError for a name or an option that is not known.
    """
    if callable(named):
        return named
    given = ("T", "x0", "tol", "max_layers")
    return choose(named, EQUILIBRIUM_SOLVERS, kind="equilibrium solver", given=given)


def adjoint_solver(named: str | AdjointSolver) -> AdjointSolver:
    """The solver (matvec, b, *, tol, max_steps, x0) that a text names; a function as it is.

    Raises ValueError for a name or an option that is not known.
    """
    if callable(named):
        return named
    given = ("matvec", "b", "x0", "tol", "max_steps")
    return choose(named, ADJOINT_SOLVERS, kind="adjoint solver", given=given)
