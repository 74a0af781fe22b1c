"""Simultaneous perturbation: a zeroth-order method."""

import torch

from benchmark.gradients.differences import as_parameters, as_vector, slopes
from benchmark.gradients.result import Hypergradient
from benchmark.options.seeds import seed_of
from benchmark.plugins.bilevel_solver import EquilibriumMethod


class Solver(EquilibriumMethod):
    """ĝ = 1/D Σ_d vᵈ (F(θ + h vᵈ) − F(θ − h vᵈ)) / 2h, vᵈ random with entries ±1.

    Its mean over vᵈ is ∇F + O(h²), h = ``step``; its relative variance about (P − 1)/D for P
    parameters and D = ``directions``, drawn anew at each call from the seed of the task. Equilibria
    are found to the relative residual ``tol`` within ``max_layers`` layers, in float64 with
    ``polish`` where the dtype of the run does not reach it. Cost: 2D + 1 equilibria, whatever P;
    memory: a few states. Reference: Spall, "Multivariate stochastic approximation using a
    simultaneous perturbation gradient approximation" (1992).

    Use it where F can be evaluated and the layer cannot be differentiated.
    """

    name = "SPSA"
    parameters = {
        **EquilibriumMethod.parameters,
        "directions": [10],
        "step": [1e-3],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        at = self.promoted(lower, batch)
        v = self._signs(as_vector(at.problem.parameters))
        slope = slopes(at.problem, at.x0, v, step=self.step, search=self.search)
        mean = slope.values @ v.to(slope.values.dtype) / len(v)
        gradient = as_parameters(mean, at.problem.parameters)
        found = Hypergradient(slope.loss, gradient, slope.state)
        self.carry(batch, found)
        return found.to(batch.observation.dtype)

    def _signs(self, like):
        """±1 (D, P): of the seed and the number of the call, drawn on the CPU for every device."""
        seed = self.task.seed if hasattr(self, "task") else 0
        own = seed_of(seed, "signs", self.carried.count("call"))
        generator = torch.Generator().manual_seed(own)
        signs = 2 * torch.randint(2, (self.directions, len(like)), generator=generator) - 1
        return signs.to(dtype=like.dtype).to(like.device)
