"""What the methods of the library torchdeq share; importing this needs it."""

from __future__ import annotations

from functools import partial
from typing import final

from torch import Tensor
from torchdeq import get_deq
from torchdeq.solver import register_solver
from torchdeq.solver.anderson import anderson_solver

from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.solve.convergence import require_converged
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.system import LinearSolution


class TorchDEQMethod(StateMethod):
    """The forward solve of ``get_deq``, and what torchdeq says of its solves.

    ``f_solver`` is a name of torchdeq's table ("fixed_point_iter", "anderson", "broyden"), stopped
    at the *relative* residual ``f_tol`` or after ``f_max_iter`` iterations; ``m`` and ``lam`` are
    the depth and the absolute regularisation of its Anderson (1e-4 hides an adjoint that is small);
    other settings are the library's. A batch stops when its last sample does. Geng and Kolter,
    "TorchDEQ: a library for deep equilibrium models" (2023), arXiv 2310.18605.
    """

    @final
    def solved(
        self, T: Layer, x0: Tensor, *, adjoint_tol: float = 0.0, **options: object
    ) -> Tensor:
        """The state of ``get_deq(**options)``; warns where torchdeq stopped before a tolerance."""
        # get_deq hands no options on to a backward solver; the table is how torchdeq takes them
        register_solver("anderson", partial(anderson_solver, m=self.m, lam=self.lam))
        forward = {"f_tol": self.f_tol, "f_max_iter": self.f_max_iter, "f_stop_mode": "rel"}
        deq = get_deq(f_solver=self.f_solver, **forward, **options)

        def report(info: dict[str, Tensor]) -> None:
            residual = info["rel_lowest"]
            adjoint = LinearSolution(x0, residual, info["nstep"], residual <= adjoint_tol)
            require_converged(adjoint, what="the adjoint system")

        (x,), info = deq(T, x0.detach(), backward_writer=report)
        residual = info["rel_lowest"]
        found = Equilibrium(x, residual, info["nstep"], residual <= self.f_tol)
        return require_converged(found, what="the equilibrium").x
