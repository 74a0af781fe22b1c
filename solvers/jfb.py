"""Jacobian-free backpropagation."""

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
    """Differentiate one layer at the equilibrium: ĝ = Bᵀ∇ℓ instead of Bᵀ(I − Jᵀ)⁻¹∇ℓ.

    The equilibrium is found by ``equilibrium_solver`` to the relative residual ``tol`` within
    ``max_layers`` layers; the bias is O(κ). Below what the run's dtype can reach, ``tol`` is met in
    float64, unless ``polish`` is False: then it is an error. Cost: the equilibrium, one layer, one
    vector-Jacobian product; memory: one graph. Reference: Fung et al., "JFB: Jacobian-free
    backpropagation for implicit networks" (2022), arXiv 2103.12803.

    Use it where κ is small, or where one product is all that can be paid; where κ is near 1,
    look at the column ``gradient_cosine`` before trusting it.
    """

    name = "JFB"
    parameters = {**PairMethod.parameters, **TO_TOLERANCE, "polish": [True]}

    def pair(self, call):
        return Pair(self.search, LastLayers(1), polish=self.polish)
