"""The full gradient of a deep equilibrium model."""

from functools import partial

from benchmark.convergence import warn_unless_converged
from benchmark.estimator import HypergradientEstimator
from benchmark.fixed_point import EQUILIBRIUM_SOLVERS
from benchmark.implicit import implicit_layer
from benchmark.linear import ADJOINT_SOLVERS


class Solver(HypergradientEstimator):
    """Solve (I − Jᵀ)w = ∇ℓ at the equilibrium and return Bᵀw: the implicit function theorem.

    Exact up to ``tol`` (relative residual of the state) and ``adjoint_tol`` (of the adjoint), each
    within ``max_layers`` layers or products. Cost: the equilibrium, one layer, the products of the
    adjoint solver; memory: one graph and, for GMRES, its basis. References: Bai, Kolter, Koltun,
    "Deep equilibrium models" (2019), arXiv 1909.01377; Saad and Schultz, "GMRES" (1986).
    """

    name = "DEQ"
    parameters = {
        **HypergradientEstimator.parameters,
        "tol": [1e-10],
        "adjoint_tol": [1e-10],
        "max_layers": [5000],
        "equilibrium_solver": ["fista"],
        "adjoint_solver": ["gmres"],
    }

    def equilibrium(self, T, x0):
        solve = EQUILIBRIUM_SOLVERS[self.equilibrium_solver]
        found = solve(T, x0, tol=self.tol, max_layers=self.max_layers)
        x = warn_unless_converged(found, what="the equilibrium").x
        adjoint = ADJOINT_SOLVERS[self.adjoint_solver]
        adjoint = partial(adjoint, tol=self.adjoint_tol, max_steps=self.max_layers)
        return implicit_layer(T, x, solve=adjoint)
