"""What a wavelet layer costs: with dense or banded levels, and deepinv's own, in one run.

    pip install -e .[peers]
    python tools/layers.py --out results/layers.md

Float32, one thread, inpainting, three scales of the Haar wavelet, with which deepinv's layer (its
transform by ptwt) is ours to rounding. A layer without a graph, and one with its graph and a
product with Jᵀ, in rounds of shuffled blocks; ratios with intervals from the rounds. Minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from unittest.mock import patch

import torch
from native_loops import own_layer
from torch import Tensor

from benchmark.imaging import wavelet_levels
from benchmark.imaging.images import simulated
from benchmark.measure.device import device_name, threads
from benchmark.measure.timing import interval_of_ratio, ratio, seconds
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import BilevelTask

SIDES, IMAGES = (64, 128, 256, 512), (1, 4, 12)
#: images of more pixels than these are not timed: a block of calls would take long
MOST = 4 * 512**2
CPU = torch.device("cpu")
#: what is timed beside deepinv's, by name: the lower level, and from which side levels are bands
OURS = {
    "wavelet_l1": ("wavelet_l1", wavelet_levels.BANDED),
    "wavelet_l12": ("wavelet_l12", wavelet_levels.BANDED),
    "wavelet_l1, dense": ("wavelet_l1", inf),
    "wavelet_l1, bands": ("wavelet_l1", 0),
}


def task(lower: str, side: int, images: int) -> BilevelTask:
    """Simulated images, half of their pixels seen."""
    train, test = (simulated(number=number, size=side, seed=number) for number in (images, 1))
    made = make_task(
        train=train,
        test=test,
        degradation="inpainting(keep=0.5,sigma=0.05)",
        lower=f"{lower}(wavelet='haar',levels=3)",
        probe_size=1,
        seed=0,
    )
    return made.to(device=CPU, dtype=torch.float32)


def layers(side: int, images: int) -> Iterator[tuple[str, Callable[[Tensor], Tensor], Tensor]]:
    """Each layer by its name, with a state."""
    for name, (lower, banded) in OURS.items():
        with patch.object(wavelet_levels, "BANDED", banded):
            made = task(lower, side, images)
        y = made.train.observation
        yield name, made.lower.layer(y), made.lower.init(y).detach()
        if name == "wavelet_l1":
            yield "deepinv", own_layer(made.lower, y)[0], made.lower.init(y).detach()


def calls(T: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Callable[[], object]]:
    """A layer, and a layer with a product."""

    @torch.no_grad()
    def layer() -> Tensor:
        return T(x)

    def product() -> tuple[Tensor, ...]:
        at = x.clone().requires_grad_()
        return torch.autograd.grad(T(at), at, x)

    return {"layer": layer, "layer and product": product}


def rows(side: int, images: int) -> Iterator[str]:
    """Those of one size: of a layer, and of a layer with its product."""
    every = {name: calls(T, x) for name, T, x in layers(side, images)}
    for what in ("layer", "layer and product"):
        took = seconds({name: own[what] for name, own in every.items()}, CPU)
        deepinv = took.pop("deepinv")
        cells = [f"{side}", f"{images}", what, f"{1e3 * took['wavelet_l1'].seconds:.3g} ms"]
        for own in took.values():
            low, high = interval_of_ratio(deepinv, (1, own))
            cells.append(f"{ratio(deepinv, own):.2f} ({low:.2f} to {high:.2f})")
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """The command line."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--out", type=Path, required=True)
    options = command.parse_args()
    machine = f"{device_name(CPU)}, {threads()} thread{'s' * (threads() > 1)}"
    heads = ["side", "images", "what", "wavelet_l1 takes", *(f"deepinv / {name}" for name in OURS)]
    lines = [
        "# What a layer costs",
        "",
        f"`python tools/layers.py`, on: {machine}. Seconds of deepinv's own layer (`PGDIteration` "
        "with its `WaveletPrior`, by ptwt) over those of ours, of the same problem, in float32: "
        "above 1, ours is the faster one. In brackets 95 % intervals, of rounds in one run. The "
        "levels of a transform are products with dense matrices, or, from "
        f"{wavelet_levels.BANDED} samples on, with the band of the matrix; the last two columns "
        f"have one of them throughout, as far as blocks of {2 * wavelet_levels.BLOCK} samples go.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * len(heads)}",
    ]
    for side in SIDES:
        for images in IMAGES:
            if images * side**2 <= MOST:
                for line in rows(side, images):
                    print(line, flush=True)
                    lines.append(line)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
