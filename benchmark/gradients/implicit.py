"""The implicit function theorem: one layer's graph, as many products as its adjoint needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import LayerGraph, Linearization
from benchmark.gradients.result import Hypergradient
from benchmark.gradients.rule import AdjointRecord, GradientRule
from benchmark.options.checks import positive_integer, positive_number
from benchmark.solve.convergence import require_converged, worst
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.krylov import cg
from benchmark.solve.named import AdjointSolver, adjoint_solver
from benchmark.solve.search import Search
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import MatVec, expand, norm

#: (matvec, b) to its solution
SolveAdjoint = Callable[[MatVec, Tensor], LinearSolution]


@final
@dataclass(frozen=True)
class Implicit(GradientRule):
    """(I − Jᵀ)w = ∇ℓ is solved at the equilibrium, and Bᵀw returned.

    ``solver`` is a name of ``benchmark.solve.linear.ADJOINT_SOLVERS`` with its options, or a
    function (matvec, b, *, tol, max_steps, x0) that returns a ``LinearSolution``; it solves to the
    relative residual ``tol`` within ``max_steps`` products. "auto" is conjugate gradients for
    layers that say what their two halves are, GMRES for others. Cost: one layer, the products and
    one more; memory: one graph and the solver's vectors. Second derivatives are implicit too: the
    adjoint is the equilibrium of w ↦ Jᵀw + ∇ℓ, and is differentiated as one (not with "cg"). Bai,
    Kolter, Koltun, "Deep equilibrium models" (2019), arXiv 1909.01377.

    Examples
    --------
    T(x) = θx/2 + 1 has x* = 2/(2 − θ), whose derivative is 2 at θ = 1; J = 1/2 and B = 1 there.

    >>> import torch
    >>> from benchmark import Implicit, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     gradient=Implicit(tol=1e-10), tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(theta.grad.item(), 6)
    2.0
    """

    solver: str | AdjointSolver = "auto"
    tol: float = 1e-5
    max_steps: int = 1000

    def __post_init__(self) -> None:
        adjoint_solver(self.solver)
        positive_number("tol", self.tol)
        positive_integer("max_steps", self.max_steps)

    @property
    def needs_splitting(self) -> bool:  # type: ignore[override]
        """Whether the solver is conjugate gradients."""
        solve = adjoint_solver(self.solver)
        return (solve.func if isinstance(solve, partial) else solve) is cg

    def through(self, T: Layer, x0: Tensor, search: Search, adjoint: AdjointRecord) -> Equilibrium:
        found = search(T, x0, on_failure=adjoint.on_failure)
        solve = partial(adjoint_solver(self.solver), tol=self.tol, max_steps=self.max_steps)
        first = partial(solve, x0=adjoint.start)
        x = adjoint_layer(T, found.x, solve=first, record=adjoint, again=solve, halves=True)
        return replace(found, x=x)

    def hypergradient(
        self,
        problem: EquilibriumLoss,
        x0: Tensor,
        search: Search,
        adjoint: AdjointRecord,
    ) -> Hypergradient:
        found = search(problem.T, x0, on_failure="ignore")
        at = Linearization(problem, found.x)
        solve = adjoint_solver(self.solver)
        budget = {"tol": self.tol, "max_steps": self.max_steps}
        w = solve(at.adjoint_system(), at.g, x0=adjoint.start, **budget)
        adjoint_state = never_zero(w.x, at.g)
        return Hypergradient(
            loss=at.loss,
            gradient=at.gradient(adjoint_state, last=True),
            state=found.x,
            adjoint=adjoint_state,
            state_residual=worst(found.residual),
            adjoint_residual=worst(w.residual),
            error=nan,
            converged=bool(found.converged.all() and w.converged.all()),
        )


def never_zero(w: Tensor, g: Tensor) -> Tensor:
    """``w`` (N, …), and ``g`` for samples of which a solver has found nothing: the first term of
    the series, Jacobian-free backpropagation. A gradient of zero would say that there is none.
    """
    nothing = norm(w) == 0
    return torch.where(expand(nothing, w), g, w) if nothing.any() else w


def adjoint_layer(
    T: Layer,
    x: Tensor,
    *,
    solve: SolveAdjoint,
    record: AdjointRecord,
    again: SolveAdjoint | None = None,
    why: str = "",
    halves: bool = False,
) -> Tensor:
    """T(x), whose backward pass solves (I − Jᵀ)w = g and goes on into θ with w instead of g.

    At x = x*, the gradient of ℓ(T(x)) is then Bᵀ(I − Jᵀ)⁻¹∇ℓ. ``solve(matvec, b)`` solves the
    system; what it found goes into ``record``. ``again(matvec, b)`` solves those of second
    derivatives; where it is None they are a RuntimeError that says ``why``. With ``halves`` the
    system has the two halves of T at hand, where T says what they are. Memory: the graph of one
    layer and what ``solve`` keeps; every product with Jᵀ reuses that graph. Where gradients are
    disabled this is T(x).
    """
    if not torch.is_grad_enabled():
        return T(x)
    graph, image = LayerGraph.of(T, x, halves=halves)
    if not image.requires_grad:
        return image
    theta = () if again is None else _leaves(image, but=graph.x)
    adjoint = _Adjoint(T, graph, theta, solve, again, record, why)
    attached: Tensor = _SolveInBackward.apply(adjoint, image, *theta)
    return attached


def _leaves(image: Tensor, *, but: Tensor) -> tuple[Tensor, ...]:
    """The leaves that the graph of ``image`` ends in, ``but`` not among them."""
    found: dict[int, Tensor] = {}
    nodes, seen = [image.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not but:
            found[id(leaf)] = leaf
        nodes += [following for following, _ in node.next_functions]
    return tuple(found.values())


@final
@dataclass(frozen=True)
class _Adjoint:
    """The adjoint system of a layer at a state, and how it is solved."""

    T: Layer
    graph: LayerGraph
    theta: tuple[Tensor, ...]
    solve: SolveAdjoint
    again: SolveAdjoint | None
    record: AdjointRecord
    why: str

    def solved(self, g: Tensor) -> Tensor:
        """w, without a graph."""
        with torch.no_grad():
            found = self.solve(self.graph.adjoint_system(), g.detach())
        self.record.solution = found
        require_converged(found, what="the adjoint system", on_failure=self.record.on_failure)
        return never_zero(found.x, g.detach())

    def differentiable(self, w: Tensor, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Bᵀw with a graph from x, θ and g, w the equilibrium of w ↦ g + Jᵀw there."""
        if self.again is None:
            raise RuntimeError(f"there is no second derivative: {self.why}")

        def layer(w: Tensor) -> Tensor:
            (jtw,) = torch.autograd.grad(
                self.T(x), x, w, create_graph=True, allow_unused=True, materialize_grads=True
            )
            return g + jtw

        record = AdjointRecord(on_failure=self.record.on_failure)
        why = "of third order and beyond"
        w = adjoint_layer(layer, w, solve=self.again, record=record, why=why)
        gradient: tuple[Tensor, ...] = _Pullback.apply(self.T, x, w, *self.theta)
        return gradient


