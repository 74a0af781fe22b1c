"""The full gradient of a deep equilibrium model."""

from functools import partial

import torch

from benchmark.certified import (
    Solvers,
    adjoint_solver,
    equilibrium_solver,
    exact_gradient,
    gradient_to,
    warn_unless_exact,
)
from benchmark.convergence import warn_unless_converged
from benchmark.estimator import BilevelSolver, Hypergradient
from benchmark.implicit import implicit_layer
from benchmark.precision import in_reach


class Solver(BilevelSolver):
    """Solve (I − Jᵀ)w = ∇ℓ at the equilibrium and return Bᵀw: the implicit function theorem.

    Exact up to ``tol`` (relative residual of the state) and ``adjoint_tol`` (of the adjoint), each
    within ``max_layers`` layers or products; or, with ``gradient_tol``, refined until the estimated
    relative error of the *hypergradient* is below it. A tolerance that the run's dtype cannot
    reach is met in float64, unless ``polish`` is False: then it is an error. Cost: the
    equilibrium, one layer, the products of the adjoint solver; memory: one graph and, for GMRES,
    its basis. The adjoint solver "cg" is the fastest, for proximal-gradient layers alone.
    References: Bai, Kolter, Koltun, "Deep equilibrium models" (2019), arXiv 1909.01377; Saad and
    Schultz, "GMRES" (1986).
    """

    name = "DEQ"
    parameters = {
        **BilevelSolver.parameters,
        "tol": [1e-10],
        "adjoint_tol": [1e-10],
        "gradient_tol": [None],
        "max_layers": [5000],
        "equilibrium_solver": ["fista"],
        "adjoint_solver": ["gmres"],
        "polish": [True],
    }

    def skip(self, task):
        if self.adjoint_solver == "cg" and task.lower.halves() is None:
            return True, "cg needs a layer that is a gradient step followed by a proximity operator"
        return False, None

    def hypergradient(self, lower, batch):
        x0, w0 = self.start(lower, batch), self.start_of_adjoint(batch)
        solvers = Solvers.named(
            equilibrium=self.equilibrium_solver,
            adjoint=self.adjoint_solver,
            max_layers=self.max_layers,
        )
        if self.gradient_tol is None:
            tols = {"tol": self.tol, "adjoint_tol": self.adjoint_tol}
            posed = in_reach(
                lower,
                batch,
                x0,
                tol=min(tols.values()),
                polish=self.polish,
                max_layers=self.max_layers,
            )
            found = exact_gradient(posed.lower, posed.batch, posed.x0, w0, **tols, solvers=solvers)
        else:
            goal = {"gradient_tol": self.gradient_tol, "polish": self.polish}
            found = gradient_to(lower, batch, x0, w0, **goal, solvers=solvers)
        warn_unless_exact(found)
        self.carry(batch, state=found.state, adjoint=found.adjoint)
        estimate = Hypergradient(found.loss, found.gradient, found.state, error=found.error)
        return estimate.to(x0.dtype)

    def equilibrium(self, T, x0):
        """x*, its graph the implicit function theorem, to ``tol`` and ``adjoint_tol``."""
        solve = equilibrium_solver(self.equilibrium_solver)
        found = solve(T, x0, tol=self.tol, max_layers=self.max_layers)
        x = warn_unless_converged(found, what="the equilibrium").x
        adjoint = adjoint_solver(self.adjoint_solver)
        adjoint = partial(adjoint, tol=self.adjoint_tol, max_steps=self.max_layers)
        return implicit_layer(T, x, solve=adjoint)

    @torch.no_grad()
    def deploy(self, lower, y):
        return self.equilibrium(lower.layer(y), lower.init(y))
