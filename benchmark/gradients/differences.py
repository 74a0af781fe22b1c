"""θ as one vector, and slopes of F along directions of it without any derivative."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.solve.search import Search


def as_vector(parameters: Iterable[Tensor]) -> Tensor:
    """θ as one vector (P,), without a graph."""
    return torch.cat([p.detach().flatten() for p in parameters])


def as_parameters(vector: Tensor, parameters: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The inverse of ``as_vector``: the parts of ``vector`` (P,), shaped as ``parameters`` are."""
    shapes = [p.shape for p in parameters]
    parts = vector.split([shape.numel() for shape in shapes])
    return tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))


def few_parameters(parameters: Sequence[Tensor], most: int, *, what: str) -> int:
    """The number P of entries of θ; raises ValueError where it is above ``most``.

    ``what`` says in the message what grows with P.
    """
    number = sum(p.numel() for p in parameters)
    if number > most:
        raise ValueError(
            f"{number} parameters are learned, max_parameters is {most}: {what} for each of them"
        )
    return number


@final
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
    problem: EquilibriumLoss, x0: Tensor, directions: Tensor, *, step: float, search: Search
) -> Slopes:
    """Central differences of F along ``directions`` (D, P), ``step`` being h.

    The equilibrium at θ is solved from ``x0``, those at θ ± hv from it, on a copy of the problem.
    Cost: 2D + 1 equilibria; memory: a few states.
    """
    own = problem.copied(x0.dtype)
    theta = as_vector(own.parameters)

    def value(at: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        for parameter, part in zip(own.parameters, as_parameters(at, own.parameters), strict=True):
            parameter.copy_(part)
        x = search(own.T, start).x
        return own.loss(x), x

    loss, x = value(theta, x0)
    differences = [
        value(theta + step * v, x)[0] - value(theta - step * v, x)[0] for v in directions
    ]
    return Slopes(loss, x, torch.stack(differences) / (2 * step))
