"""The full gradient of a deep equilibrium model."""

from benchmark.gradients.implicit import Implicit
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
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

    Use it where the gradient must be exact, with ``gradient_tol``: where κ is near 1, small
    residuals can leave a large error in the gradient.
    """

    name = "DEQ"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "adjoint_tol": [1e-10],
        "gradient_tol": [None],
        "adjoint_solver": ["auto"],
        "polish": [True],
    }

    def pair(self, call):
        rule = Implicit(self.adjoint_solver, self.adjoint_tol, self.max_layers)
        return Pair(self.search, rule, self.gradient_tol, self.polish)
