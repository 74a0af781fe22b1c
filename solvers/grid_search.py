"""A grid search over one number."""

import math

from benchmark.plugins.search_method import SearchMethod


class Solver(SearchMethod):
    """Shift the strength of the regularisation, log σ or every log λ alike, and keep the best.

    θ = θ₀ + s·log(``factor``) on the parameters that ``lower.strength`` names, the rest at θ₀; s
    runs through 0, −1/2, 1/2, −3/4, −1/4, 1/4, 3/4, −7/8, …: an even grid on (−1, 1) after 2ᵐ − 1
    ``steps``, refined as it goes. The plain baseline: what one number is worth where all of θ could
    be learned. Skipped where θ does not hold the strength. Cost: one equilibrium a
    step; memory: a few states.

    Use it beside every learned θ: what is not above it has learned no more than one number.
    """

    name = "Grid-Search"
    parameters = {**SearchMethod.parameters, "steps": [15], "factor": [10.0]}

    def unfit(self, task):
        if task.lower.theta().keys() & set(task.lower.strength):
            return None
        return (
            "Grid-Search shifts the strength of the regularisation and θ does not hold it: "
            f"expected one of {', '.join(task.lower.strength) or 'none'} to be learned"
        )

    def propose(self, lower, tried):
        n = len(tried) + 1
        s = 2 * (2 * n + 1) / 2 ** n.bit_length() - 3
        theta = {name: p.detach().clone() for name, p in lower.theta().items()}
        for name in theta.keys() & set(lower.strength):
            theta[name] += s * math.log(self.factor)
        return theta
