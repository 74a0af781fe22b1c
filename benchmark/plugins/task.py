"""A bilevel task from images, a degradation and a lower level, given by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import prod

import torch
from torch import Tensor

from benchmark.imaging.degradations import Degradation, make_degradation, measured_by
from benchmark.imaging.images import Cut, digest, shape_of, shown
from benchmark.imaging.losses import UpperLoss, make_loss, require_loss
from benchmark.imaging.measured import PEAK, Measured, checked_pairs
from benchmark.imaging.seeded import seeded
from benchmark.imaging.stored import Stored
from benchmark.options.checks import positive_integer
from benchmark.options.seeds import seed_of
from benchmark.problems import LOWER_LEVEL
from benchmark.problems.bilevel import (
    Batch,
    BilevelTask,
    Images,
    StreamedBatch,
    Unread,
    joined,
    require_influence,
)
from benchmark.problems.brought import as_lower_level, require_layer
from benchmark.problems.lower_level import LowerLevelProblem, with_operators

#: true images of one shape, of several, in memory or not, with the names of their photographs or
#: without, or measured pairs of one operator or several
ImageSet = Cut | Tensor | Sequence[Tensor] | Stored | Measured | Sequence[Measured]
#: the photographs of the images of each shape
Names = dict[tuple[int, ...], tuple[str, ...]]


@dataclass(frozen=True)
class _Observed:
    """One operator, and the images that it saw, by set: "train" and "test"."""

    degradation: Degradation
    image_shape: tuple[int, int, int]
    images: dict[str, Batch | Unread] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    """Images of one shape with what is observed of them, which is the same each time."""

    images: Stored
    degradation: Degradation
    stream: str

    def __call__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        truth = torch.stack([self.images[i] for i in numbers])
        return truth, self.degradation.observe(truth, stream=self.stream, numbers=numbers)


def make_task(
    *,
    train: ImageSet,
    test: ImageSet,
    degradation: str | None,
    lower: str,
    probe_size: int,
    seed: int,
    loss: str | Callable[[Tensor, Tensor], Tensor] = "mse",
) -> BilevelTask:
    """The task in float64 on the CPU, where every random draw is made; ``.to`` moves it.

    Parameters
    ----------
    train, test : true images (N, C, H, W) in [0, 1], or a list of images (C, H, W) of any sizes,
        or either with the names of their photographs (``Cut``), or ``Measured`` pairs, or a list of
        them; the probe is the first ``probe_size`` training images (of several shapes or operators,
        in the order of these).
    degradation : as ``benchmark.imaging.degradations.make_degradation`` reads it, made for each
        shape; None with measured pairs, whose operator is theirs.
    lower : ``"name"`` or ``"name(option=value, …)"`` of ``benchmark.problems.LOWER_LEVELS``.
    seed : from which the operator, the noise of each image, the initial θ and the order of
        mini-batches have seeds of their own. The caller's generators stay as they are.
    loss : as ``benchmark.imaging.losses.make_loss`` reads it.

    Raises ValueError naming the value where a set is empty or smaller than the probe, tensors of
    the two sets differ in shape, images in channels, a name or option is not known, the loss is
    none to learn with, or a learned parameter does not influence the probe.
    """
    positive_integer("probe_size", probe_size)
    train, train_names = _parted(train)
    test, test_names = _parted(test)
    sets = {"train": _as_list(train, "train"), "test": _as_list(test, "test")}
    if all(isinstance(images, Tensor) for images in (train, test)):
        shape, other = tuple(train.shape[1:]), tuple(test.shape[1:])
        if other != shape:
            raise ValueError(f"test images of shape {other}, expected {shape} as train")
    number = sum(len(images) for images in sets["train"])
    if probe_size > number:
        raise ValueError(
            f"probe_size must be at most the number of training images, {number}, got {probe_size}"
        )
    if any(isinstance(images, Measured) for listed in sets.values() for images in listed):
        observed = _measured(sets, degradation, seed=seed)
    else:
        observed = _simulated(sets, degradation, seed=seed)
    channels = sorted({o.image_shape[0] for o in observed})
    if len(channels) > 1:
        raise ValueError(f"images of {channels} channels in one task, expected as many in all")
    upper = make_loss(loss)
    shown = [images[:1].truth for o in observed for images in o.images.values()]
    for shape in {image.shape for image in shown}:
        require_loss(upper, torch.cat([image for image in shown if image.shape == shape][:2]))
    with seeded(seed_of(seed, "theta")):
        problem = with_operators([_lower_level(lower, o) for o in observed])
    learned = _batch(observed, "train", upper, train_names)
    judged = _batch(observed, "test", upper, test_names)
    probe = learned[:probe_size]
    task = BilevelTask(problem, learned, probe, seed, test=judged)
    tried = (
        replace(next(iter(o.images.values()))[:2], operator=k, loss=upper)
        for k, o in enumerate(observed)
    )
    for part in (*task.probe.parts, *islice(tried, 1, None)):
        require_layer(problem.at(part.operator), part, what=f"lower level {lower!r}")
    require_influence(problem, task.probe)
    return task


def require_apart(train: ImageSet, test: ImageSet) -> None:
    """Raise ValueError where a test image, unless it is of one colour, is a training image."""
    known = {digest(image): i for i, image in enumerate(_each(train))}
    for j, image in enumerate(_each(test)):
        i = known.get(digest(image))
        if i is not None and image.min() < image.max():
            raise ValueError(
                f"test image {j} is training image {i}: expected other images to test on"
            )


def require_range(images: ImageSet, name: str) -> None:
    """Raise ValueError unless all values are real numbers of at most 1 in size, PSNR's peak."""
    for i, image in enumerate(_each(images)):
        if image.is_complex():
            raise ValueError(f"{name} image {i} is complex, expected two real channels")
        peak = float(shown(image.double()).abs().max())
        if not peak <= PEAK:
            raise ValueError(f"{name} image {i} has values up to {peak:g}, expected [0, 1]")


