"""Central differences."""

from functools import partial

import torch

from benchmark.gradients.differences import few_parameters, slopes, theta_named, theta_vector
from benchmark.plugins.estimator import EquilibriumMethod, Hypergradient, equilibrium_of


class Solver(EquilibriumMethod):
    """(F(θ + h e_p) − F(θ − h e_p)) / 2h for each parameter p, at equilibria solved anew.

    Each equilibrium is found to the relative residual ``tol`` within ``max_layers`` layers, from
    that of θ. The bias is O(h²) where F is smooth, h = ``step``, and an error of F by δ makes one
    of δ/h: ``tol`` must be far below h. In float32 all is done in float64 with ``polish``. More
    than ``max_parameters`` parameters are refused. Cost: 2P + 1 equilibria for P parameters;
    memory: a few states. Reference: Nocedal and Wright, "Numerical optimization" (2006), ch. 8.
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
        few_parameters(lower, self.max_parameters, what="finite differences solve two equilibria")
        posed = self.posed(lower, batch)
        theta = theta_vector(posed.lower)
        basis = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        solve = partial(equilibrium_of, self)
        found = slopes(posed.lower, posed.batch, posed.x0, basis, step=self.step, solve=solve)
        self.carry(batch, state=found.state)
        gradient = tuple(theta_named(posed.lower, found.values).values())
        return Hypergradient(found.loss, gradient, found.state).to(batch.observation.dtype)
