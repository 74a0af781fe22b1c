"""What a gradient rule is: how an equilibrium, once found, is differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.result import Hypergradient
from benchmark.solve.convergence import OnFailure, worst
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.search import Search
from benchmark.solve.system import LinearSolution


@final
@dataclass(eq=False)
class AdjointRecord:
    """What the backward pass found: ``solution`` is None until it has run, and where it solves no
    system.

    start : where the system is solved from, (N, …); None: where its solver likes.
    on_failure : what happens where its solver stops before its tolerance.
    """

    start: Tensor | None = None
    on_failure: OnFailure = "warn"
    solution: LinearSolution | None = field(default=None, init=False)


class GradientRule(ABC):
    """How ∇F = Bᵀ(I − Jᵀ)⁻¹∇ℓ is estimated at the states that a search finds.

    A rule is frozen; its instances are values.
    """

    #: whether layers must say what their two halves are (``benchmark.problems``' ``Splitting``)
    needs_splitting = False

    @abstractmethod
    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        """What ``search`` finds from ``x0``, its ``x`` with a graph that reaches the tensors that T
        closes over: what automatic differentiation makes of ℓ(x) is the estimate.

        Without a graph where gradients are disabled. ``adjoint`` is filled by the backward pass of
        the rules that solve a system there.
        """

    @abstractmethod
    def hypergradient(
        self,
        problem: EquilibriumLoss,
        x0: Tensor,
        search: Search,
        adjoint: AdjointRecord,
    ) -> Hypergradient:
        """The estimate itself, the direct term of ℓ included."""


class GraphRule(GradientRule):
    """A rule whose hypergradient is what automatic differentiation makes of its graph."""

    @final
    def hypergradient(
        self,
        problem: EquilibriumLoss,
        x0: Tensor,
        search: Search,
        adjoint: AdjointRecord,
    ) -> Hypergradient:
        with torch.enable_grad():
            found = self.through(problem.T, x0, search, adjoint)
        return replace(
            problem.differentiated(found.x),
            state_residual=worst(found.residual),
            converged=bool(found.converged.all()),
        )


def once_only(x: Tensor, *, why: str) -> Tensor:
    """``x``, whose graph may be differentiated once: a second time is a RuntimeError that says
    ``why``.
    """
    image: Tensor = _Once.apply(x, why) if x.requires_grad else x
    return image


class _Once(torch.autograd.Function):
    """The identity; so is its derivative, whose own derivative is refused."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, why: str) -> Tensor:
        ctx.why = why
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Refused.apply(gradient, ctx.why), None


class _Refused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, why: str) -> Tensor:
        ctx.why = why
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        raise RuntimeError(f"there is no second derivative: {ctx.why}")
