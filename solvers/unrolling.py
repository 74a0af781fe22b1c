"""Truncated unrolling."""

from benchmark.gradients.last_layers import LastLayers
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.solve.search import Steps


class Solver(PairMethod):
    """Differentiate through ``layers`` steps from x⁰: x̂ = Tᴷ(x⁰), every step in the graph.

    The state is not at equilibrium and the adjoint is truncated with it. Cost: K layers, K
    vector-Jacobian products; memory: K graphs. Reference: Gregor and LeCun, "Learning fast
    approximations of sparse coding" (2010).

    Use it where K layers are themselves the reconstruction, as in a network of K layers; the
    equilibrium it is judged by is another.
    """

    name = "Unrolling"
    parameters = {**PairMethod.parameters, "layers": [10]}

    def pair(self, call):
        return Pair(Steps(0), LastLayers(self.layers))
