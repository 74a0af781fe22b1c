"""Truncated unrolling."""

from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.fixed_point import iterate


class Solver(HypergradientEstimator):
    """Differentiate through ``layers`` steps from x⁰: x̂ = Tᴷ(x⁰), every step in the graph.

    The state is not at equilibrium and the adjoint is truncated with it. Cost: K layers, K
    vector-Jacobian products; memory: K graphs. Reference: Gregor and LeCun, "Learning fast
    approximations of sparse coding" (2010).
    """

    name = "Unrolling"
    parameters = {**HypergradientEstimator.parameters, "layers": [10]}

    def equilibrium(self, T, x0):
        return iterate(T, x0.detach(), steps=self.layers)
