"""Implicit differentiation whose adjoint systems hand on what they have learned."""

from benchmark.gradients.linearization import Linearization
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.convergence import require_converged
from benchmark.solve.recycled import recycled


class Solver(EquilibriumMethod):
    """DEQ; an image's adjoint system starts from its last solution and ``keep`` directions more.

    These are the combinations z of the last system's directions with the smallest ‖(I − Jᵀ)z‖/‖z‖,
    along which the next one, little changed, would converge slowest. A system takes fewer
    iterations, but its operator must be applied to each of them anew: where it was tried, 1 to 4
    saved a few per cent of the products at tight tolerances, 8 or more none. State and adjoint are
    solved to ``tol`` and ``adjoint_tol`` within ``max_layers``, below what the run's dtype reaches
    in float64, unless ``polish`` is False. Cost: as DEQ, ``keep`` products more; memory: one graph,
    up to 120 states, and ``keep`` + 2 states for each training image. Reference: Ehrhardt, Gazzola,
    Scott, "Efficient gradient-based methods for bilevel learning via recycling Krylov subspaces"
    (2024), arXiv 2412.08264, which chooses directions by Bᵀ too.

    Use it where products with Jᵀ are dear and θ moves little between two meetings with an
    image.
    """

    name = "Recycled-DEQ"
    parameters = {
        **EquilibriumMethod.parameters,
        "warm_start": [True],
        "adjoint_tol": [1e-10],
        "keep": [4],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        there = self.promoted(lower, batch)
        found = self.search(there.problem.T, there.x0)
        at = Linearization(there.problem, found.x)
        space = self.carried.get("space", batch, None)
        budget = {"tol": self.adjoint_tol, "max_steps": self.max_layers, "keep": self.keep}
        start = self.start_of_adjoint(batch)
        done = recycled(at.adjoint_system(), at.g, space, x0=start, **budget)
        w = require_converged(done.solution, what="the adjoint system")
        residuals = (float(each.residual.max()) for each in (found, w))
        estimate = Hypergradient(at.loss, at.gradient(w.x, last=True), found.x, w.x, *residuals)
        self.carry(batch, estimate)
        self.carried.put("space", batch, done.space)
        return estimate.to(batch.truth.dtype)
