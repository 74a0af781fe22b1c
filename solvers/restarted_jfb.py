"""Restarted Jacobian-free backpropagation."""

import torch

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.fixed_point import iterate


class Solver(HypergradientEstimator):
    """Differentiate only the last of ``restarts`` + 1 rounds of ``layers`` steps.

    x = Tᴿᴷ(x⁰) without a graph, then x̂ = Tᴷ(x) with one: ĝ → Σ_{k<K} Bᵀ(Jᵀ)ᵏ∇ℓ as R grows. The
    adjoint's relative error is at most κᴷ, the state's O(κ^((R+1)K)). Cost: (R+1)K layers, K
    vector-Jacobian products; memory: K graphs. Reference: Davy, Briceño-Arias, Pustelnik,
    "Restarted contractive operators to learn at equilibrium" (2025), arXiv 2506.13239.
    """

    name = "Restarted-JFB"
    parameters = {**HypergradientEstimator.parameters, "restarts": [10], "layers": [10]}

    def equilibrium(self, T, x0):
        with torch.no_grad():
            x = iterate(T, x0, steps=self.restarts * self.layers)
        return iterate(T, x.detach(), steps=self.layers)
