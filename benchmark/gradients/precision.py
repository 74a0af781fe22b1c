"""Tolerances that the dtype of a problem cannot reach: solved on in float64, or refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.fixed_point import Layer
from benchmark.solve.search import Search, ToTolerance

#: relative residual of the state to which float32 is used before float64 takes over
POLISH_FROM = 1e-4


@final
@dataclass(frozen=True)
class Promoted:
    """A problem and a starting state in a dtype in which a tolerance can be reached."""

    problem: EquilibriumLoss
    x0: Tensor


def promote(
    problem: EquilibriumLoss, x0: Tensor, *, tol: float, polish: bool, search: Search
) -> Promoted:
    """The problem in a dtype in which a relative residual of ``tol`` can be reached.

    Where the dtype of ``x0`` reaches it, the arguments themselves. Otherwise, with ``polish``, the
    problem in float64 (θ leaves of their own), its starting state solved to ``POLISH_FROM`` before,
    by the solver of ``search`` in the dtype of ``x0``. That θ, A and y were rounded to float32
    moves ∇F too, and polishing does not undo it.

    Raises ValueError for a ``tol`` that is out of reach: without ``polish`` that of the dtype,
    with it that of float64.
    """
    if not needs_float64(x0.dtype, tol=tol, polish=polish):
        return Promoted(problem, x0)
    return Promoted(problem.copied(torch.float64), led_up(problem.T, x0, search))


def needs_float64(dtype: torch.dtype, *, tol: float, polish: bool) -> bool:
    """Whether ``tol`` needs float64; raises ValueError where that may not be used."""
    if tol >= reachable_tolerance(dtype):
        return False
    widest = torch.float64 if polish else dtype
    if tol < reachable_tolerance(widest):
        hint = "" if polish or dtype == torch.float64 else "; polish=True goes on in float64"
        raise ValueError(
            f"a tolerance of {tol:g} is out of reach in {str(widest).removeprefix('torch.')}, "
            f"whose rounding allows {reachable_tolerance(widest):.1g} at best{hint}"
        )
    return True


def led_up(T: Layer, x0: Tensor, search: Search) -> Tensor:
    """A state in float64, solved to ``POLISH_FROM`` in the dtype of ``x0`` by the same solver."""
    if isinstance(search, ToTolerance):
        search = replace(search, tol=POLISH_FROM)
    return search(T, x0, on_failure="ignore").x.double()
