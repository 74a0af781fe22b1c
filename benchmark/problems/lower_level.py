"""The bilevel problem: a lower level whose equilibrium is the reconstruction, and its data.

A reconstruction of ``y`` is the fixed point of a *layer*, x*(θ; y) = T_θ(x*(θ; y); y), and θ is
chosen to make F(θ) = 1/n Σ_i ℓ(R_θ(x*(θ; y_i)), x̄_i) small, ℓ the mean squared error.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from benchmark.problems.compiled import compiled
from benchmark.solve.fixed_point import Layer


@dataclass(frozen=True)
class Halves:
    """T(x; y) = proximity(gradient_step(x, y)): the Jacobian of the gradient step in x is
    symmetric, that of ``proximity`` an orthogonal projection wherever it has one.
    """

    gradient_step: Callable[[Tensor, Tensor], Tensor]
    proximity: Callable[[Tensor], Tensor]


class LowerLevelProblem(nn.Module, ABC):
    """One family of layers T_θ(·; y); θ is the parameters that require gradients.

    Every method takes and returns tensors with a batch axis first, each sample independent of the
    others, on the device and in the dtype of the module.
    """

    #: parameters, logarithms, whose common shift makes the regularisation stronger or weaker
    strength: ClassVar[tuple[str, ...]] = ()
    #: whether layers go through torch.compile (``benchmark.problems.compiled``); copies keep it
    compiled = False

    @abstractmethod
    def init(self, y: Tensor) -> Tensor:
        """The starting state x⁰ for the observations ``y`` (N, …)."""

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """T_θ(x; y): one layer, without touching ``x``."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """R_θ(x): the image (N, C, H, W) that the state ``x`` stands for."""

    def halves(self) -> Halves | None:
        """The two halves of T, each through ``faster``; None where it is not known to have them."""
        return None

    def in_float64(self) -> LowerLevelProblem:
        """A copy in float64, its θ leaves of their own."""
        return copy.deepcopy(self).double()

    @final
    def layer(self, y: Tensor) -> Layer:
        """The layer x ↦ T_θ(x; y) at fixed observations."""
        return partial(self.faster("step"), y=y)

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


@dataclass(frozen=True)
class Batch:
    """True images x̄ (N, C, H, W) and what was observed of them, y (N, …).

    ``index`` names the images, one number each, where a method may carry something over from one
    meeting with an image to the next: the training images and, among them, the probe.
    """

    truth: Tensor
    observation: Tensor
    index: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch:
        if isinstance(chosen, slice):
            chosen = range(len(self))[chosen]
        rows = torch.tensor(chosen, dtype=torch.int64).to(self.truth.device)
        index = None if self.index is None else tuple(self.index[i] for i in chosen)
        return Batch(self.truth[rows], self.observation[rows], index)

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device or in another dtype."""
        moved = (t.to(device=device, dtype=dtype) for t in (self.truth, self.observation))
        return Batch(*moved, self.index)


@dataclass(frozen=True)
class BilevelTask:
    """A lower level at its initial θ and the images to learn and to judge it on.

    ``probe`` is the fixed batch on which gradients are compared. The tensors are shared by all
    methods: whoever trains copies ``lower`` first.
    """

    lower: LowerLevelProblem
    train: Batch
    test: Batch
    probe: Batch
    seed: int

    def to(self, *, device: torch.device, dtype: torch.dtype) -> BilevelTask:
        """A copy on ``device`` and in ``dtype``, sharing nothing that training changes."""
        batches = (b.to(device=device, dtype=dtype) for b in (self.train, self.test, self.probe))
        lower = copy.deepcopy(self.lower).to(device=device, dtype=dtype)
        return BilevelTask(lower, *batches, seed=self.seed)

    def minibatches(self, size: int) -> Iterator[Batch]:
        """Endless mini-batches of ``size`` training images, reshuffled at each epoch.

        The order depends on ``seed`` alone (drawn on the CPU), so that all methods and devices
        see the same batches. A size of 0, or one not below the number of images, gives the whole
        set each time; a last incomplete batch is left out.
        """
        if size == 0 or size >= len(self.train):
            while True:
                yield self.train
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            for chosen in order.split(size):
                if len(chosen) == size:
                    yield self.train[chosen.tolist()]


@torch.no_grad()
def set_theta(lower: LowerLevelProblem, theta: Mapping[str, Tensor]) -> None:
    """Change θ of ``lower`` to ``theta``, which names every parameter of it."""
    for name, parameter in lower.theta().items():
        parameter.copy_(theta[name])


def upper_loss(lower: LowerLevelProblem, x: Tensor, truth: Tensor) -> Tensor:
    """ℓ(R_θ(x), x̄): the mean over all elements of the squared error, a 0-d tensor."""
    return nn.functional.mse_loss(lower.reconstruct(x), truth)


@torch.enable_grad()
def require_influence(lower: LowerLevelProblem, batch: Batch, *, layers: int = 2) -> None:
    """Raise ValueError, naming it, where a parameter in θ does not reach the loss of ``batch``.

    It must have a gradient with an entry other than zero after ``layers`` layers from x⁰, short of
    the equilibrium: there, a parameter that only sets the pace (a stepsize in a convex problem)
    has none. Cost: the graph of ``layers`` layers.
    """
    x = lower.init(batch.observation)
    for _ in range(layers):
        x = lower.step(x, batch.observation)
    loss, theta = upper_loss(lower, x, batch.truth), lower.theta()
    if not loss.requires_grad:
        raise ValueError("nothing is learned: no parameter of the lower level reaches the loss")
    gradient = torch.autograd.grad(
        loss, list(theta.values()), allow_unused=True, materialize_grads=True
    )
    idle = [name for name, g in zip(theta, gradient, strict=True) if not g.count_nonzero()]
    if idle:
        raise ValueError(
            f"no influence of {', '.join(idle)}: the gradient of the loss is zero after {layers} "
            "layers on the first batch; expected every learned parameter to move the "
            "reconstruction, so start it elsewhere or do not learn it"
        )
