"""Implicit differentiation at a state that one Newton step has corrected."""

from benchmark.gradients.implicit import Implicit
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE
from benchmark.solve.newton import NewtonCorrected
from benchmark.solve.search import ToTolerance


class Solver(PairMethod):
    """DEQ at x + (I − J)⁻¹(T(x) − x) in the place of x: the error of the state is squared.

    x is solved for to the relative residual ``tol`` within ``max_layers`` layers; the Newton step,
    by GMRES, and the adjoint system to ``adjoint_tol``. Where T is smooth, the error of ĝ is then
    O(‖x − x*‖²), for a second linear system; where T is affine on pieces, as soft-thresholding is,
    there is none as soon as x is on its piece. Cost: as DEQ at ``tol``, two layers, and the
    products with J, each the derivative of a product with Jᵀ; memory: two graphs and a basis. A
    compiled layer, which has no second derivatives, cannot be corrected. Reference: Ye, Peyré,
    Cremers, Ablin, "Enhancing hypergradients estimation: a study of preconditioning and
    reparameterization" (2024), arXiv 2402.16748.

    Use it where a tight tolerance of the state is dear and the layer can be differentiated
    twice.
    """

    name = "Newton-DEQ"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "tol": [1e-4],
        "adjoint_tol": [1e-10],
        "adjoint_solver": ["auto"],
        "polish": [True],
    }

    def pair(self, call):
        solver = NewtonCorrected(self.equilibrium_solver, self.adjoint_tol)
        search = ToTolerance(solver, self.tol, self.max_layers)
        rule = Implicit(self.adjoint_solver, self.adjoint_tol, self.max_layers)
        return Pair(search, rule, polish=self.polish)