def _each(images: ImageSet) -> Iterator[Tensor]:
    """The true images (C, H, W) of a set, as far as it is one."""
    images, _ = _parted(images)
    parts = images if isinstance(images, Tensor | list | tuple | Stored) else [images]
    for part in parts:
        truth = part.truth if isinstance(part, Measured) else [part]
        yield from (image for image in truth if isinstance(image, Tensor))


def _parted(images: ImageSet) -> tuple[ImageSet, Names]:
    """The images alone, and the names of their photographs, none where they are not known."""
    if not isinstance(images, Cut):
        return images, {}
    names: dict[tuple[int, ...], list[str]] = {}
    for i, name in enumerate(images.photographs):
        names.setdefault(shape_of(images.images, i), []).append(name)
    return images.images, {shape: tuple(of_one) for shape, of_one in names.items()}


def _as_list(images: ImageSet, name: str) -> list[Tensor | Stored] | list[Measured]:
    """Batches (N, C, H, W) of images, or of pairs; ValueError unless there is an image."""
    if isinstance(images, Tensor) and (images.ndim != 4 or len(images) == 0):
        raise ValueError(
            f"the {name} set must hold at least one image as (N, C, H, W), "
            f"got a tensor of shape {tuple(images.shape)}"
        )
    if isinstance(images, Tensor | Measured | Stored):
        return [images]
    listed = list(images)
    if listed and all(isinstance(x, Measured) for x in listed):
        return listed
    if listed and all(isinstance(x, Tensor) and x.ndim == 3 for x in listed):
        return [x[None] for x in listed]
    found = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in listed]
    raise ValueError(
        f"the {name} set must hold at least one image as (C, H, W), or Measured pairs, got {found}"
    )


def _simulated(
    sets: dict[str, list[Tensor | Stored]], degradation: str | None, *, seed: int
) -> list[_Observed]:
    """The images of each shape, in the order of their first, observed by an operator of its own."""
    if degradation is None:
        raise ValueError("degradation is None: expected one, unless images come with measurements")
    images = {
        name: listed[0] if isinstance(listed[0], Stored) else [x for part in listed for x in part]
        for name, listed in sets.items()
    }
    by_shape: dict[tuple[int, ...], dict[str, list[int]]] = {}
    for name, of_one in images.items():
        for number in range(len(of_one)):
            groups = by_shape.setdefault(shape_of(of_one, number), {})
            groups.setdefault(name, []).append(number)
    observed = []
    for shape, groups in by_shape.items():
        made = make_degradation(degradation, shape, seed=seed)
        seen = {name: _seen(made, images[name], name, group) for name, group in groups.items()}
        observed.append(_Observed(made, shape, seen))
    return observed


def _seen(
    made: Degradation, images: list[Tensor] | Stored, name: str, numbers: list[int]
) -> Batch | Unread:
    if isinstance(images, Stored):
        reading = _Reading(images, made, name)
        return Unread(reading, tuple(numbers), size=prod(images.shape_of(numbers[0])))
    truth = torch.stack([images[i].double() for i in numbers])
    return Batch(truth, made.observe(truth, stream=name, numbers=numbers))


def _measured(
    sets: dict[str, list[Measured]], degradation: str | None, *, seed: int
) -> list[_Observed]:
    """The pairs of each operator and shape, in the order of their first."""
    if degradation is not None:
        raise ValueError(
            f"measured pairs have an operator of their own: expected no degradation, "
            f"got {degradation!r}"
        )
    observed: dict[tuple[int, tuple[int, ...]], _Observed] = {}
    for name, listed in sets.items():
        if not all(isinstance(part, Measured) for part in listed):
            raise ValueError(f"the {name} set holds images alone, the other one measured pairs")
        for checked in checked_pairs(listed, what=f"the {name} set"):
            shape = tuple(checked.truth.shape[1:])
            key = id(checked.physics), shape
            if key not in observed:
                made = measured_by(checked.physics, shape, seed=seed)
                observed[key] = _Observed(made, shape)
            known = observed[key].images.get(name)
            pairs = [checked] if known is None else [known, checked]
            truth = torch.cat([pair.truth for pair in pairs])
            observed[key].images[name] = Batch(truth, torch.cat([p.observation for p in pairs]))
    return list(observed.values())


def _lower_level(lower: str, observed: _Observed) -> LowerLevelProblem:
    physics = observed.degradation.physics
    made = LOWER_LEVEL.build(
        lower,
        physics=physics,
        lipschitz=observed.degradation.lipschitz,
        image_shape=observed.image_shape,
    )
    return as_lower_level(made, physics, what=f"lower level {lower!r}").to(torch.float64)


def _batch(observed: Sequence[_Observed], name: str, loss: UpperLoss, photographs: Names) -> Images:
    """The images of a set, those to train on numbered."""
    parts, start = [], 0
    for k, one in enumerate(observed):
        if name in one.images:
            images = one.images[name]
            index = tuple(range(start, start + len(images))) if name == "train" else None
            options = {"index": index, "operator": k, "loss": loss}
            known = photographs.get(one.image_shape)
            parts.append(replace(images, photographs=known, **options))
            start += len(images)
    if isinstance(parts[0], Unread):
        return StreamedBatch(tuple(parts))
    return joined(parts)
