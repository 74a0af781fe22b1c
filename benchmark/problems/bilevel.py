"""The bilevel problem: images and what was observed of them, the upper loss, the task.

θ is chosen to make F(θ) = 1/n Σ_i ℓ(R_θ(x*(θ; y_i)), x̄_i) small, x* the equilibrium of a lower
level and ℓ an upper loss (``benchmark.imaging.losses``). Images of different shapes, or seen by
different operators, each have layers of their own, with one θ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.imaging.images import Pieces, digest
from benchmark.imaging.losses import MEAN_SQUARED_ERROR, UpperLoss
from benchmark.options.seeds import seed_of
from benchmark.problems.lower_level import LowerLevelProblem


@dataclass(frozen=True)
class Batch:
    """True images x̄ (N, C, H, W) and what was observed of them, y (N, …), by one operator.

    ``index`` names the images, one number each, where a method may carry something over from one
    meeting with an image to the next: the training images and, among them, the probe.
    ``operator`` is the number of the operator, as ``LowerLevelProblem.at`` takes it, and ``loss``
    the ℓ of the task that the images belong to. ``photographs`` names the photograph that each
    image was cut from; None: each is one of its own.
    """

    truth: Tensor
    observation: Tensor
    index: tuple[int, ...] | None = None
    operator: int = 0
    loss: UpperLoss = MEAN_SQUARED_ERROR
    photographs: tuple[str, ...] | None = None

    @property
    def parts(self) -> tuple[Batch, ...]:
        """The batches of one operator that this one is made of: itself."""
        return (self,)

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch:
        if isinstance(chosen, slice):
            chosen = range(len(self))[chosen]
        rows = torch.tensor(chosen, dtype=torch.int64).to(self.truth.device)
        index, photographs = (
            None if of_each is None else tuple(of_each[i] for i in chosen)
            for of_each in (self.index, self.photographs)
        )
        return replace(
            self,
            truth=self.truth[rows],
            observation=self.observation[rows],
            index=index,
            photographs=photographs,
        )

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device or in another dtype."""
        truth, observation, loss = (
            t.to(device=device, dtype=dtype) for t in (self.truth, self.observation, self.loss)
        )
        return replace(self, truth=truth, observation=observation, loss=loss)


