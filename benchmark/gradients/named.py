"""Gradient rules by name: "implicit(solver='gmres')" as the rule that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmark.gradients.from_function import FromFunction
from benchmark.gradients.implicit import Implicit
from benchmark.gradients.inverse_estimate import InverseEstimate
from benchmark.gradients.last_layers import LastLayers, Phantom
from benchmark.gradients.rule import GradientRule
from benchmark.gradients.series import Series
from benchmark.options.spec import Kind, described
from benchmark.solve.fixed_point import Layer

GRADIENT_RULES: dict[str, Callable[..., GradientRule]] = {
    "implicit": Implicit,
    "inverse_estimate": InverseEstimate,
    "last_layers": LastLayers,
    "phantom": Phantom,
    "series": Series,
}
GRADIENT_RULE: Kind[GradientRule] = Kind(
    "gradient rule",
    GRADIENT_RULES,
    form="a function (T, x) that returns x with a graph, or a subclass of GradientRule",
)


def gradient_rule(named: str | GradientRule | Callable[[Layer, Tensor], Tensor]) -> GradientRule:
    """The rule that a text names, or that a function (T, x) is (``FromFunction``); a rule as it is.

    Raises ValueError for a name or an option that is not known, or out of its range.
    """
    if isinstance(named, GradientRule):
        return named
    chosen: Callable[..., Any] = (
        named if callable(named) else GRADIENT_RULE.choose(named, given=("T", "x"))
    )
    made = getattr(chosen, "func", chosen)
    if isinstance(made, type) and issubclass(made, GradientRule):
        rule: GradientRule = chosen()
        return rule
    return FromFunction(chosen, described(named))
