"""Hyperparameter optimisation with approximate gradients."""

from benchmark.gradients.refined import Solvers, exact_gradient, warn_unless_exact
from benchmark.gradients.schedules import DECREASES
from benchmark.plugins.estimator import EquilibriumMethod, Hypergradient


class Solver(EquilibriumMethod):
    """DEQ's estimate to a tolerance εₖ that falls with the outer step k: rough first, exact later.

    State and adjoint are solved to relative residuals εₖ = max(tol, first_tol·dₖ), dₖ = 0.9ᵏ
    ("exponential"), 1/(k + 1)² ("quadratic") or 1/(k + 1)³ ("cubic"), from where the step before
    left them (``warm_start``); k counts the calls, ``first_tol`` is that of the author's code.
    Where Σεₖ is finite, gradient descent converges to a stationary point. Unlike the reference,
    which adapts its stepsize, the descent is that of all methods here. Cost: as DEQ, at a looser
    tolerance; memory: one graph and the vectors of the adjoint solver. Reference: Pedregosa,
    "Hyperparameter optimization with approximate gradient" (2016), arXiv 1602.02355.
    """

    name = "HOAG"
    parameters = {
        **EquilibriumMethod.parameters,
        "warm_start": [True],
        "first_tol": [1e-3],
        "decrease": ["exponential"],
        "adjoint_solver": ["auto"],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        decrease = DECREASES[self.decrease](self.carried.count("call"))
        tol = max(self.tol, self.first_tol * decrease)
        posed = self.posed(lower, batch, tol=tol)
        problem = (posed.lower, posed.batch, posed.x0, self.start_of_adjoint(batch))
        names = (self.equilibrium_solver, self.adjoint_solver)
        solvers = Solvers.named(*names, max_layers=self.max_layers)
        found = exact_gradient(*problem, tol=tol, adjoint_tol=tol, solvers=solvers)
        warn_unless_exact(found)
        self.carry(batch, state=found.state, adjoint=found.adjoint)
        return Hypergradient(found.loss, found.gradient, found.state).to(batch.observation.dtype)
