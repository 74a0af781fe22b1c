"""How a state is looked for: to a tolerance, or a number of plain steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from benchmark.options.checks import nonnegative_integer, positive_integer, positive_number
from benchmark.solve.convergence import OnFailure, require_converged
from benchmark.solve.fixed_point import Equilibrium, Layer, iterate
from benchmark.solve.named import EquilibriumSolver, equilibrium_solver


class Search(Protocol):
    """From x⁰ to a state near an equilibrium of T, without a graph."""

    def __call__(self, T: Layer, x0: Tensor, *, on_failure: OnFailure = "warn") -> Equilibrium:
        """The state; what ``on_failure`` says where it is less exact than asked for."""


@final
@dataclass(frozen=True)
class ToTolerance:
    """x with ‖T(x) − x‖ ≤ ``tol`` ‖T(x)‖ per sample, by ``solver`` within ``max_layers`` layers.

    ``solver`` is a name of ``benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS`` with its options, or
    a function (T, x0, *, tol, max_layers) that returns an ``Equilibrium``. Raises ValueError for
    what is not known or out of its range.
    """

    solver: str | EquilibriumSolver
    tol: float
    max_layers: int

    def __post_init__(self) -> None:
        equilibrium_solver(self.solver)
        positive_number("tol", self.tol)
        positive_integer("max_layers", self.max_layers)

    @torch.no_grad()
    def __call__(self, T: Layer, x0: Tensor, *, on_failure: OnFailure = "warn") -> Equilibrium:
        solve = equilibrium_solver(self.solver)
        found = solve(T, x0.detach(), tol=self.tol, max_layers=self.max_layers)
        return require_converged(found, what="the equilibrium", on_failure=on_failure)


@final
@dataclass(frozen=True)
class Steps:
    """Tˢ(x⁰), s = ``steps`` plain steps, none allowed; nothing is asked of the residual, which is
    not computed (NaN).
    """

    steps: int

    def __post_init__(self) -> None:
        nonnegative_integer("steps", self.steps)

    @torch.no_grad()
    def __call__(self, T: Layer, x0: Tensor, *, on_failure: OnFailure = "warn") -> Equilibrium:
        x = iterate(T, x0.detach(), steps=self.steps)
        n = len(x)
        return Equilibrium(
            x,
            residual=x.new_full((n,), torch.nan),
            steps=torch.full((n,), self.steps, device=x.device),
            converged=torch.ones(n, dtype=torch.bool, device=x.device),
        )
