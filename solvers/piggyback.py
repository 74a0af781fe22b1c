"""State and adjoint iterated together, from one end of an outer step to the other."""

import torch

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.piggyback import piggyback
from benchmark.gradients.result import Hypergradient
from benchmark.plugins.bilevel_solver import EquilibriumMethod
from benchmark.solve.convergence import require_converged


class Solver(EquilibriumMethod):
    """x ← T(x) and w ← ∇ℓ(x) + J(x)ᵀw at once, to the relative change ``tol``; ĝ = Bᵀw.

    No equilibrium is waited for: the adjoint rides on the plain iteration, which need not be a
    gradient step, as that of primal-dual layers (``tv``) is not, and no solver is tuned. Both
    converge as T does, not as an accelerated solver would: about log(1/tol)/log(1/κ) steps, within
    ``max_layers``. Unlike the second reference, whose adjoint is a saddle-point problem of its own,
    the recursion is that of the layer's transposed Jacobian, and the tolerance is fixed; unlike
    ``Single-Loop`` the iteration ends within the outer step. Cost: k + 1 layers and k + 1 products
    for k steps; memory: one graph and two states. References: Griewank and Faure, "Piggyback
    differentiation and optimization" (2003); Bogensperger, Ehrhardt, Pock, Salehi, Wong, "An
    adaptively inexact method for bilevel learning using primal-dual style differentiation" (2024),
    arXiv 2412.06436.

    Use it where T is cheap, contracts well and suits no accelerated solver, and a single loop is to
    be seen through to a tolerance.
    """

    name = "Piggyback"
    parameters = {**EquilibriumMethod.parameters, "tol": [1e-6]}

    def hypergradient(self, lower, batch):
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        x, w = self.start(lower, batch), self.start_of_adjoint(batch)
        w = torch.zeros_like(x) if w is None else w
        done = piggyback(problem, x, w, tol=self.tol, max_layers=self.max_layers)
        require_converged(done, what="state and adjoint together")
        at, residual = Linearization(problem, done.x), float(done.residual.max())
        gradient = at.gradient(done.w, last=True)
        found = Hypergradient(at.loss, gradient, done.x, done.w, residual, residual)
        self.carry(batch, found)
        return found
