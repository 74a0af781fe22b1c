"""A method as a pair: how the state is looked for, and the rule that differentiates there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.casting import cast_layer
from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.implicit import Implicit
from benchmark.gradients.precision import led_up, needs_float64, promote
from benchmark.gradients.refined import refined_gradient
from benchmark.gradients.result import Hypergradient, require_exact
from benchmark.gradients.rule import AdjointRecord, GradientRule
from benchmark.options.checks import positive_number
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.search import Steps, ToTolerance


@final
@dataclass(frozen=True)
class Pair:
    """``search`` finds the state, ``rule`` differentiates there.

    gradient_tol : for ``Implicit``, a tolerance on the hypergradient in the place of those on state
    and adjoint (``refined_gradient``). polish : whether a tolerance that the dtype of the problem
    does not reach is met in float64; else it is an error.

    Raises ValueError for a ``gradient_tol`` that is not positive, or with what cannot be refined.
    """

    search: ToTolerance | Steps
    rule: GradientRule
    gradient_tol: float | None = None
    polish: bool = False

    def __post_init__(self) -> None:
        if self.gradient_tol is None:
            return
        positive_number("gradient_tol", self.gradient_tol)
        if not (isinstance(self.rule, Implicit) and isinstance(self.search, ToTolerance)):
            raise ValueError(
                f"gradient_tol={self.gradient_tol:g} needs a state solved to a tolerance and the "
                f"gradient rule Implicit, got {self.search} and {self.rule}"
            )

    @property
    def tightest(self) -> float:
        """The smallest of the tolerances; infinite where there is none."""
        tols = [part.tol for part in (self.search, self.rule) if isinstance(part, _TOLERANCES)]
        return min(tols, default=inf)

    def equilibrium(self, T: Layer, x0: Tensor, adjoint: AdjointRecord) -> Equilibrium:
        """The state, its graph the estimate, in the dtype of ``x0``.

        Raises ValueError for ``gradient_tol``, which needs the loss and θ, and as ``Pair`` says for
        a tolerance that cannot be reached: with ``polish`` too, where ``T`` is no module.
        """
        if self.gradient_tol is not None:
            raise ValueError(
                "gradient_tol needs the loss and the parameters: use hypergradient(T, x0, loss, "
                "parameters, gradient_tol=…), or the tolerances on state and adjoint"
            )
        if not needs_float64(x0.dtype, tol=self.tightest, polish=self.polish):
            return self.rule.through(T, x0, self.search, adjoint)
        wide = cast_layer(T, torch.float64)
        found = self.rule.through(wide, led_up(T, x0, self.search), self.search, adjoint)
        return replace(found, x=found.x.to(x0.dtype))

    @torch.no_grad()
    def reconstruction(self, T: Layer, x0: Tensor) -> Tensor:
        """The state alone, to ``search``'s tolerance or what the dtype of ``x0`` reaches."""
        return self.rule.through(T, x0, self.search, AdjointRecord()).x

    def hypergradient(
        self, problem: EquilibriumLoss, x0: Tensor, adjoint: AdjointRecord
    ) -> Hypergradient:
        """The estimate of ∇F, in the dtype of ``x0``; tolerances as ``Pair`` says."""
        if self.gradient_tol is None:
            tol, polish = self.tightest, self.polish
            at = promote(problem, x0, tol=tol, polish=polish, search=self.search)
            found = self.rule.hypergradient(at.problem, at.x0, self.search, adjoint)
        else:
            assert isinstance(self.rule, Implicit) and isinstance(self.search, ToTolerance)
            found = refined_gradient(
                problem,
                x0,
                adjoint.start,
                gradient_tol=self.gradient_tol,
                polish=self.polish,
                search=self.search,
                rule=self.rule,
            )
        if isinstance(self.rule, Implicit):
            require_exact(found, on_failure=adjoint.on_failure)
        return found


_TOLERANCES = (ToTolerance, Implicit)
