"""What a parameter of a plugin may be, by its name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmark.imaging.images import sides_of
from benchmark.options import checks
from benchmark.plugins.descent import check_optimizer, check_projection, check_schedule
from benchmark.plugins.plain_rules import DTYPE_NAMES, PLAIN_RULES
from benchmark.solve.named import adjoint_solver, equilibrium_solver

DTYPES = {name: getattr(torch, name) for name in DTYPE_NAMES}


def _an_equilibrium_solver(name: str, value: object) -> None:
    """A name with options in their ranges: those are tried on x = x/2, for one layer."""
    solver = equilibrium_solver(value)
    if getattr(solver, "keywords", None):
        _tried(name, value, lambda: solver(_half, torch.ones(1, 2), tol=1.0, max_layers=1))


def _an_adjoint_solver(name: str, value: object) -> None:
    """A name with options in their ranges: those are tried on w − w/2 = b, for one product."""
    solver = adjoint_solver(value)
    if getattr(solver, "keywords", None):
        _tried(name, value, lambda: solver(_half, torch.ones(1, 2), tol=1.0, max_steps=1))


def _half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def _tried(name: str, value: object, call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:
        raise ValueError(f"{name} {checks.shown(value)}: {error}") from error


def _a_size(name: str, value: object) -> None:
    for side in () if value == "whole" else sides_of(value):
        checks.positive_integer(name, side, most=8192)


#: what a parameter of that name may be, in whichever plugin it occurs
RULES = {
    **PLAIN_RULES,
    "optimizer": check_optimizer,
    "schedule": check_schedule,
    "projection": check_projection,
    "equilibrium_solver": _an_equilibrium_solver,
    "adjoint_solver": _an_adjoint_solver,
    "tangent_solver": _an_adjoint_solver,
    "size": checks.optional(_a_size),
}
