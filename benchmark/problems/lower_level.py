"""A lower level: a family of layers T_θ(·; y) whose equilibrium is the reconstruction.

A reconstruction of ``y`` is the fixed point of a *layer*, x*(θ; y) = T_θ(x*(θ; y); y).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from benchmark.problems.compiled import compiled
from benchmark.solve.complex_numbers import keeping_complex
from benchmark.solve.fixed_point import Layer


@dataclass(frozen=True)
class Splitting:
    """T(x) = proximity(gradient_step(x)), as forward-backward splitting has it.

    The Jacobian of ``gradient_step`` is symmetric, that of ``proximity`` an orthogonal projection
    wherever it has one, as that of soft-thresholding.
    """

    gradient_step: Layer
    proximity: Layer


@dataclass(frozen=True)
class Known:
    """What is proved of all layers of a problem, at any θ and y; False where nothing is.

    unique : there is one reconstruction at most. contraction : T has a Lipschitz constant below 1.
    symmetric : the adjoint system is symmetric on the range of a projection (conjugate gradients).
    """

    unique: bool = False
    contraction: bool = False
    symmetric: bool = False


class LowerLevelProblem(nn.Module, ABC):
    """One family of layers T_θ(·; y); θ is the parameters that require gradients.

    Every method takes and returns tensors with a batch axis first, each sample independent of the
    others, on the device and in the dtype of the module.
    """

    #: parameters, logarithms, whose common shift makes the regularisation stronger or weaker
    strength: ClassVar[tuple[str, ...]] = ()
    #: whether ``step`` is ``gradient_step``, then ``proximity``, as ``Splitting`` has them
    splits = False
    #: whether ``penalty`` is a part of F
    penalised = False
    #: whether layers go through torch.compile (``benchmark.problems.compiled``); copies keep it
    compiled = False

    @property
    def known(self) -> Known:
        """What is known of the layers, in general that they split or not."""
        return Known(symmetric=self.splits)

    @abstractmethod
    def init(self, y: Tensor) -> Tensor:
        """The starting state x⁰ for the observations ``y`` (N, …)."""

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """T_θ(x; y): one layer, without touching ``x``."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """R_θ(x): the image (N, C, H, W) that the state ``x`` stands for."""

    def penalty(self, T: Layer, x: Tensor) -> Tensor:
        """What is added to the upper loss at states x (N, …) of the layer T, 0-d, where the problem
        is ``penalised``.
        """
        raise NotImplementedError(f"{type(self).__name__} is penalised and does not say by what")

    def copied(self, dtype: torch.dtype) -> LowerLevelProblem:
        """A copy in ``dtype``, its θ leaves of their own."""
        return copy.deepcopy(self).to(dtype)

    def at(self, operator: int) -> LowerLevelProblem:
        """The same layers for the operator of that number, 0 its own; θ is the same.

        ``with_operators`` makes the others.
        """
        if operator == 0:
            return self
        other = self.get_submodule(f"others.{operator - 1}")
        other.compiled = self.compiled
        return other

    @final
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LowerLevelProblem:
        # casts go through here: torch's drop imaginary parts, as of an operator's buffers
        return super()._apply(keeping_complex(fn), recurse)

    @final
    def layer(self, y: Tensor) -> ObservedLayer:
        """The layer x ↦ T_θ(x; y) at fixed observations."""
        return ObservedLayer(self, y)

    @final
    def splitting(self, y: Tensor) -> Splitting | None:
        """The two halves of the layer at ``y``, each through ``faster``; None unless it splits."""
        if not self.splits:
            return None
        return Splitting(partial(self.faster("gradient_step"), y=y), self.faster("proximity"))

    @final
    def faster(self, method: str) -> Callable[..., Tensor]:
        """The method of that name; where the problem is to be compiled, compiled."""
        if not self.compiled:
            return getattr(self, method)
        return partial(compiled(getattr(type(self), method)), self)

    @final
    def theta(self) -> dict[str, nn.Parameter]:
        """What is learned, by name: the parameters that require gradients."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


@final
class ObservedLayer(nn.Module):
    """x ↦ T_θ(x; y) at fixed observations ``y``: a module over ``lower`` itself."""

    def __init__(self, lower: LowerLevelProblem, y: Tensor) -> None:
        super().__init__()
        self.lower = lower
        self.register_buffer("y", y)
        self._step = lower.faster("step")

    @property
    def splitting(self) -> Splitting | None:
        """See ``LowerLevelProblem.splitting``."""
        return self.lower.splitting(self.y)

    def forward(self, x: Tensor) -> Tensor:
        return self._step(x, self.y)


@torch.no_grad()
def set_theta(lower: LowerLevelProblem, theta: Mapping[str, Tensor]) -> None:
    """Change θ of ``lower`` to ``theta``, which names every parameter of it."""
    for name, parameter in lower.theta().items():
        parameter.copy_(theta[name])


def with_operators(lowers: Sequence[LowerLevelProblem]) -> LowerLevelProblem:
    """The first of ``lowers``, one for each operator, the others behind it, θ shared by all.

    Raises ValueError where θ is not of the same names and shapes for all.
    """
    first, *others = lowers
    theta = first.theta()
    for other in others:
        shapes = [{n: tuple(p.shape) for n, p in x.theta().items()} for x in (first, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"θ is {shapes[0]} for images of one shape or operator and {shapes[1]} for those "
                "of another: expected the same, to be learned on all"
            )
        for name, parameter in theta.items():
            owner, _, leaf = name.rpartition(".")
            setattr(other.get_submodule(owner), leaf, parameter)
    if others:
        first.others = nn.ModuleList(others)
    return first
