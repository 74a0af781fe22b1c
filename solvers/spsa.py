"""Simultaneous perturbation: a zeroth-order method."""

from functools import partial

import torch

from benchmark.convergence import warn_unless_converged
from benchmark.differences import slopes, theta_named, theta_vector
from benchmark.estimator import BilevelSolver, Hypergradient
from benchmark.fixed_point import fista
from benchmark.precision import in_reach


class Solver(BilevelSolver):
    """ĝ = 1/D Σ_d vᵈ (F(θ + h vᵈ) − F(θ − h vᵈ)) / 2h, vᵈ random with entries ±1.

    Its mean over vᵈ is ∇F + O(h²), h = ``step``; its relative variance about (P − 1)/D for P
    parameters and D = ``directions``, drawn anew at each call from the seed of the task. Equilibria
    are found to the relative residual ``tol`` within ``max_layers`` layers, in float64 with
    ``polish`` where the dtype of the run does not reach it. Cost: 2D + 1 equilibria, whatever P;
    memory: a few states. Reference: Spall, "Multivariate stochastic approximation using a
    simultaneous perturbation gradient approximation" (1992).
    """

    name = "SPSA"
    parameters = {
        **BilevelSolver.parameters,
        "directions": [10],
        "step": [1e-3],
        "tol": [1e-10],
        "max_layers": [5000],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        x0 = self.start(lower, batch)
        precision = {"polish": self.polish, "max_layers": self.max_layers}
        posed = in_reach(lower, batch, x0, tol=self.tol, **precision)
        v = self._signs(theta_vector(posed.lower))
        solve = partial(fista, tol=self.tol, max_layers=self.max_layers)
        found = slopes(posed.lower, posed.batch, posed.x0, v, step=self.step, solve=solve)
        self.carry(batch, state=found.state)
        mean = found.values @ v.to(found.values.dtype) / len(v)
        gradient = tuple(theta_named(posed.lower, mean).values())
        return Hypergradient(found.loss, gradient, found.state).to(x0.dtype)

    def _signs(self, like):
        """±1 (D, P): of the seed and the number of the call, drawn on the CPU for every device."""
        seed = self.task.seed if hasattr(self, "task") else 0
        seeds = torch.Generator().manual_seed(seed)
        call = self.carried.count("call")
        own = torch.randint(2**62, (call + 1,), generator=seeds)[call]
        generator = torch.Generator().manual_seed(int(own))
        signs = 2 * torch.randint(2, (self.directions, len(like)), generator=generator) - 1
        return signs.to(dtype=like.dtype).to(like.device)

    @torch.no_grad()
    def deploy(self, lower, y):
        found = fista(lower.layer(y), lower.init(y), tol=self.tol, max_layers=self.max_layers)
        return warn_unless_converged(found, what="the equilibrium").x
