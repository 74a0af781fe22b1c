"""The full gradient of a deep equilibrium model."""

from functools import partial

from benchmark.gradients.implicit import implicit_layer
from benchmark.gradients.refined import (
    Solvers,
    adjoint_solver,
    exact_gradient,
    gradient_to,
    warn_unless_exact,
)
from benchmark.plugins.estimator import EquilibriumMethod, Hypergradient, equilibrium_of


class Solver(EquilibriumMethod):
    """Solve (I − Jᵀ)w = ∇ℓ at the equilibrium and return Bᵀw: the implicit function theorem.

    Exact up to ``tol`` (relative residual of the state) and ``adjoint_tol`` (of the adjoint), each
    within ``max_layers`` layers or products; or, with ``gradient_tol``, refined until the estimated
    relative error of the *hypergradient* is below it. A tolerance that the run's dtype cannot
    reach is met in float64, unless ``polish`` is False: then it is an error. ``gradient_tol`` is
    met in float64 too, unless ``polish`` is False: then as far as float32 can tell. Cost: the
    equilibrium, one layer, the products of the adjoint solver; memory: one graph and, for GMRES,
    its basis. The adjoint solver "auto" is conjugate gradients, without a basis, for layers of
    soft-thresholding (``wavelet_l1``), for which alone "cg" is, and GMRES for others.
    References: Bai, Kolter, Koltun, "Deep equilibrium models" (2019), arXiv 1909.01377; Saad and
    Schultz, "GMRES" (1986).
    """

    name = "DEQ"
    parameters = {
        **EquilibriumMethod.parameters,
        "adjoint_tol": [1e-10],
        "gradient_tol": [None],
        "adjoint_solver": ["auto"],
        "polish": [True],
    }

    def skip(self, task):
        if self.adjoint_solver == "cg" and task.lower.halves() is None:
            return True, "cg needs a layer that is a gradient step followed by soft-thresholding"
        return False, None

    def hypergradient(self, lower, batch):
        w0 = self.start_of_adjoint(batch)
        names = (self.equilibrium_solver, self.adjoint_solver)
        solvers = Solvers.named(*names, max_layers=self.max_layers)
        if self.gradient_tol is None:
            tols = {"tol": self.tol, "adjoint_tol": self.adjoint_tol}
            posed = self.posed(lower, batch, tol=min(tols.values()))
            found = exact_gradient(posed.lower, posed.batch, posed.x0, w0, **tols, solvers=solvers)
        else:
            x0 = self.start(lower, batch)
            goal = {"gradient_tol": self.gradient_tol, "polish": self.polish}
            found = gradient_to(lower, batch, x0, w0, **goal, solvers=solvers)
        warn_unless_exact(found)
        self.carry(batch, state=found.state, adjoint=found.adjoint)
        estimate = Hypergradient(found.loss, found.gradient, found.state, error=found.error)
        return estimate.to(batch.observation.dtype)

    def equilibrium(self, T, x0):
        """x*, its graph the implicit function theorem, to ``tol`` and ``adjoint_tol``."""
        adjoint = adjoint_solver(self.adjoint_solver)
        adjoint = partial(adjoint, tol=self.adjoint_tol, max_steps=self.max_layers)
        return implicit_layer(T, equilibrium_of(self, T, x0), solve=adjoint)
