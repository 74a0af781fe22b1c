"""torchdeq's implicit differentiation."""

from functools import partial

from torchdeq import get_deq
from torchdeq.solver import register_solver
from torchdeq.solver.anderson import anderson_solver

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.fixed_point import Equilibrium
from benchmark.solve.system import LinearSolution


class Solver(HypergradientEstimator):
    """``get_deq(ift=True)``: solve x = T(x), then w = Jᵀw + ∇ℓ, both by torchdeq's own solvers.

    ``f_solver`` and ``b_solver`` are names of torchdeq's table ("fixed_point_iter", "anderson",
    "broyden"), stopped at the *relative* residuals ``f_tol`` and ``b_tol`` or after ``f_max_iter``
    and ``b_max_iter`` iterations; ``m`` and ``lam`` are the depth and the absolute regularisation
    of its Anderson (1e-4 hides an adjoint that is small), other settings are the library's. A batch
    stops when its last sample does; the adjoint starts from zero each time. Cost: the equilibrium,
    two layers, the products of the adjoint solver; memory: one graph, and for Broyden two states an
    iteration.
    Reference: Geng and Kolter, "TorchDEQ: a library for deep equilibrium models" (2023),
    arXiv 2310.18605.
    """

    name = "torchdeq-IFT"
    requirements = ["pip::torchdeq"]
    # literals: benchopt reads them from the source where torchdeq is absent
    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        "steps": [20],
        "batch_size": [0],
        "evaluate_every": [5],
        "warm_start": [False],
        "f_solver": ["fixed_point_iter"],
        "b_solver": ["fixed_point_iter"],
        "f_tol": [1e-5],
        "b_tol": [1e-5],
        "f_max_iter": [500],
        "b_max_iter": [500],
        "m": [6],
        "lam": [1e-4],
    }

    def equilibrium(self, T, x0):
        # get_deq hands no options on to a backward solver; the table is how torchdeq takes them
        register_solver("anderson", partial(anderson_solver, m=self.m, lam=self.lam))
        deq = get_deq(
            ift=True,
            f_solver=self.f_solver,
            b_solver=self.b_solver,
            f_tol=self.f_tol,
            b_tol=self.b_tol,
            f_stop_mode="rel",
            b_stop_mode="rel",
            f_max_iter=self.f_max_iter,
            b_max_iter=self.b_max_iter,
        )

        def report(info):
            residual = info["rel_lowest"]
            adjoint = LinearSolution(x0, residual, info["nstep"], residual <= self.b_tol)
            warn_unless_converged(adjoint, what="the adjoint system")

        (x,), info = deq(T, x0.detach(), backward_writer=report)
        residual = info["rel_lowest"]
        found = Equilibrium(x, residual, info["nstep"], residual <= self.f_tol)
        return warn_unless_converged(found, what="the equilibrium").x
