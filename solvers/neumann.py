"""The truncated Neumann series."""

import torch

from benchmark.gradients.implicit import implicit_layer
from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.fixed_point import fista
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import norm


class Solver(HypergradientEstimator):
    """The first ``terms`` of the series of (I − Jᵀ)⁻¹ at the equilibrium: ĝ = Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ.

    What Restarted-JFB tends to, with the graph of one layer instead of K. The equilibrium is found
    to the relative residual ``tol`` within ``max_layers`` layers; the relative error of the adjoint
    is at most κᴷ. Cost: the equilibrium, one layer, K vector-Jacobian products; memory: one graph
    and two states. Reference: Lorraine, Vicol, Duvenaud, "Optimizing millions of hyperparameters
    by implicit differentiation" (2020), arXiv 1911.02590.
    """

    name = "Neumann"
    parameters = {
        **HypergradientEstimator.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "terms": [10],
        "polish": [True],
    }

    def equilibrium(self, T, x0):
        found = fista(T, x0, tol=self.tol, max_layers=self.max_layers)
        x = warn_unless_converged(found, what="the equilibrium").x
        return implicit_layer(T, x, solve=self._series)

    def _series(self, matvec, g):
        """Σ_{k<K} (I − A)ᵏ g by Horner's rule, w ← w + (g − A w); stopped there on purpose."""
        w, last = g, g
        for _ in range(self.terms - 1):
            last = g - matvec(w)
            w = w + last
        size = norm(g).clamp_min(torch.finfo(g.dtype).tiny)
        steps = torch.full_like(size, self.terms - 1, dtype=torch.int64)
        return LinearSolution(w, norm(last) / size, steps, torch.ones_like(size, dtype=torch.bool))
