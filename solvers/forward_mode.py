"""Forward-mode implicit differentiation."""

import torch

from benchmark.gradients.differences import as_parameters, few_parameters
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.convergence import require_converged
from benchmark.solve.named import adjoint_solver


class Solver(EquilibriumMethod):
    """Solve (I − J)z_p = B e_p, z_p = ∂x*/∂θ_p, for each parameter p; ĝ_p = ⟨∇ℓ, z_p⟩.

    Exact up to ``tol``, the relative residual of the state and of each z_p, each within
    ``max_layers`` layers or products. The products with J are derivatives of u ↦ Jᵀu, so that every
    layer that can be differentiated twice will do. The direct term through R_θ is added. More than
    ``max_parameters`` parameters are refused. Cost: the equilibrium, one layer and its transposed,
    P systems; memory: two graphs and the basis of the solver. What it has over DEQ, one system,
    is ∂x*/∂θ itself. Reference: Franceschi et al., "Forward and reverse gradient-based
    hyperparameter optimization" (2017), arXiv 1703.01785.

    Use it where θ has few entries and ∂x*/∂θ itself is wanted.
    """

    name = "Forward-Mode"
    parameters = {
        **EquilibriumMethod.parameters,
        "max_parameters": [100],
        "tangent_solver": ["gmres"],
        "polish": [True],
    }

    def unfit(self, task):
        if task.lower.compiled:
            return "products with J are double backward passes, which torch.compile has not"

    def hypergradient(self, lower, batch):
        at = self.promoted(lower, batch)
        parameters, what = at.problem.parameters, "forward mode solves a linear system"
        few_parameters(parameters, self.max_parameters, what=what)
        x = self.search(at.problem.T, at.x0).x
        line, solve = Linearization(at.problem, x), adjoint_solver(self.tangent_solver)
        budget, slopes = {"tol": self.tol, "max_steps": self.max_layers}, []
        for column in line.columns():
            z = solve(line.tangent_product, column, **budget)
            slopes.append((line.g * require_converged(z, what="a tangent system").x).sum())
        implicit = as_parameters(torch.stack(slopes), parameters)
        found = Hypergradient(line.loss, line.with_direct(implicit), x)
        self.carry(batch, found)
        return found.to(batch.observation.dtype)
