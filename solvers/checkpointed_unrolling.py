"""Truncated unrolling with the memory of the square root of its depth."""

from math import isqrt

import torch

from benchmark.gradients.implicit import PRODUCT
from benchmark.plugins.estimator import BilevelSolver, Hypergradient
from benchmark.problems.lower_level import upper_loss
from benchmark.solve.fixed_point import iterate


class Solver(BilevelSolver):
    """Unrolling, x̂ = Tᴷ(x⁰), one block of ⌈√K⌉ layers in the graph at a time, the last block first.

    The states between blocks are kept; the graph of each block is made when the backward pass
    reaches it. The estimate is that of ``Unrolling`` to rounding, and so is its bias. Cost: 2K
    layers, K vector-Jacobian products; memory: ⌈√K⌉ states and ⌈√K⌉ graphs. Written out, because
    ``torch.utils.checkpoint`` and layers that use ``torch.func`` exclude each other. Reference:
    Chen et al., "Training deep nets with sublinear memory cost" (2016), arXiv 1604.06174.
    """

    name = "Checkpointed-Unrolling"
    parameters = {**BilevelSolver.parameters, "layers": [10]}

    def hypergradient(self, lower, batch):
        T, theta = lower.layer(batch.observation), list(lower.theta().values())
        block = isqrt(self.layers - 1) + 1
        lengths = [min(block, self.layers - done) for done in range(0, self.layers, block)]
        states = [self.start(lower, batch)]
        with torch.no_grad():
            for steps in lengths:
                states.append(iterate(T, states[-1], steps=steps))
        x = states.pop().detach().requires_grad_()
        loss = upper_loss(lower, x, batch.truth)
        w, *gradient = torch.autograd.grad(loss, [x, *theta], **PRODUCT)
        for start, steps in zip(reversed(states), reversed(lengths), strict=True):
            start = start.detach().requires_grad_()
            image = iterate(T, start, steps=steps)
            w, *more = torch.autograd.grad(image, [start, *theta], w, **PRODUCT)
            gradient = [a + b for a, b in zip(gradient, more, strict=True)]
        self.carry(batch, state=x)
        return Hypergradient(loss.detach(), tuple(gradient), x.detach())

    @torch.no_grad()
    def deploy(self, lower, y):
        return iterate(lower.layer(y), lower.init(y), steps=self.layers)
