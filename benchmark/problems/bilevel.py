"""The bilevel problem: images and what was observed of them, the upper loss, the task.

θ is chosen to make F(θ) = 1/n Σ_i ℓ(R_θ(x*(θ; y_i)), x̄_i) small, x* the equilibrium of a lower
level and ℓ an upper loss (``benchmark.imaging.losses``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.imaging.losses import MEAN_SQUARED_ERROR, UpperLoss
from benchmark.problems.lower_level import LowerLevelProblem


@dataclass(frozen=True)
class Batch:
    """True images x̄ (N, C, H, W) and what was observed of them, y (N, …).

    ``index`` names the images, one number each, where a method may carry something over from one
    meeting with an image to the next: the training images and, among them, the probe. ``loss`` is
    the ℓ of the task that the images belong to.
    """

    truth: Tensor
    observation: Tensor
    index: tuple[int, ...] | None = None
    loss: UpperLoss = MEAN_SQUARED_ERROR

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch:
        if isinstance(chosen, slice):
            chosen = range(len(self))[chosen]
        rows = torch.tensor(chosen, dtype=torch.int64).to(self.truth.device)
        index = None if self.index is None else tuple(self.index[i] for i in chosen)
        return Batch(self.truth[rows], self.observation[rows], index, self.loss)

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device or in another dtype."""
        moved = (t.to(device=device, dtype=dtype) for t in (self.truth, self.observation))
        return Batch(*moved, self.index, self.loss.to(device=device, dtype=dtype))


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

    def minibatches(self, size: int, *, after: int = 0) -> Iterator[Batch]:
        """Endless mini-batches of ``size`` training images, reshuffled at each epoch; those that
        come ``after`` so many.

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
                if len(chosen) < size:
                    continue
                if after > 0:
                    after -= 1
                else:
                    yield self.train[chosen.tolist()]


def upper_loss(lower: LowerLevelProblem, x: Tensor, batch: Batch) -> Tensor:
    """1/N Σ_i ℓ(R_θ(x_i), x̄_i) for states ``x`` (N, …) of ``batch``, a 0-d tensor."""
    return batch.loss(lower.reconstruct(x), batch.truth)


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
    loss, theta = upper_loss(lower, x, batch), lower.theta()
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
