"""Gradient rules by name: "implicit(solver='gmres')" as the rule that it names."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.gradients.implicit import Implicit
from benchmark.gradients.inverse_estimate import InverseEstimate
from benchmark.gradients.last_layers import LastLayers, Phantom
from benchmark.gradients.rule import GradientRule
from benchmark.gradients.series import Series
from benchmark.options.spec import choose

GRADIENT_RULES: dict[str, Callable[..., GradientRule]] = {
    "implicit": Implicit,
    "inverse_estimate": InverseEstimate,
    "last_layers": LastLayers,
    "phantom": Phantom,
    "series": Series,
}


def gradient_rule(named: str | GradientRule) -> GradientRule:
    """The rule that a text names; a rule as it is.

    Raises ValueError for a name or an option that is not known, or out of its range.
    """
    if isinstance(named, GradientRule):
        return named
    rule: GradientRule = choose(named, GRADIENT_RULES, kind="gradient rule")()
    return rule
