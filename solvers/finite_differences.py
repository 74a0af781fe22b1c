"""Central differences."""

from functools import partial

import torch

from benchmark.convergence import warn_unless_converged
from benchmark.differences import few_parameters, slopes, theta_named, theta_vector
from benchmark.estimator import BilevelSolver, Hypergradient
from benchmark.fixed_point import fista
from benchmark.precision import in_reach


class Solver(BilevelSolver):
    """(F(θ + h e_p) − F(θ − h e_p)) / 2h for each parameter p, at equilibria solved anew.

    Each equilibrium is found to the relative residual ``tol`` within ``max_layers`` layers, from
    that of θ. The bias is O(h²) where F is smooth, h = ``step``, and an error of F by δ makes one
    of δ/h: ``tol`` must be far below h. In float32 all is done in float64 with ``polish``. More
    than ``max_parameters`` parameters are refused. Cost: 2P + 1 equilibria for P parameters;
    memory: a few states. Reference: Nocedal and Wright, "Numerical optimization" (2006), ch. 8.
    """

    name = "Finite-Differences"
    parameters = {
        **BilevelSolver.parameters,
        "step": [1e-4],
        "tol": [1e-12],
        "max_layers": [5000],
        "max_parameters": [100],
        "polish": [True],
    }

    def hypergradient(self, lower, batch):
        few_parameters(lower, self.max_parameters, what="finite differences solve two equilibria")
        x0 = self.start(lower, batch)
        precision = {"polish": self.polish, "max_layers": self.max_layers}
        posed = in_reach(lower, batch, x0, tol=self.tol, **precision)
        theta = theta_vector(posed.lower)
        basis = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        solve = partial(fista, tol=self.tol, max_layers=self.max_layers)
        found = slopes(posed.lower, posed.batch, posed.x0, basis, step=self.step, solve=solve)
        self.carry(batch, state=found.state)
        gradient = tuple(theta_named(posed.lower, found.values).values())
        return Hypergradient(found.loss, gradient, found.state).to(x0.dtype)

    @torch.no_grad()
    def deploy(self, lower, y):
        found = fista(lower.layer(y), lower.init(y), tol=self.tol, max_layers=self.max_layers)
        return warn_unless_converged(found, what="the equilibrium").x
