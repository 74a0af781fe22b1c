"""The inverse estimate of a quasi-Newton solver, shared with the backward pass."""

import torch

from benchmark.gradients.implicit import implicit_layer
from benchmark.gradients.refined import equilibrium_solver
from benchmark.plugins.estimator import HypergradientEstimator
from benchmark.solve.convergence import warn_unless_converged
from benchmark.solve.secants import Secants
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import expand, norm


class Solver(HypergradientEstimator):
    """ĝ = BᵀHᵀ∇ℓ, H ≈ (I − J)⁻¹ what the solver's last ``memory`` steps say of the inverse.

    No adjoint system is solved. H is right along these steps and the identity across them; the
    bias is what they leave of ∇ℓ. Where ‖Hᵀ∇ℓ‖ > ``fallback``·‖∇ℓ‖ a sample falls back to JFB's ∇ℓ,
    unless ``fallback`` is None. The equilibrium is found to the relative residual ``tol`` within
    ``max_layers`` layers, by Anderson's method, whose matrix H is, or by another. Unlike the
    reference we take Broyden's second method (``Secants``): with the first, the errors of Hᵀ∇ℓ
    are not bounded by JFB's. Cost: the equilibrium, one layer, one vector-Jacobian product; memory:
    one graph and 2·``memory`` states. Reference: Ramzi et al., "SHINE: sharing the inverse estimate
    from the forward pass" (2022), arXiv 2106.00553.
    """

    name = "SHINE"
    parameters = {
        **HypergradientEstimator.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "equilibrium_solver": ["anderson"],
        "memory": [30],
        "fallback": [None],
        "polish": [True],
    }

    def equilibrium(self, T, x0):
        solve, secants = (
            equilibrium_solver(self.equilibrium_solver),
            Secants(T, memory=self.memory, tol=self.tol),
        )
        found = solve(secants, x0, tol=self.tol, max_layers=self.max_layers)
        x = warn_unless_converged(found, what="the equilibrium").x

        def share(matvec, g):
            w, size = secants.adjoint(g), norm(g)
            if self.fallback is not None:
                w = torch.where(expand(norm(w) > self.fallback * size, g), g, w)
            # nothing is iterated, so there is no residual to fall short of a tolerance
            steps, done = (torch.zeros_like(size, dtype=d) for d in (torch.int64, torch.bool))
            return LinearSolution(w, torch.full_like(size, torch.nan), steps, ~done)

        return implicit_layer(T, x, solve=share)
