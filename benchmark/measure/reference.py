"""The reference hypergradient and the equilibrium to compare with, in float64, with residuals.

The solvers are those that methods may use too, at tighter tolerances: the equilibrium by Anderson's
method or, where that stops short, by FISTA from there; the adjoint by GMRES; the residual of the
state is computed anew. What is independent of them is in the tests: central differences and closed
forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat, relative_change
from benchmark.problems.bilevel import Batch, Images
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import FAR, Equilibrium, anderson, fista
from benchmark.solve.krylov import gmres
from benchmark.solve.system import LinearSolution
from benchmark.solve.vectors import expand, norm, select

#: layers that an equilibrium may take by each of two solvers: where it needs more, a layer hardly
#: has one that could be judged
MAX_LAYERS = 4000
#: layers for all samples of a batch together; those that need more go on alone
_TOGETHER = 30
#: residual that either solver is to have come to within so many layers, or there is no equilibrium
_NEAR, _SOON = 1e-3, 500
#: where float32 leads up: the least residual and the layers at which it ends, and the residual at
#: which it has led somewhere
_LED_UP, _LED_LAYERS, _SOMEWHERE = 1e-5, 1000, 1e-3
#: numbers in the states that are solved for at once: a solver holds some thirty times as many, and
#: what it does with them is bound by the caches
_AT_ONCE = 2**17
#: residual above which nothing computed at a state may serve as a reference
_TRUSTED = 1e-6
#: a state this many times larger than T(x⁰) is no equilibrium
_LOST = 1e6
#: the error bar compares with residuals this many times larger
_COARSER = 100.0


@dataclass(frozen=True)
class TrueEquilibrium:
    """x* (N, …), ‖T(x*) − x*‖ / ‖T(x*)‖ of its samples (N,), as ``_residuals`` has them, and the
    sizes (N,) of T(x⁰) that they were judged beside.
    """

    x: Tensor
    residuals: Tensor
    first: Tensor

    @property
    def residual(self) -> float:
        """The largest of them."""
        return float(self.residuals.max())


@dataclass(frozen=True)
class Reference:
    """∇F on a batch, flat in the order of ``lower.theta()``, and how far to trust it.

    error : ‖∇F − ∇F'‖ / ‖∇F‖, ∇F' the same at residuals a hundred times larger: the error bar.
    state_residual : ‖T(x*) − x*‖ / ‖x*‖.
    adjoint_residual : ‖g − (I − Jᵀ)w‖ / ‖g‖.
    contraction : the spectral radius of J at x*, the local rate of x ← T(x); the largest over the
        batch. It is κ where J is normal, and at most κ in general.
    """

    gradient: Tensor
    error: float
    state_residual: float
    adjoint_residual: float
    contraction: float

    @property
    def residual(self) -> float:
        """The larger of the two residuals."""
        return max(self.state_residual, self.adjoint_residual)

    @property
    def trusted(self) -> bool:
        """Whether the gradient may serve as a reference at all: residuals of at most 1e-6."""
        return self.residual <= _TRUSTED


def true_equilibrium(
    lower: LowerLevelProblem,
    y: Tensor,
    *,
    tol: float,
    max_layers: int = MAX_LAYERS,
    x0: Tensor | None = None,
    first: Tensor | None = None,
    judged_in: torch.dtype = torch.float64,
) -> TrueEquilibrium:
    """The fixed point of ``lower.layer(y)`` to the relative residual ``tol``, without a graph.

    ``x0`` is where to start, ``lower.init(y)`` if it is None; ``first`` that of an equilibrium of
    the same images, if one is known. From ``lower.init(y)``, and as far as float32 can tell,
    float32 leads up; where residuals may be ``judged_in`` it, it ends there. Up to ``max_layers``
    layers of either solver, after the first ``_TOGETHER`` for the samples alone that are not there
    yet, and ``_SOON`` for those that are not near; of no more samples together than have
    ``_AT_ONCE`` numbers.
    """
    with torch.no_grad():
        x = (lower.init(y) if x0 is None else x0).clone()
        single = _in_float32(lower, y, x) if x0 is None or tol >= _LED_UP else None
        ends = single is not None and judged_in == torch.float32 and tol >= _LED_UP
        together = max(1, _AT_ONCE // max(1, x[:1].numel()))
        residuals, sizes = [], []
        stages = [(solver, min(most, max_layers)) for solver, most in _STAGES]
        stages += [(anderson, max_layers), (fista, max_layers)]
        for rows in torch.arange(len(y), device=y.device).split(together):
            here, seen = x[rows], y[rows]
            size = _first_size(lower, single, seen) if first is None else first[rows]
            if single is not None:
                here, residual = _led_up(single, seen, here, tol)
                residual = _unless_lost(residual, norm(here), size)
            if not ends:
                residual = _residuals(lower, here, seen, size)
            left = ~(residual <= tol)
            if left.any():
                here = here.clone()
                here[left], _ = _solved(lower, seen[left], here[left], stages, tol=tol)
                residual[left] = _residuals(lower, here[left], seen[left], size[left])
            x[rows] = here
            residuals.append(residual)
            sizes.append(size)
    return TrueEquilibrium(x, torch.cat(residuals), torch.cat(sizes))


def _in_float32(lower: LowerLevelProblem, y: Tensor, x: Tensor) -> LowerLevelProblem | None:
    """A copy of ``lower`` in float32, of one in float64 and of real states alone."""
    if x.dtype != torch.float64 or y.dtype != torch.float64:
        return None
    return lower.copied(torch.float32)


def _led_up(single: LowerLevelProblem, y: Tensor, x: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """Where Anderson's method in float32 leads from ``x`` on the way to ``tol``, at a fraction of
    the cost, and its residuals; ``x`` itself for the samples that it leads nowhere, and where a
    layer cannot be had in float32.
    """
    with suppress(RuntimeError):  # one of a user's may hold float64 of its own
        stages = [*_STAGES[:2], (anderson, _LED_LAYERS)]
        found, residuals = _solved(single, y.float(), x.float(), stages, tol=max(tol, _LED_UP))
        near = (residuals <= _SOMEWHERE).cpu().numpy()
        return select(near, found.double(), x), residuals.double()
    return x, norm(x).fill_(torch.inf)


#: a solver and its layers, the next for the samples that are not there yet: those together, and
#: those after which the last are for the samples alone that are near
_STAGES = ((anderson, _TOGETHER), (anderson, 2 * _TOGETHER), (anderson, _SOON), (fista, _SOON))


def _solved(
    lower: LowerLevelProblem,
    y: Tensor,
    x: Tensor,
    stages: Sequence[tuple[Callable[..., Equilibrium], int]],
    *,
    tol: float,
) -> tuple[Tensor, Tensor]:
    """The equilibria from ``x``, as far as they can be found, and the residuals as solvers have
    them.
    """
    x, left = x.clone(), torch.arange(len(y), device=y.device)
    residuals = torch.full((len(y),), torch.inf, dtype=x.dtype, device=x.device)
    for number, (solve, most) in enumerate(stages):
        found = solve(lower.layer(y[left]), x[left], tol=tol, max_layers=most)
        x[left], residuals[left] = found.x, found.residual
        left = left[~found.converged]
        if number >= len(_STAGES) - 1:
            left = left[residuals[left] <= _NEAR]
        if len(left) == 0:
            break
    return x, residuals


def reference_hypergradient(
    lower: LowerLevelProblem,
    batch: Images,
    *,
    tol: float = 1e-12,
    enough: float = 0.0,
    max_layers: int = MAX_LAYERS,
    starts: Sequence[Tensor] | None = None,
    judged_in: torch.dtype = torch.float64,
) -> Reference:
    """∇F(θ) = Bᵀ(I − Jᵀ)⁻¹∇ℓ + the direct term through R_θ, at the true equilibrium of ``batch``.

    State and adjoint are solved to residuals of ``tol``; with ``enough`` only as far as its error
    bar is to be no more than that, which is that of residuals a hundred times larger: to 100
    ``tol`` at least. ``starts`` are states of each part to begin with; the rate alone is
    ``judged_in`` a dtype of its own, where a layer can be had in it.
    Where no equilibrium is found the gradient is NaN and the adjoint is not tried. Of images of
    several shapes or operators, the mean of the gradients of each, with the largest of the
    residuals and of the rates, and a bound of the error.
    ``lower`` and ``batch`` must be in float64 (ValueError otherwise). Cost: the equilibrium, some
    hundred vector-Jacobian products for the adjoint, fifty for the contraction factor.
    """
    levels = [_COARSER * tol, tol] if enough == 0 else [_COARSER**2 * tol, _COARSER * tol, tol]
    how = {"levels": levels, "enough": enough, "max_layers": max_layers, "judged_in": judged_in}
    found = [
        _reference_of_one(lower.at(part.operator), part, x0, **how)
        for part, x0 in zip(batch.parts, starts or [None] * len(batch.parts), strict=True)
    ]
    if len(found) == 1:
        return found[0]
    weights = [len(part) / len(batch) for part in batch.parts]
    gradient = sum(weight * of_one.gradient for weight, of_one in zip(weights, found, strict=True))
    errors = [
        w * float(one.gradient.norm()) * one.error for w, one in zip(weights, found, strict=True)
    ]
    return Reference(
        gradient=gradient,
        error=sum(errors) / float(gradient.norm()),
        # not max(), which can hide what is no number
        state_residual=float(np.max([one.state_residual for one in found])),
        adjoint_residual=float(np.max([one.adjoint_residual for one in found])),
        contraction=float(np.max([one.contraction for one in found])),
    )


def _reference_of_one(
    lower: LowerLevelProblem,
    batch: Batch,
    x: Tensor | None,
    *,
    levels: Sequence[float],
    enough: float,
    max_layers: int,
    judged_in: torch.dtype,
) -> Reference:
    theta = list(lower.theta().values())
    for tensor in (batch.observation, *theta):
        if tensor.dtype != torch.float64:
            raise ValueError(f"the reference is computed in float64, got {tensor.dtype}")
    problem, w, before = EquilibriumLoss.of_lower_level(lower, batch), None, None
    for tol in levels:
        equilibrium = true_equilibrium(
            lower, batch.observation, tol=tol, max_layers=max_layers, x0=x
        )
        x, at = equilibrium.x, Linearization(problem, equilibrium.x)
        if before is None and not equilibrium.residual <= _TRUSTED:
            rate = _contraction(problem, x, judged_in)
            return _nowhere(at, equilibrium.residual, rate)
        adjoint = _adjoint(at, w, tol=tol, max_steps=max_layers)
        w, gradient = adjoint.x, flat(at.gradient(adjoint.x))
        error = inf if before is None else relative_change(gradient, before)
        if error <= enough:
            break
        before = gradient
    return Reference(
        gradient=gradient,
        error=error,
        state_residual=equilibrium.residual,
        adjoint_residual=float(adjoint.residual.max()),
        contraction=_contraction(problem, x, judged_in),
    )


def _nowhere(at: Linearization, residual: float, contraction: float) -> Reference:
    """Where there is no equilibrium, ``at`` the best that was found."""
    size = sum(p.numel() for p in at.parameters)
    return Reference(
        gradient=torch.full((size,), torch.nan).to(at.g),
        error=inf,
        state_residual=residual,
        adjoint_residual=inf,
        contraction=contraction,
    )


def _first_size(lower: LowerLevelProblem, single: LowerLevelProblem | None, y: Tensor) -> Tensor:
    """‖T(x⁰)‖ of each sample (N,), by the layer in float32 where there is one: it is a scale."""
    if single is not None:
        with suppress(RuntimeError):
            return norm(single.step(single.init(y.float()), y.float())).to(y.dtype)
    return norm(lower.step(lower.init(y), y))


def _residuals(lower: LowerLevelProblem, x: Tensor, y: Tensor, first: Tensor) -> Tensor:
    """‖T(x) − x‖ / ‖T(x)‖ of each sample (N,), as solvers judge it: far from T(x⁰), of size
    ``first``, what is relative to ‖x‖ says little. Infinite where x is lost so far out that
    rounding makes it a fixed point of anything.
    """
    image = lower.step(x, y)
    size = norm(image)
    first = torch.where(first > 0, first, torch.inf)
    # a black image can have the black one as its equilibrium, exactly
    scale = torch.minimum(size, FAR * first).clamp_min(torch.finfo(size.dtype).tiny)
    return _unless_lost(norm(image - x) / scale, size, first)


def _unless_lost(residual: Tensor, size: Tensor, first: Tensor) -> Tensor:
    """``residual``, infinite where ``size`` is out of all proportion to ``first``."""
    most = _LOST * torch.where(first > 0, first, torch.inf)
    return torch.where(size <= most, residual, torch.inf)


def _adjoint(at: Linearization, w0: Tensor | None, *, tol: float, max_steps: int) -> LinearSolution:
    return gmres(at.adjoint_system(), at.g, x0=w0, tol=tol, max_steps=max_steps, restart=100)


def linearized(problem: EquilibriumLoss, x: Tensor, dtype: torch.dtype) -> Linearization:
    """``problem`` at ``x`` for products in ``dtype``, or in its own where it cannot be had in that,
    as one of a user's may not, which holds tensors of its own.
    """
    if dtype != x.dtype:
        with suppress(RuntimeError):
            return Linearization(problem.copied(dtype), x.to(dtype))
    return Linearization(problem, x)


def _contraction(
    problem: EquilibriumLoss, x: Tensor, dtype: torch.dtype, *, steps: int = 50
) -> float:
    """The geometric mean growth of ‖v‖ over the second half of ``steps`` products with Jᵀ from a
    random v, of the worst sample, in ``dtype``.
    """
    at = linearized(problem, x, dtype)
    g = at.g
    v = torch.randn(g.shape, generator=torch.Generator().manual_seed(0), dtype=g.dtype).to(g.device)
    growth = torch.zeros(len(v), dtype=v.dtype, device=v.device)
    for step in range(steps):
        v = v / expand(norm(v).clamp_min(torch.finfo(v.dtype).tiny), v)
        v = at.jt(v)
        if step >= steps // 2:
            growth = growth + norm(v).clamp_min(torch.finfo(v.dtype).tiny).log()
    return float((growth / (steps - steps // 2)).exp().max())
