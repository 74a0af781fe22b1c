"""Forward-mode implicit differentiation."""

from functools import partial

import torch

from benchmark.certified import adjoint_solver, equilibrium_solver
from benchmark.convergence import warn_unless_converged
from benchmark.differences import few_parameters, theta_named
from benchmark.estimator import BilevelSolver, Hypergradient
from benchmark.implicit import Linearization
from benchmark.precision import in_reach


class Solver(BilevelSolver):
    """Solve (I − J)z_p = B e_p, z_p = ∂x*/∂θ_p, for each parameter p; ĝ_p = ⟨∇ℓ, z_p⟩.

    Exact up to ``tol``, the relative residual of the state and of each z_p, each within
    ``max_layers`` layers or products. The products with J are derivatives of u ↦ Jᵀu, so that every
    layer that can be differentiated twice will do. The direct term through R_θ is added. More than
    ``max_parameters`` parameters are refused. Cost: the equilibrium, one layer and its transposed,
    P systems; memory: two graphs and the basis of the solver. What it has over DEQ, one system,
    is ∂x*/∂θ itself. Reference: Franceschi et al., "Forward and reverse gradient-based
    hyperparameter optimization" (2017), arXiv 1703.01785.
    """

    name = "Forward-Mode"
    parameters = {
        **BilevelSolver.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "max_parameters": [100],
        "equilibrium_solver": ["fista"],
        "tangent_solver": ["gmres"],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        few_parameters(lower, self.max_parameters, what="forward mode solves a linear system")
        x0 = self.start(lower, batch)
        precision = {"polish": self.polish, "max_layers": self.max_layers}
        posed = in_reach(lower, batch, x0, tol=self.tol, **precision)
        x = self._solve(posed.lower.layer(posed.batch.observation), posed.x0)
        at = Linearization(posed.lower, posed.batch, x)
        solve = partial(adjoint_solver(self.tangent_solver), tol=self.tol)
        slopes = []
        for column in at.columns():
            z = solve(at.tangent_product, column, max_steps=self.max_layers)
            slopes.append((at.g * warn_unless_converged(z, what="a tangent system").x).sum())
        implicit = theta_named(posed.lower, torch.stack(slopes)).values()
        self.carry(batch, state=x)
        return Hypergradient(at.loss, at.with_direct(implicit), x).to(x0.dtype)

    def _solve(self, T, x0):
        solve = equilibrium_solver(self.equilibrium_solver)
        found = solve(T, x0, tol=self.tol, max_layers=self.max_layers)
        return warn_unless_converged(found, what="the equilibrium").x

    @torch.no_grad()
    def deploy(self, lower, y):
        return self._solve(lower.layer(y), lower.init(y))
