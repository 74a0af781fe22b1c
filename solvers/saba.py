"""The single loop with a variance-reduced outer gradient."""

import torch

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.fixed_point import iterate


class Solver(EquilibriumMethod):
    """ĝ = mean over the mini-batch of (ĝᵢ − its last ĝᵢ) + mean over all images of the last ĝᵢ.

    ĝᵢ = Bᵀwᵢ, each image's x and w moved on by ``inner_steps`` = n steps as in Single-Loop. Every
    image has an inner variable of its own here, so that SOBA is Single-Loop on mini-batches
    (``batch_size``), and what SABA reduces is the variance of the outer gradient alone: it vanishes
    where θ settles, so that a constant learning rate does. Until all images of a batch have been
    met before, ĝ is the mean of ĝᵢ. Cost: n layers, and for each image by itself a layer and n + 1
    vector-Jacobian products; memory: one graph, two states and a gradient for each training image.
    What θ is judged by is the equilibrium, to ``tol`` within ``max_layers`` layers. Reference:
    Dagréou, Ablin, Vaiter, Moreau, "A framework for bilevel optimization that enables stochastic
    and global variance reduction algorithms" (2022), arXiv 2201.13409.

    Use it on mini-batches of a training set whose states, adjoints and gradients fit in memory.
    """

    name = "SABA"
    parameters = {**EquilibriumMethod.parameters, "inner_steps": [5], "tol": [1e-6]}

    def hypergradient(self, lower, batch):
        x = self.carried.get("state", batch, lower.init(batch.observation).detach())
        with torch.no_grad():
            x = iterate(lower.layer(batch.observation), x, steps=self.inner_steps)
        start = self.carried.get("adjoint", batch, torch.zeros_like(x))
        each = [
            self._of_one(lower, batch[[i]], x[i : i + 1], start[i : i + 1]) for i in range(len(x))
        ]
        now, w = torch.stack([flat(h.gradient) for h in each]), torch.cat([h.adjoint for h in each])
        last = self.carried.get("gradient", batch, None)
        mean = now.mean(0)
        if last is not None:
            mean = (now - last).mean(0) + self.carried.mean("gradient").to(now.device)
        for name, value in (("state", x), ("adjoint", w), ("gradient", now)):
            self.carried.put(name, batch, value)
        sizes = [g.numel() for g in each[0].gradient]
        parts = zip(mean.to(x.dtype).split(sizes), each[0].gradient, strict=True)
        loss = torch.stack([h.loss for h in each]).mean()
        return Hypergradient(loss, tuple(part.view_as(g) for part, g in parts), x, w)

    def _of_one(self, lower, image, x, w):
        at = Linearization(EquilibriumLoss.of_lower_level(lower, image), x)
        w = iterate(lambda w: at.g + at.jt(w), w, steps=self.inner_steps)
        return Hypergradient(at.loss, at.gradient(w), x, w)
