"""Central differences."""

import torch

from benchmark.gradients.differences import as_parameters, as_vector, few_parameters, slopes
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod


class Solver(EquilibriumMethod):
    """(F(θ + h e_p) − F(θ − h e_p)) / 2h for each parameter p, at equilibria solved anew.

    Each equilibrium is found to the relative residual ``tol`` within ``max_layers`` layers, from
    that of θ. The bias is O(h²) where F is smooth, h = ``step``, and an error of F by δ makes one
    of δ/h: ``tol`` must be far below h. In float32 all is done in float64 with ``polish``. More
    than ``max_parameters`` parameters are refused. Cost: 2P + 1 equilibria for P parameters;
    memory: a few states. Reference: Nocedal and Wright, "Numerical optimization" (2006), ch. 8.

    Use it to check another method where θ has few entries.
    """

    name = "Finite-Differences"
    parameters = {
        **EquilibriumMethod.parameters,
        "step": [1e-4],
        "tol": [1e-12],
        "max_parameters": [100],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        at = self.promoted(lower, batch)
        theta = as_vector(at.problem.parameters)
        what = "finite differences solve two equilibria"
        few_parameters(at.problem.parameters, self.max_parameters, what=what)
        basis = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        slope = slopes(at.problem, at.x0, basis, step=self.step, search=self.search)
        gradient = as_parameters(slope.values, at.problem.parameters)
        found = Hypergradient(slope.loss, gradient, slope.state)
        self.carry(batch, found)
        return found.to(batch.observation.dtype)
