"""Gradient methods that learn at equilibrium: what a training loop of one's own imports.

    found = equilibrium(T, x0, solver="anderson", gradient=Implicit("gmres", tol=1e-8), tol=1e-8)
    loss(found.x, truth).backward()

``equilibrium`` and ``hypergradient`` take any layer T; the gradient rules are ``Implicit``,
``LastLayers``, ``Series``, ``Phantom`` and ``InverseEstimate``. Names are imported when they are
first used, so that what needs no torch loads none.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.gradients.entries import (
        DifferentiableEquilibrium as DifferentiableEquilibrium,
    )
    from benchmark.gradients.entries import equilibrium as equilibrium
    from benchmark.gradients.entries import hypergradient as hypergradient
    from benchmark.gradients.implicit import Implicit as Implicit
    from benchmark.gradients.inverse_estimate import InverseEstimate as InverseEstimate
    from benchmark.gradients.last_layers import LastLayers as LastLayers
    from benchmark.gradients.last_layers import Phantom as Phantom
    from benchmark.gradients.result import Hypergradient as Hypergradient
    from benchmark.gradients.rule import AdjointRecord as AdjointRecord
    from benchmark.gradients.rule import GradientRule as GradientRule
    from benchmark.gradients.series import Series as Series
    from benchmark.problems.export import EquilibriumReconstructor as EquilibriumReconstructor
    from benchmark.problems.lower_level import Splitting as Splitting
    from benchmark.solve.convergence import NotConverged as NotConverged
    from benchmark.solve.convergence import NotConvergedError as NotConvergedError
    from benchmark.solve.fixed_point import Equilibrium as Equilibrium
    from benchmark.solve.system import LinearSolution as LinearSolution

# the methods are benchmark.solvers: installed they lie in the package, in a checkout beside it
_CHECKOUT = Path(__file__).parents[1]
if (_CHECKOUT / "objective.py").is_file():
    __path__.append(str(_CHECKOUT))

_HOMES = {
    "gradients.entries": ("DifferentiableEquilibrium", "equilibrium", "hypergradient"),
    "gradients.implicit": ("Implicit",),
    "gradients.inverse_estimate": ("InverseEstimate",),
    "gradients.last_layers": ("LastLayers", "Phantom"),
    "gradients.result": ("Hypergradient",),
    "gradients.rule": ("AdjointRecord", "GradientRule"),
    "gradients.series": ("Series",),
    "problems.export": ("EquilibriumReconstructor",),
    "problems.lower_level": ("Splitting",),
    "solve.convergence": ("NotConverged", "NotConvergedError"),
    "solve.fixed_point": ("Equilibrium",),
    "solve.system": ("LinearSolution",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
