"""Lower levels that a user wrote: any module with a ``step``, tried out before it is trained."""

from __future__ import annotations

from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from benchmark.options.brought import error_line
from benchmark.problems import LOWER_LEVEL
from benchmark.problems.bilevel import Batch
from benchmark.problems.lower_level import LowerLevelProblem

#: relative, in float64: the same layer on a batch, on one of its samples, and once more
SAME_TOL = 1e-9


@final
class ModuleLowerLevel(LowerLevelProblem):
    """The layers T_θ(x; y) = ``module.step(x, y)``; θ are the module's parameters.

    Where the module has none of its own, ``init(y)`` is Aᵀy, ``reconstruct(x)`` is x, and nothing
    is its ``strength``.
    """

    def __init__(self, module: nn.Module, physics: LinearPhysics) -> None:
        super().__init__()
        self.module = module
        self.physics = physics.requires_grad_(False)
        self.strength = tuple(f"module.{name}" for name in getattr(module, "strength", ()))

    def init(self, y: Tensor) -> Tensor:
        own = getattr(self.module, "init", None)
        return self.physics.A_adjoint(y) if own is None else own(y)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.module.step(x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        own = getattr(self.module, "reconstruct", None)
        return x if own is None else own(x)


def as_lower_level(made: object, physics: LinearPhysics, *, what: str) -> LowerLevelProblem:
    """``made`` itself, or the layers of a module with ``step``; ValueError for anything else."""
    if isinstance(made, LowerLevelProblem):
        return made
    if isinstance(made, nn.Module) and callable(getattr(made, "step", None)):
        return ModuleLowerLevel(made, physics)
    raise ValueError(
        f"{what} is a {type(made).__name__} without step(x, y), expected {LOWER_LEVEL.form}"
    )


@torch.no_grad()
def require_layer(lower: LowerLevelProblem, batch: Batch, *, what: str) -> None:
    """Raise ValueError, naming ``what``, unless ``lower`` is what a lower level promises to be.

    On ``batch``: ``step`` keeps the state's shape and dtype and leaves x and y as they are, says
    the same twice and the same of a sample alone, and ``reconstruct`` gives images of the truth's
    shape. Cost: three layers.
    """
    y = batch.observation
    try:
        x = lower.init(y)
        before = (x._version, y._version)
        image = lower.step(x, y)
        touched = (x._version, y._version) != before
        again, alone = lower.step(x, y), lower.step(x[:1], y[:1])
        restored = lower.reconstruct(image)
    except Exception as error:
        raise ValueError(f"{what}: {error_line(error)}") from error
    if touched:
        raise ValueError(f"{what}: step changed its x or y in place, expected them left alone")
    for name, found, expected in (("step", image, x), ("reconstruct", restored, batch.truth)):
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise ValueError(
                f"{what}: {name} returned {tuple(found.shape)} in {found.dtype}, "
                f"expected {tuple(expected.shape)} in {expected.dtype}"
            )
    if not image.isfinite().all():
        raise ValueError(f"{what}: the first step is not finite")
    for wrong, other, of in (
        ("says something else the second time", again, image),
        ("depends on the other samples of a batch", alone, image[:1]),
    ):
        gap = float((other - of).norm() / of.norm().clamp_min(torch.finfo(of.dtype).tiny))
        if not gap <= SAME_TOL:
            raise ValueError(f"{what}: step {wrong}, by {gap:.1e}, expected at most {SAME_TOL:g}")
