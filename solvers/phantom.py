"""The phantom gradient: damped unrolling at the equilibrium."""

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.fixed_point import fista, iterate


class Solver(HypergradientEstimator):
    """Differentiate ``layers`` damped steps x ← (1 − d)x + d·T(x), d = ``damping``, begun at x*.

    ĝ = Σ_{k<K} d Bᵀ((1 − d)I + dJᵀ)ᵏ∇ℓ: the truncated series of the adjoint system of the damped
    layer, which has the same equilibrium; with d = 1 the truncated Neumann series. The damped layer
    contracts by at most 1 − d(1 − κ), and better than T where J has eigenvalues near −1. The
    equilibrium is found to the relative residual ``tol`` within ``max_layers`` layers. Cost: it, K
    layers, K vector-Jacobian products; memory: K graphs. Reference: Geng et al., "On training
    implicit models" (2021), arXiv 2111.05177.
    """

    name = "Phantom"
    parameters = {
        **HypergradientEstimator.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "layers": [10],
        "damping": [0.5],
        "polish": [True],
    }

    def equilibrium(self, T, x0):
        found = fista(T, x0, tol=self.tol, max_layers=self.max_layers)
        x = warn_unless_converged(found, what="the equilibrium").x
        return iterate(lambda x: x + self.damping * (T(x) - x), x, steps=self.layers)
