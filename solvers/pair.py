"""A pair by name: any equilibrium solver with any gradient rule."""

from benchmark.gradients.named import gradient_rule
from benchmark.gradients.pair import Pair
from benchmark.plugins.bilevel_solver import PairMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE


class Solver(PairMethod):
    """Solve for the equilibrium by ``equilibrium_solver``, differentiate it by ``gradient``.

    ``gradient``, with its options, is ``implicit``, ``inverse_estimate``, ``last_layers``,
    ``phantom``, ``series`` (``benchmark.gradients``) or a file, as in
    ``Pair[equilibrium_solver=anderson,gradient=implicit(solver='gmres')]``. The equilibrium is
    found to the relative residual ``tol`` within ``max_layers`` layers; below what the run's dtype
    can reach, tolerances are met in float64, unless ``polish`` is False: then they are an error.
    Cost and memory: the equilibrium, and what the rule says of its own.

    Use it for a combination that has no name of its own.
    """

    name = "Pair"
    parameters = {
        **PairMethod.parameters,
        **TO_TOLERANCE,
        "gradient": ["implicit(tol=1e-10)"],
        "polish": [True],
    }

    def pair(self, call):
        return Pair(self.search, gradient_rule(self.gradient), polish=self.polish)
