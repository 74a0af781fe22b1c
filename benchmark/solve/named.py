"""Solvers by name: "anderson(depth=20)" as the function that it names."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.options.spec import Kind, described
from benchmark.solve.checked import CheckedAdjointSolver, CheckedEquilibriumSolver
from benchmark.solve.fixed_point import EQUILIBRIUM_SOLVERS, Equilibrium
from benchmark.solve.linear import ADJOINT_SOLVERS
from benchmark.solve.system import LinearSolution

#: (T, x0, *, tol, max_layers)
EquilibriumSolver = Callable[..., Equilibrium]
#: (matvec, b, *, tol, max_steps, x0=None)
AdjointSolver = Callable[..., LinearSolution]

EQUILIBRIUM_SOLVER: Kind[Equilibrium] = Kind(
    "equilibrium solver",
    EQUILIBRIUM_SOLVERS,
    form="a function (T, x0, *, tol, max_layers) that returns x or an Equilibrium",
)
ADJOINT_SOLVER: Kind[LinearSolution] = Kind(
    "adjoint solver",
    ADJOINT_SOLVERS,
    form="a function (matvec, b, *, tol, max_steps, x0) that returns x or a LinearSolution",
)


def equilibrium_solver(named: str | EquilibriumSolver) -> EquilibriumSolver:
    """The solver (T, x0, *, tol, max_layers) that a text names; a function as it is.

    What is not of this package returns the state or an ``Equilibrium``, and is checked
    (``CheckedEquilibriumSolver``). Raises ValueError for a name or an option that is not known.
    """
    given = ("T", "x0", "tol", "max_layers")
    solve = named if callable(named) else EQUILIBRIUM_SOLVER.choose(named, given=given)
    if isinstance(solve, CheckedEquilibriumSolver) or EQUILIBRIUM_SOLVER.has(solve):
        return solve
    return CheckedEquilibriumSolver(solve, described(named))


def adjoint_solver(named: str | AdjointSolver) -> AdjointSolver:
    """The solver (matvec, b, *, tol, max_steps, x0) that a text names; a function as it is.

    What is not of this package returns x or a ``LinearSolution``, and is checked
    (``CheckedAdjointSolver``). Raises ValueError for a name or an option that is not known.
    """
    given = ("matvec", "b", "x0", "tol", "max_steps")
    solve = named if callable(named) else ADJOINT_SOLVER.choose(named, given=given)
    if isinstance(solve, CheckedAdjointSolver) or ADJOINT_SOLVER.has(solve):
        return solve
    return CheckedAdjointSolver(solve, described(named))
