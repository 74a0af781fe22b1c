"""The phantom gradient: damped unrolling at the equilibrium."""

from benchmark.gradients.last_layers import Phantom
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
    """Differentiate ``layers`` damped steps x ← (1 − d)x + d·T(x), d = ``damping``, begun at x*.

    ĝ = Σ_{k<K} d Bᵀ((1 − d)I + dJᵀ)ᵏ∇ℓ: the truncated series of the adjoint system of the damped
    layer, which has the same equilibrium; with d = 1 the truncated Neumann series. The damped layer
    contracts by at most 1 − d(1 − κ), and better than T where J has eigenvalues near −1. The
    equilibrium is found by ``equilibrium_solver`` to the relative residual ``tol`` within
    ``max_layers`` layers. Cost: it, K layers, K vector-Jacobian products; memory: K graphs.
    Reference: Geng et al., "On training implicit models" (2021), arXiv 2111.05177.

    Use it where K terms of the series would do but for eigenvalues of J near −1.
    """

    name = "Phantom"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "layers": [10],
        "damping": [0.5],
        "polish": [True],
    }

    def pair(self, call):
        return Pair(self.search, Phantom(self.layers, self.damping), polish=self.polish)
