"""A bilevel task from images, a degradation and a lower level, given by name."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.imaging.degradations import make_degradation
from benchmark.options.checks import positive_integer
from benchmark.problems import LOWER_LEVEL
from benchmark.problems.bilevel import Batch, BilevelTask, require_influence
from benchmark.problems.brought import as_lower_level, require_layer


def make_task(
    *, train: Tensor, test: Tensor, degradation: str, lower: str, probe_size: int, seed: int
) -> BilevelTask:
    """The task in float64 on the CPU, where every random draw is made; ``.to`` moves it.

    Parameters
    ----------
    train, test : true images (N, C, H, W) in [0, 1]; the probe is the first ``probe_size``
        training images.
    degradation : as ``benchmark.imaging.degradations.make_degradation`` reads it.
    lower : ``"name"`` or ``"name(option=value, …)"`` of ``benchmark.problems.LOWER_LEVELS``.
    seed : of the operator, the noise and the order of mini-batches.

    Raises ValueError naming the value where a set is empty or smaller than the probe, the images of
    the two sets differ in shape, a name or option is not known, or a learned parameter does not
    influence the probe.
    """
    positive_integer("probe_size", probe_size)
    for name, images in (("train", train), ("test", test)):
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(
                f"the {name} set must hold at least one image as (N, C, H, W), "
                f"got a tensor of shape {tuple(images.shape)}"
            )
    if probe_size > len(train):
        raise ValueError(
            f"probe_size must be at most the number of training images, {len(train)}, "
            f"got {probe_size}"
        )
    shape = tuple(train.shape[1:])
    if tuple(test.shape[1:]) != shape:
        raise ValueError(f"test images of shape {tuple(test.shape[1:])}, expected {shape} as train")
    observed = make_degradation(degradation, shape, seed=seed)
    train, test = train.double(), test.double()
    learned = Batch(train, observed.observe(train, stream=1), index=tuple(range(len(train))))
    judged = Batch(test, observed.observe(test, stream=2))
    problem = LOWER_LEVEL.build(
        lower,
        physics=observed.physics,
        lipschitz=observed.lipschitz,
        image_shape=shape,
    )
    what = f"lower level {lower!r}"
    problem = as_lower_level(problem, observed.physics, what=what).to(torch.float64)
    task = BilevelTask(problem, learned, judged, probe=learned[:probe_size], seed=seed)
    require_layer(task.lower, task.probe, what=what)
    require_influence(task.lower, task.probe)
    return task
