"""The truncated Neumann series."""

from benchmark.gradients.pair import Pair
from benchmark.gradients.series import Series
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
    """The first ``terms`` of the series of (I − Jᵀ)⁻¹ at the equilibrium: ĝ = Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ.

    What Restarted-JFB tends to, with the graph of one layer instead of K. The equilibrium is found
    by ``equilibrium_solver`` to the relative residual ``tol`` within ``max_layers`` layers; the
    relative error of the adjoint is at most κᴷ. Cost: the equilibrium, one layer, K vector-Jacobian
    products; memory: one graph and two states. Reference: Lorraine, Vicol, Duvenaud, "Optimizing
    millions of hyperparameters by implicit differentiation" (2020), arXiv 1911.02590.

    Use it in the place of Restarted-JFB where K graphs do not fit, or where the state is to be
    solved to a tolerance.
    """

    name = "Neumann"
    parameters = {**PairMethod.parameters, **TO_TOLERANCE, "terms": [10], "polish": [True]}

    def pair(self, call):
        return Pair(self.search, Series(self.terms), polish=self.polish)