@dataclass(frozen=True)
class MixedBatch:
    """Images of several shapes, or seen by several operators: a batch of each, one after another.

    Means over it are means over its images.
    """

    parts: tuple[Batch, ...]

    @property
    def index(self) -> tuple[int, ...]:
        """The numbers of its images, as ``Batch`` has them; none where it has none."""
        return tuple(i for part in self.parts for i in part.index or ())

    @property
    def photographs(self) -> tuple[str, ...] | None:
        """Of each image, in the order of the parts; None where they are not known."""
        known = [part.photographs for part in self.parts]
        return None if None in known else tuple(name for names in known for name in names)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch | MixedBatch:
        """The images of these numbers, in the order of the parts."""
        return joined([part[rows] for part, rows in _rows(self.parts, chosen)])

    def to(
        self, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> MixedBatch:
        """The same batch on another device or in another dtype."""
        return MixedBatch(tuple(part.to(device=device, dtype=dtype) for part in self.parts))


#: numbers in the images of a part of ``StreamedBatch``: what solvers hold of it is many times that
AT_ONCE = 2**18


@dataclass(frozen=True)
class Unread:
    """A ``Batch`` of which images and observations are read when they are asked for.

    read : truth (N, C, H, W) and observation (N, …) of some ``numbers``, in float64 on the CPU, as
    they are at each call; size : numbers in an image.
    """

    read: Callable[[Sequence[int]], tuple[Tensor, Tensor]]
    numbers: tuple[int, ...]
    size: int
    index: tuple[int, ...] | None = None
    operator: int = 0
    loss: UpperLoss = MEAN_SQUARED_ERROR
    photographs: tuple[str, ...] | None = None
    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def pieces(self) -> tuple[Pieces, Pieces]:
        """Truth and observations, each as what its images are, one by one."""

        def pieces(name: str) -> Pieces:
            each = (getattr(self[[i]], name) for i in range(len(self)))
            return Pieces((len(self), *getattr(self[:1], name).shape[1:]), each)

        return pieces("truth"), pieces("observation")

    def only(self, rows: Sequence[int]) -> Unread:
        """That of these images alone, not read either."""
        numbers, index, photographs = (
            None if of_each is None else tuple(of_each[i] for i in rows)
            for of_each in (self.numbers, self.index, self.photographs)
        )
        return replace(self, numbers=numbers, index=index, photographs=photographs)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch:
        if isinstance(chosen, slice):
            chosen = range(len(self))[chosen]
        of = self.only(chosen)
        batch = Batch(*self.read(of.numbers), of.index, of.operator, of.loss, of.photographs)
        return batch.to(device=self.device, dtype=self.dtype)

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Unread:
        """The same for another device or dtype."""
        loss = self.loss.to(device=device, dtype=dtype)
        moved = {"device": device or self.device, "dtype": dtype or self.dtype}
        return replace(self, loss=loss, **moved)


@dataclass(frozen=True)
class StreamedBatch:
    """Images that are not in memory, of one operator or several.

    Its ``parts`` are read anew each time that they are gone through, ``AT_ONCE`` numbers or one
    image at a time, and no more than ``most`` images, unless that is 0; indexed, it gives these
    images in memory.
    """

    unread: tuple[Unread, ...]
    most: int = 0

    @property
    def parts(self) -> Sequence[Batch]:
        """Its images in batches of one operator, each read when it is its turn."""
        return _Parts(self.unread, self.most)

    @property
    def index(self) -> tuple[int, ...]:
        """As of ``MixedBatch``."""
        return tuple(i for part in self.unread for i in part.index or ())

    @property
    def photographs(self) -> tuple[str, ...] | None:
        """As of ``MixedBatch``."""
        known = [part.photographs for part in self.unread]
        return None if None in known else tuple(name for names in known for name in names)

    def __len__(self) -> int:
        return sum(len(part) for part in self.unread)

    def __getitem__(self, chosen: slice | Sequence[int]) -> Batch | MixedBatch:
        """The images of these numbers, in the order of the operators, in memory."""
        return joined([part[rows] for part, rows in _rows(self.unread, chosen)])

    def only(self, chosen: Sequence[int]) -> StreamedBatch:
        """The same images, not in memory."""
        return StreamedBatch(tuple(part.only(rows) for part, rows in _rows(self.unread, chosen)))

    def to(
        self, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> StreamedBatch:
        """The same for another device or dtype."""
        return StreamedBatch(tuple(part.to(device=device, dtype=dtype) for part in self.unread))


class _Parts(Sequence[Batch]):
    """Those of ``StreamedBatch``."""

    def __init__(self, unread: Sequence[Unread], most: int) -> None:
        self.of_each = []
        for part in unread:
            together = min(max(1, AT_ONCE // part.size), most or len(part))
            for start in range(0, len(part), together):
                self.of_each.append((part, range(len(part))[start : start + together]))

    def __len__(self) -> int:
        return len(self.of_each)

    def __getitem__(self, k: int) -> Batch:
        part, rows = self.of_each[k]
        return part[rows]


def _rows(
    parts: Sequence[Batch | Unread], chosen: slice | Sequence[int]
) -> Iterator[tuple[Batch | Unread, list[int]]]:
    """The parts that hold some of the images ``chosen`` of all, with their numbers there."""
    if isinstance(chosen, slice):
        chosen = range(sum(len(part) for part in parts))[chosen]
    start = 0
    for part in parts:
        rows = [i - start for i in chosen if start <= i < start + len(part)]
        if rows:
            yield part, rows
        start += len(part)


#: images with their observations, by one operator or by several, in memory or not
Images = Batch | MixedBatch | StreamedBatch


def joined(parts: Sequence[Batch]) -> Images:
    """One batch of all ``parts``, each of another operator."""
    return parts[0] if len(parts) == 1 else MixedBatch(tuple(parts))


def in_chunks(batch: Images, most: int) -> Images:
    """The same images in parts of no more than ``most``; 0: as they are."""
    if isinstance(batch, StreamedBatch):
        return replace(batch, most=most)
    if most == 0 or all(len(part) <= most for part in batch.parts):
        return batch
    starts = ((part, k) for part in batch.parts for k in range(0, len(part), most))
    return joined([part[k : k + most] for part, k in starts])


def images_digest(*sets: Images) -> str:
    """The digest of truth and observations of each operator of ``sets``, in memory or not."""
    found: list[Tensor | Pieces] = []
    for images in sets:
        if isinstance(images, StreamedBatch):
            found += [each for part in images.unread for each in part.pieces()]
        else:
            found += [each for part in images.parts for each in (part.truth, part.observation)]
    return digest(*found)


@dataclass(frozen=True)
class LearningTask:
    """What methods are given: a lower level at its initial θ, and the images to learn it on.

    ``probe`` is the fixed batch on which gradients are compared. Whoever trains copies ``lower``
    first.
    """

    lower: LowerLevelProblem
    train: Images
    probe: Images
    seed: int

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.probe.parts[0].truth.device

    def minibatches(self, size: int, *, after: int = 0) -> Iterator[Images]:
        """Endless mini-batches of ``size`` training images, reshuffled at each epoch; those that
        come ``after`` so many.

        The order depends on ``seed`` and the number of images alone (drawn on the CPU), so that all
        methods and devices see the same batches. A size of 0, or one not below the number of
        images, gives the whole set each time; a last incomplete batch is left out.
        """
        if size == 0 or size >= len(self.train):
            while True:
                yield self.train
        generator = torch.Generator().manual_seed(seed_of(self.seed, "batches"))
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            for chosen in order.split(size):
                if len(chosen) < size:
                    continue
                if after > 0:
                    after -= 1
                else:
                    yield self.train[chosen.tolist()]


@dataclass(frozen=True)
class BilevelTask(LearningTask):
    """The same with the images to judge it on, which no method sees."""

    test: Images

    @property
    def learning(self) -> LearningTask:
        """What methods are given of it, sharing its tensors."""
        return LearningTask(self.lower, self.train, self.probe, self.seed)

    def to(self, *, device: torch.device, dtype: torch.dtype) -> BilevelTask:
        """A copy on ``device`` and in ``dtype``, sharing nothing that training changes."""
        batches = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("train", "probe", "test")
        }
        lower = copy.deepcopy(self.lower).to(device=device, dtype=dtype)
        return BilevelTask(lower, seed=self.seed, **batches)


def upper_loss(lower: LowerLevelProblem, x: Tensor, batch: Batch) -> Tensor:
    """1/N Σ_i ℓ(R_θ(x_i), x̄_i) for states ``x`` (N, …) of ``batch``, a 0-d tensor, and the
    ``penalty`` of ``lower`` where it has one.
    """
    loss = batch.loss(lower.reconstruct(x), batch.truth)
    if not lower.penalised:
        return loss
    return loss + lower.penalty(lower.layer(batch.observation), x)


def mean_over(
    lower: LowerLevelProblem, batch: Images, value: Callable[[LowerLevelProblem, Batch], float]
) -> float:
    """The mean over the images of ``batch`` of ``value``, a mean over those of one operator."""
    parts = [(len(part), value(lower.at(part.operator), part)) for part in batch.parts]
    if len(parts) == 1:
        return parts[0][1]
    return sum(number * each for number, each in parts) / len(batch)


@torch.enable_grad()
def require_influence(lower: LowerLevelProblem, batch: Images, *, layers: int = 2) -> None:
    """Raise ValueError, naming it, where a parameter in θ does not reach the loss of ``batch``.

    It must have a gradient with an entry other than zero after ``layers`` layers from x⁰, short of
    the equilibrium: there, a parameter that only sets the pace (a stepsize in a convex problem)
    has none. Cost: the graph of ``layers`` layers.
    """
    theta, reached = lower.theta(), set()
    for part in batch.parts:
        here = lower.at(part.operator)
        x = here.init(part.observation)
        for _ in range(layers):
            x = here.step(x, part.observation)
        loss = upper_loss(here, x, part)
        if not loss.requires_grad:
            raise ValueError("nothing is learned: no parameter of the lower level reaches the loss")
        gradient = torch.autograd.grad(
            loss, list(theta.values()), allow_unused=True, materialize_grads=True
        )
        reached |= {name for name, g in zip(theta, gradient, strict=True) if g.count_nonzero()}
    idle = [name for name in theta if name not in reached]
    if idle:
        raise ValueError(
            f"no influence of {', '.join(idle)}: the gradient of the loss is zero after {layers} "
            "layers on the first batch; expected every learned parameter to move the "
            "reconstruction, so start it elsewhere or do not learn it"
        )
