"""The inverse estimate of a quasi-Newton solver, shared with the backward pass."""

from benchmark.gradients.inverse_estimate import InverseEstimate
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
    """ĝ = BᵀHᵀ∇ℓ, H ≈ (I − J)⁻¹ what the solver's last ``memory`` steps say of the inverse.

    No adjoint system is solved. H is right along these steps and the identity across them; the
    bias is what they leave of ∇ℓ. Where ‖Hᵀ∇ℓ‖ > ``fallback``·‖∇ℓ‖ a sample falls back to JFB's ∇ℓ,
    unless ``fallback`` is None. The equilibrium is found to the relative residual ``tol`` within
    ``max_layers`` layers, by Anderson's method, whose matrix H is, or by another. Unlike the
    reference we take Broyden's second method: with the first, the errors of Hᵀ∇ℓ are not bounded by
    JFB's. Cost: the equilibrium, one layer, one vector-Jacobian product; memory: one graph and
    2·``memory`` states. Reference: Ramzi et al., "SHINE: sharing the inverse estimate from the
    forward pass" (2022), arXiv 2106.00553.

    Use it where an adjoint system costs too much, and compare it with JFB, of which it is a
    correction.
    """

    name = "SHINE"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "equilibrium_solver": ["anderson"],
        "memory": [30],
        "fallback": [None],
        "polish": [True],
    }

    def pair(self, call):
        return Pair(self.search, InverseEstimate(self.memory, self.fallback), polish=self.polish)
