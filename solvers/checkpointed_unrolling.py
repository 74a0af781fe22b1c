"""Truncated unrolling with the memory of the square root of its depth."""

from math import isqrt

import torch

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import BilevelSolver
from benchmark.solve.fixed_point import iterate


class Solver(BilevelSolver):
    """Unrolling, x̂ = Tᴷ(x⁰), one block of ⌈√K⌉ layers in the graph at a time, the last block first.

    The states between blocks are kept; the graph of each block is made when the backward pass
    reaches it. The estimate is that of ``Unrolling`` to rounding, and so is its bias. Cost: 2K
    layers, K vector-Jacobian products; memory: ⌈√K⌉ states and ⌈√K⌉ graphs. Written out, because
    ``torch.utils.checkpoint`` and layers that use ``torch.func`` exclude each other. Reference:
    Chen et al., "Training deep nets with sublinear memory cost" (2016), arXiv 1604.06174.

    Use it in the place of Unrolling where K graphs do not fit.
    """

    name = "Checkpointed-Unrolling"
    parameters = {**BilevelSolver.parameters, "layers": [10]}

    def hypergradient(self, lower, batch):
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        block = isqrt(self.layers - 1) + 1
        lengths = [min(block, self.layers - done) for done in range(0, self.layers, block)]
        states = [self.start(lower, batch)]
        with torch.no_grad():
            for steps in lengths:
                states.append(iterate(problem.T, states[-1], steps=steps))
        product = {"allow_unused": True, "materialize_grads": True}
        x = states.pop().detach().requires_grad_()
        loss = problem.loss(x)
        w, *gradient = torch.autograd.grad(loss, [x, *problem.parameters], **product)
        for start, steps in zip(reversed(states), reversed(lengths), strict=True):
            start = start.detach().requires_grad_()
            image = iterate(problem.T, start, steps=steps)
            w, *more = torch.autograd.grad(image, [start, *problem.parameters], w, **product)
            gradient = [a + b for a, b in zip(gradient, more, strict=True)]
        found = Hypergradient(loss.detach(), tuple(gradient), x.detach())
        self.carry(batch, found)
        return found

    @torch.no_grad()
    def deploy(self, lower, y):
        return iterate(lower.layer(y), lower.init(y), steps=self.layers)
