"""Restarted Jacobian-free backpropagation."""

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.solve.search import Steps


class Solver(PairMethod):
    """Differentiate only the last of ``restarts`` + 1 rounds of ``layers`` steps.

    x = Tᴿᴷ(x⁰) without a graph, then x̂ = Tᴷ(x) with one: ĝ → Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ as R grows. The
    adjoint's relative error is at most κᴷ, the state's O(κ^((R+1)K)). Cost: (R+1)K layers, K
    vector-Jacobian products; memory: K graphs. Reference: Davy, Briceño-Arias, Pustelnik,
    "Restarted contractive operators to learn at equilibrium" (2025), arXiv 2506.13239.

    Use it where κᴷ is small for a K whose graphs fit: K decides how exact the adjoint is, R the
    state.
    """

    name = "Restarted-JFB"
    parameters = {**PairMethod.parameters, "restarts": [10], "layers": [10]}

    def pair(self, call):
        return Pair(Steps(self.restarts * self.layers), LastLayers(self.layers))
