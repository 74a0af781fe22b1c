"""Hyperparameter optimisation with approximate gradients."""

import torch

from benchmark.certified import Solvers, exact_gradient, warn_unless_exact
from benchmark.convergence import warn_unless_converged
from benchmark.estimator import BilevelSolver, Hypergradient
from benchmark.precision import in_reach
from benchmark.schedules import DECREASES


class Solver(BilevelSolver):
    """DEQ's estimate to a tolerance εₖ that falls with the outer step k: rough first, exact later.

    State and adjoint are solved to relative residuals εₖ = max(tol, first_tol·dₖ), dₖ = 0.9ᵏ
    ("exponential"), 1/(k + 1)² ("quadratic") or 1/(k + 1)³ ("cubic"), from where the step before
    left them (``warm_start``); k counts the calls. Where Σεₖ is finite, gradient descent converges
    to a stationary point. Unlike the reference, which adapts its stepsize, the descent is that of
    all methods here. Cost: as DEQ, at a looser tolerance; memory: one graph and the basis of the
    adjoint solver. Reference: Pedregosa, "Hyperparameter optimization with approximate gradient"
    (2016), arXiv 1602.02355.
    """

    name = "HOAG"
    parameters = {
        **BilevelSolver.parameters,
        "warm_start": [True],
        "first_tol": [0.1],
        "decrease": ["exponential"],
        "tol": [1e-10],
        "max_layers": [5000],
        "equilibrium_solver": ["fista"],
        "adjoint_solver": ["gmres"],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        x0, w0 = self.start(lower, batch), self.start_of_adjoint(batch)
        decrease = DECREASES[self.decrease](self.carried.count("call"))
        tol = max(self.tol, self.first_tol * decrease)
        precision = {"polish": self.polish, "max_layers": self.max_layers}
        posed = in_reach(lower, batch, x0, tol=tol, **precision)
        problem = (posed.lower, posed.batch, posed.x0, w0)
        found = exact_gradient(*problem, tol=tol, adjoint_tol=tol, solvers=self._solvers())
        warn_unless_exact(found)
        self.carry(batch, state=found.state, adjoint=found.adjoint)
        return Hypergradient(found.loss, found.gradient, found.state).to(x0.dtype)

    def _solvers(self):
        return Solvers.named(
            equilibrium=self.equilibrium_solver,
            adjoint=self.adjoint_solver,
            max_layers=self.max_layers,
        )

    @torch.no_grad()
    def deploy(self, lower, y):
        """To ``tol``, whatever the outer step."""
        T, solve = lower.layer(y), self._solvers().equilibrium
        found = solve(T, lower.init(y), tol=self.tol, max_layers=self.max_layers)
        return warn_unless_converged(found, what="the equilibrium").x
