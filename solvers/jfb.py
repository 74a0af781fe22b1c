"""Jacobian-free backpropagation."""

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.fixed_point import fista


class Solver(HypergradientEstimator):
    """Differentiate one layer at the equilibrium: ĝ = Bᵀ∇ℓ instead of Bᵀ(I − Jᵀ)⁻¹∇ℓ.

    The equilibrium is found to the relative residual ``tol`` within ``max_layers`` layers; the bias
    is O(κ). Below what the run's dtype can reach, ``tol`` is met in float64, unless ``polish`` is
    False: then it is an error. Cost: the equilibrium, one layer, one vector-Jacobian product;
    memory: one graph. Reference: Fung et al., "JFB: Jacobian-free backpropagation for implicit
    networks" (2022), arXiv 2103.12803.
    """

    name = "JFB"
    parameters = {
        **HypergradientEstimator.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "polish": [True],
    }

    def equilibrium(self, T, x0):
        found = fista(T, x0, tol=self.tol, max_layers=self.max_layers)
        return T(warn_unless_converged(found, what="the equilibrium").x)
