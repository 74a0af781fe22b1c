"""Implicit differentiation with an inverse known along a few directions, found at random."""

import torch

from benchmark.gradients.linearization import Linearization
from benchmark.gradients.result import Hypergradient
from benchmark.options.seeds import seed_of
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.sketched import sketched


class Solver(EquilibriumMethod):
    """ĝ = Bᵀ(I − Ĵᵀ)⁻¹∇ℓ, Ĵᵀ = QQᵀJᵀ, Q a basis of what Jᵀ makes of random ``directions``.

    They are drawn anew at each call, and nothing is iterated: where J has no more rank ĝ is exact,
    elsewhere what Ĵ leaves of J is the bias, and along what Q misses ĝ is JFB's. The reference
    approximates a Hessian H by Nyström's formula, and damps it; here H = I − J, of which J is
    approximated and I is kept, by a projection, which does not break down where J is indefinite
    (stepsizes beyond 1/L) or not symmetric. The state is solved for to ``tol`` within
    ``max_layers`` layers, in float64 with ``polish``. Cost: the equilibrium, one layer, 2
    ``directions`` + 3 products, half of them, where the layer does not say what its two halves are,
    with J, each the derivative of a product; memory: one graph, or two, and 2 ``directions``
    states. Reference: Hataya and Yamada, "Nyström method for accurate and scalable implicit
    differentiation" (2023), arXiv 2302.09726.

    Use it where a few directions contract slowly and all others fast; where many do, conjugate
    gradients (``DEQ``) come further with as many products.
    """

    name = "Sketched-DEQ"
    parameters = {**EquilibriumMethod.parameters, "directions": [10], "polish": [True]}

    def hypergradient(self, lower, batch):
        there = self.promoted(lower, batch)
        found = self.search(there.problem.T, there.x0)
        at = Linearization(there.problem, found.x)
        seed = self.task.seed if hasattr(self, "task") else 0
        own = seed_of(seed, "directions", self.carried.count("call"))
        options = {"rank": self.directions, "generator": torch.Generator().manual_seed(own)}
        w = sketched(at.adjoint_system(), at.g, forward=at.j, **options)
        residuals = (float(each.residual.max()) for each in (found, w))
        estimate = Hypergradient(at.loss, at.gradient(w.x, last=True), found.x, w.x, *residuals)
        self.carry(batch, estimate)
        return estimate.to(batch.truth.dtype)
