"""Forward-mode implicit differentiation."""

from functools import partial

import torch

from benchmark.gradients.differences import few_parameters, theta_named
from benchmark.gradients.implicit import Linearization
from benchmark.gradients.refined import adjoint_solver
from benchmark.plugins.estimator import EquilibriumMethod, Hypergradient, equilibrium_of
from benchmark.solve.convergence import warn_unless_converged


class Solver(EquilibriumMethod):
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
        **EquilibriumMethod.parameters,
        "max_parameters": [100],
        "tangent_solver": ["gmres"],
        "polish": [True],
    }

    def skip(self, task):
        if task.lower.compiled:
            return True, "products with J are double backward passes, which torch.compile has not"
        return False, None

    def hypergradient(self, lower, batch):
        few_parameters(lower, self.max_parameters, what="forward mode solves a linear system")
        posed = self.posed(lower, batch)
        x = equilibrium_of(self, posed.lower.layer(posed.batch.observation), posed.x0)
        at = Linearization(posed.lower, posed.batch, x)
        solve = partial(adjoint_solver(self.tangent_solver), tol=self.tol)
        slopes = []
        for column in at.columns():
            z = solve(at.tangent_product, column, max_steps=self.max_layers)
            slopes.append((at.g * warn_unless_converged(z, what="a tangent system").x).sum())
        implicit = theta_named(posed.lower, torch.stack(slopes)).values()
        self.carry(batch, state=x)
        return Hypergradient(at.loss, at.with_direct(implicit), x).to(batch.observation.dtype)
