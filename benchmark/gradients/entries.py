"""What a training loop of one's own calls: ``equilibrium`` and ``hypergradient``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.named import gradient_rule
from benchmark.gradients.pair import Pair
from benchmark.gradients.result import Hypergradient
from benchmark.gradients.rule import AdjointRecord, GradientRule
from benchmark.solve.complex_numbers import RealLayer, as_complex, as_real
from benchmark.solve.convergence import OnFailure
from benchmark.solve.fixed_point import Layer
from benchmark.solve.named import EquilibriumSolver
from benchmark.solve.search import ToTolerance


@final
@dataclass(frozen=True)
class DifferentiableEquilibrium:
    """What ``equilibrium`` found.

    x : (N, …), its graph the gradient estimate.
    residual, steps, converged : (N,), of each sample, as ``Equilibrium`` of ``benchmark.solve`` has
        them.
    adjoint : filled by the backward pass: ``adjoint.solution`` has x, residual, steps and
        converged of the adjoint system; None until then, and with rules that solve none.
    """

    x: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor
    adjoint: AdjointRecord


def equilibrium(
    T: Layer,
    start: Tensor | DifferentiableEquilibrium,
    *,
    solver: str | EquilibriumSolver = "fista",
    gradient: str | GradientRule = "implicit",
    tol: float = 1e-5,
    max_layers: int = 1000,
    polish: bool = False,
    on_failure: OnFailure = "warn",
    gradient_tol: None = None,
) -> DifferentiableEquilibrium:
    """x* = T(x*) of any layer T, its graph the gradient estimate of a rule.

    ``loss(found.x).backward()`` then puts that estimate into ``.grad`` of the tensors that T closes
    over. The rules are ``Implicit`` (the implicit function theorem), ``LastLayers`` (Jacobian-free
    backpropagation, unrolled at the equilibrium), ``Series``, ``Phantom``, ``InverseEstimate``.

    Parameters
    ----------
    T : (N, …) to (N, …), a batch axis first, each sample independent of the others, without a
        change in place. One with an attribute ``splitting`` can have its adjoint solved by "cg".
        Complex states are solved for as real ones of twice the entries, and adjoints are theirs
        (``benchmark.solve.complex_numbers``).
    start : x⁰ (N, …); or what this function returned before: state and adjoint start from there.
    solver : "picard", "fista", "anderson(depth=20)", or a function (T, x0, *, tol, max_layers)
        that returns an ``Equilibrium``.
    gradient : a rule, or its name with options, ``"implicit(solver='gmres', tol=1e-8)"``.
    tol, max_layers : the relative residual ‖T(x) − x‖/‖T(x)‖ of each sample, and the layers that
        it may take.
    polish : where ``tol`` is below what the dtype of x⁰ reaches (4e-6 in float32), go on in
        float64; T must be a ``torch.nn.Module`` then.
    on_failure : "warn" (``NotConverged``), "raise" (``NotConvergedError``) or "ignore", where a
        tolerance is not met, in the backward pass too.
    gradient_tol : refused: a tolerance on the gradient needs the loss, see ``hypergradient``.

    Raises
    ------
    ValueError
        A name, an option or a number that is not known or out of its range, ``gradient_tol``, a
        tolerance that no allowed dtype reaches.

    Examples
    --------
    The equilibrium of x = θ/2·x + 1, x* = 1/(1 − θ/2), and dx*/dθ = x*²/2:

    >>> import torch
    >>> from benchmark import Implicit, equilibrium
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> rule = Implicit("gmres", tol=1e-10)
    >>> found = equilibrium(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                     solver="anderson", gradient=rule, tol=1e-10)
    >>> found.x.sum().backward()
    >>> round(found.x.item(), 6), round(theta.grad.item(), 6), bool(found.converged.all())
    (2.0, 2.0, True)
    """
    rule = gradient_rule(gradient)
    pair = Pair(ToTolerance(solver, tol, max_layers), rule, gradient_tol, polish)
    if isinstance(start, DifferentiableEquilibrium):
        x0, solved = start.x.detach(), start.adjoint.solution
        adjoint = AdjointRecord(None if solved is None else solved.x, on_failure)
    else:
        x0, adjoint = start, AdjointRecord(on_failure=on_failure)
    if x0.is_complex():
        found = pair.equilibrium(RealLayer(T), as_real(x0), adjoint)
        x = as_complex(found.x)
    else:
        found = pair.equilibrium(T, x0, adjoint)
        x = found.x
    return DifferentiableEquilibrium(x, found.residual, found.steps, found.converged, adjoint)


def hypergradient(
    T: Layer,
    start: Tensor | Hypergradient,
    loss: Callable[[Tensor], Tensor],
    parameters: Iterable[Tensor],
    *,
    gradient_tol: float | None = None,
    solver: str | EquilibriumSolver = "fista",
    gradient: str | GradientRule = "implicit",
    tol: float = 1e-5,
    max_layers: int = 1000,
    polish: bool = False,
    on_failure: OnFailure = "warn",
) -> Hypergradient:
    """ĝ ≈ ∇F(θ), F(θ) = ℓ(x*(θ)), x* = T(x*); with ``gradient_tol`` to a tolerance on ĝ itself.

    A relative residual of the state says little of the gradient; with ``gradient_tol`` state and
    adjoint are refined until an estimate of ‖ĝ − ∇F‖/‖∇F‖ is below it (an estimate and no bound:
    ``benchmark.gradients.refined``), which is returned as ``error``. Unlike ``equilibrium`` this
    leaves no graph, and holds that of one layer only.

    Parameters
    ----------
    start : x⁰ (N, …); or what this function returned before: state and adjoint start from there.
    loss : ℓ, from a state (N, …) to a 0-d tensor; where it holds θ too, the direct term is added.
    parameters : θ, tensors that require gradients and that T closes over.
    gradient_tol : see above; the rule must be ``Implicit``, whose ``tol`` and this function's are
        then not used. It is met in float64: in float32 (without ``polish``) as far as that tells.
    solver, gradient, tol, max_layers, polish, on_failure : as in ``equilibrium``; so are errors.

    Examples
    --------
    >>> import torch
    >>> from benchmark import hypergradient
    >>> theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    >>> found = hypergradient(lambda x: theta / 2 * x + 1, torch.zeros(1, 1).double(),
    ...                       lambda x: x.sum(), [theta], gradient_tol=1e-6)
    >>> round(found.gradient[0].item(), 5), found.error < 1e-6
    (2.0, True)
    """
    pair = Pair(ToTolerance(solver, tol, max_layers), gradient_rule(gradient), gradient_tol, polish)
    if isinstance(start, Hypergradient):
        x0, adjoint = start.state, AdjointRecord(start.adjoint, on_failure)
    else:
        x0, adjoint = start.detach(), AdjointRecord(on_failure=on_failure)
    if x0.is_complex():
        real = as_real(x0)
        problem = EquilibriumLoss.of_callables(
            RealLayer(T), lambda x: loss(as_complex(x)), parameters
        )
        found = pair.hypergradient(problem, real, adjoint)
        return replace(found.to(real.dtype), state=as_complex(found.state.to(real.dtype)))
    problem = EquilibriumLoss.of_callables(T, loss, parameters)
    found = pair.hypergradient(problem, x0, adjoint)
    return found.to(x0.dtype)
