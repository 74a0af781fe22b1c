"""θ as one vector, and slopes of F along directions of it without any derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmark.problems.lower_level import Batch, Layer, LowerLevelProblem, upper_loss

V = TypeVar("V")


def theta_vector(lower: LowerLevelProblem) -> Tensor:
    """θ of ``lower`` as one vector (P,), without a graph."""
    return torch.cat([p.detach().flatten() for p in lower.theta().values()])


def theta_named(lower: LowerLevelProblem, vector: Tensor) -> dict[str, Tensor]:
    """The inverse of ``theta_vector``: the parts of ``vector`` (P,), shaped and by name."""
    theta = lower.theta()
    parts = vector.split([p.numel() for p in theta.values()])
    return {name: part.view_as(p) for part, (name, p) in zip(parts, theta.items(), strict=True)}


def few_parameters(lower: LowerLevelProblem, most: int, *, what: str) -> int:
    """The number P of entries of θ; raises ValueError where it is above ``most``.

    ``what`` says in the message what grows with P.
    """
    number = sum(p.numel() for p in lower.theta().values())
    if number > most:
        raise ValueError(
            f"{number} parameters are learned, max_parameters is {most}: {what} for each of them"
        )
    return number


@final
class _Caller(nn.Module):
    """``functional_call`` replaces the parameters of a module for its ``forward`` alone."""

    def __init__(self, lower: LowerLevelProblem) -> None:
        super().__init__()
        self.lower = lower

    def forward(self, call: Callable[[LowerLevelProblem], V]) -> V:
        return call(self.lower)


def at_theta(
    lower: LowerLevelProblem, theta: Mapping[str, Tensor], call: Callable[[LowerLevelProblem], V]
) -> V:
    """``call(lower)`` with ``theta`` in the place of its θ meanwhile; ``lower`` is not changed."""
    replaced = {f"lower.{name}": value for name, value in theta.items()}
    return functional_call(_Caller(lower), replaced, (call,))


@dataclass(frozen=True)
class Slopes:
    """loss : F(θ), 0-d; state : x* there (N, …); values : (F(θ + hv) − F(θ − hv)) / 2h for each
    direction v, (D,).
    """

    loss: Tensor
    state: Tensor
    values: Tensor


@torch.no_grad()
def slopes(
    lower: LowerLevelProblem,
    batch: Batch,
    x0: Tensor,
    directions: Tensor,
    *,
    step: float,
    solve: Callable[[Layer, Tensor], Tensor],
) -> Slopes:
    """Central differences of F along ``directions`` (D, P), ``step`` being h.

    ``solve(T, x0)`` is x* = T(x*), without a graph. The equilibrium at θ is solved from ``x0``,
    those at θ ± hv from it. Cost: 2D + 1 equilibria; memory: a few states.
    """

    def value(there: LowerLevelProblem, start: Tensor) -> tuple[Tensor, Tensor]:
        x = solve(there.layer(batch.observation), start)
        return upper_loss(there, x, batch.truth), x

    loss, x = value(lower, x0)
    theta = theta_vector(lower)

    def moved(h: float, v: Tensor) -> Tensor:
        return at_theta(lower, theta_named(lower, theta + h * v), lambda there: value(there, x)[0])

    differences = [moved(step, v) - moved(-step, v) for v in directions]
    return Slopes(loss, x, torch.stack(differences) / (2 * step))
