"""Hyperparameter optimisation with approximate gradients."""

from benchmark.gradients.implicit import Implicit
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE
from benchmark.plugins.schedules import DECREASES
from benchmark.solve.search import ToTolerance


class Solver(PairMethod):
    """DEQ's estimate to a tolerance εₖ that falls with the outer step k: rough first, exact later.

    State and adjoint are solved to relative residuals εₖ = max(tol, first_tol·dₖ), dₖ = 0.9ᵏ
    ("exponential"), 1/(k + 1)² ("quadratic") or 1/(k + 1)³ ("cubic"), from where the step before
    left them (``warm_start``); k counts the calls, ``first_tol`` is that of the author's code.
    Where Σεₖ is finite, gradient descent converges to a stationary point. Unlike the reference,
    which adapts its stepsize, the descent is that of all methods here. Cost: as DEQ, at a looser
    tolerance; memory: one graph and the vectors of the adjoint solver. Reference: Pedregosa,
    "Hyperparameter optimization with approximate gradient" (2016), arXiv 1602.02355.

    Use it to train: the first steps are cheap, and exactness is paid for only near a minimum.
    """

    name = "HOAG"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "warm_start": [True],
        "first_tol": [1e-3],
        "decrease": ["exponential"],
        "adjoint_solver": ["auto"],
        "polish": [True],
    }

    def pair(self, call):
        tol = max(self.tol, self.first_tol * DECREASES[self.decrease](call))
        search = ToTolerance(self.equilibrium_solver, tol, self.max_layers)
        return Pair(search, Implicit(self.adjoint_solver, tol, self.max_layers), polish=self.polish)