class _SolveInBackward(torch.autograd.Function):
    """T(x), whose gradient is w; where it is to be differentiated again, Bᵀw goes to θ directly:
    the graph of T(x) holds x as a constant.
    """

    @staticmethod
    def forward(ctx: Any, adjoint: _Adjoint, image: Tensor, *theta: Tensor) -> Tensor:
        ctx.adjoint = adjoint
        out = image.view_as(image)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        w = ctx.adjoint.solved(g)
        if not torch.is_grad_enabled():
            return None, w, *[None] * len(ctx.adjoint.theta)
        (x,) = ctx.saved_tensors
        return None, None, *ctx.adjoint.differentiable(w, x, g)


class _Pullback(torch.autograd.Function):
    """Bᵀw, B = ∂T/∂θ at x: a function of x, w and θ, differentiable once."""

    @staticmethod
    def forward(ctx: Any, T: Layer, x: Tensor, w: Tensor, *theta: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            ctx.x, ctx.w = (t.detach().requires_grad_() for t in (x, w))
            ctx.theta = theta
            ctx.gradient = torch.autograd.grad(
                T(ctx.x), theta, ctx.w, create_graph=True, allow_unused=True, materialize_grads=True
            )
        return tuple(part.detach() for part in ctx.gradient)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *h: Tensor) -> tuple[Tensor | None, ...]:
        pairs = [(g, v) for g, v in zip(ctx.gradient, h, strict=True) if g.requires_grad]
        inputs = [ctx.x, ctx.w, *ctx.theta]
        parts, along = zip(*pairs, strict=True)
        options = {"retain_graph": True, "allow_unused": True}
        return None, *torch.autograd.grad(parts, inputs, along, **options)
