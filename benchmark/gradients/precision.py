"""Tolerances that the dtype of a run cannot reach: solved on in float64, or refused."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.problems.lower_level import Batch, LowerLevelProblem
from benchmark.solve.convergence import reachable_tolerance
from benchmark.solve.fixed_point import fista

#: relative residual of the state to which float32 is used before float64 takes over
POLISH_FROM = 1e-4


@dataclass(frozen=True)
class Posed:
    """A lower level, a batch and a starting state, all in one dtype."""

    lower: LowerLevelProblem
    batch: Batch
    x0: Tensor


def in_reach(
    lower: LowerLevelProblem,
    batch: Batch,
    x0: Tensor,
    *,
    tol: float,
    polish: bool,
    max_layers: int,
) -> Posed:
    """The problem in a dtype in which a relative residual of ``tol`` can be reached.

    Where the dtype of ``x0`` reaches it, the arguments themselves. Otherwise, with ``polish``, a
    copy in float64 (θ a leaf of its own), its starting state solved to ``POLISH_FROM`` before by
    at most ``max_layers`` layers in the dtype of ``x0``. The copy is of the problem as it stands:
    that θ, A and y were rounded to float32 moves ∇F too, and polishing does not undo it.

    Raises ValueError for a ``tol`` that is out of reach: without ``polish`` that of the dtype,
    with it that of float64.
    """
    dtype = x0.dtype
    if tol >= reachable_tolerance(dtype):
        return Posed(lower, batch, x0)
    widest = torch.float64 if polish else dtype
    if tol < reachable_tolerance(widest):
        hint = "" if polish or dtype == torch.float64 else "; polish=True goes on in float64"
        raise ValueError(
            f"a tolerance of {tol:g} is out of reach in {str(widest).removeprefix('torch.')}, "
            f"whose rounding allows {reachable_tolerance(widest):.1g} at best{hint}"
        )
    near = fista(lower.layer(batch.observation), x0, tol=POLISH_FROM, max_layers=max_layers).x
    return Posed(lower.in_float64(), batch.to(dtype=torch.float64), near.double())
