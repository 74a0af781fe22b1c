"""State and adjoint carried along: one loop instead of three."""

import torch

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.fixed_point import iterate


class Solver(EquilibriumMethod):
    """x ← T(x), then w ← ∇ℓ + Jᵀw at the new x, n = ``inner_steps`` times each; ĝ = Bᵀw.

    x and w are those at which the last meeting with the training image ended (x⁰ and 0 at the
    first), whatever ``warm_start`` says: at a fixed θ the estimate converges to ∇F as κⁿᵏ with the
    number k of calls, and θ is meant to move more slowly than that. SOBA, for a fixed point in
    place of a minimum, updates x, w and θ at once; here θ sees the new x and w. Since each image
    has an x and w of its own, SOBA is this on mini-batches, and ``SABA`` what reduces their
    variance. Cost: n + 1 layers, n + 1 vector-Jacobian products; memory: one graph, two states for
    each training image. What θ is judged by is the equilibrium: ``deploy`` solves for it to the
    relative residual ``tol`` within ``max_layers`` layers. Reference: Dagréou, Ablin, Vaiter,
    Moreau, "A framework for bilevel optimization that enables stochastic and global variance
    reduction algorithms" (2022), arXiv 2201.13409.

    Use it where each image is met many times and θ moves slowly: one of its steps costs a few
    layers.
    """

    name = "Single-Loop"
    parameters = {
        **EquilibriumMethod.parameters,
        "inner_steps": [5],
        "tol": [1e-6],
    }

    def hypergradient(self, lower, batch):
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        x = self.carried.get("state", batch, lower.init(batch.observation).detach())
        with torch.no_grad():
            x = iterate(problem.T, x, steps=self.inner_steps)
        at = Linearization(problem, x)
        w = self.carried.get("adjoint", batch, torch.zeros_like(x))
        w = iterate(lambda w: at.g + at.jt(w), w, steps=self.inner_steps)
        self.carried.put("state", batch, x)
        self.carried.put("adjoint", batch, w, of_mean=True)
        return Hypergradient(at.loss, at.gradient(w), x)
