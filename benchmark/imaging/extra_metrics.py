"""Metrics that a user asks for: torchmetrics' and deepinv's by name, LPIPS, or a file's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from benchmark.imaging.seeded import seeded
from benchmark.options.brought import error_line
from benchmark.options.several import listed
from benchmark.options.spec import Kind


@final
class Lpips:
    """Learned perceptual image patch similarity, a distance of each image (N,): torchmetrics'.

    Of images clamped to [0, 1], in colour. The weights of the network below it are torchvision's;
    they are not downloaded: FileNotFoundError says where they are looked for. Zhang et al., "The
    unreasonable effectiveness of deep features as a perceptual metric" (2018), arXiv 1801.03924.
    """

    higher_is_better = False

    def __init__(self) -> None:
        from deepinv.loss.metric import LPIPS
        from torchvision.models import AlexNet_Weights

        url = AlexNet_Weights.DEFAULT.url
        weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not weights.is_file():
            raise FileNotFoundError(f"no weights at {weights}: download {url} to there")
        self.network = LPIPS(check_input_range=False)

    def __call__(self, image: Tensor, truth: Tensor) -> Tensor:
        return self.network.to(image.device)(image.clamp(0, 1), truth.clamp(0, 1))


METRIC: Kind[Any] = Kind(
    "metric",
    {"lpips": Lpips},
    {
        "deepinv": ["deepinv.loss.metric"],
        "torchmetrics": ["torchmetrics.image", "torchmetrics.regression"],
    },
    form="a function (x_hat, x) of image batches (N, C, H, W) that returns one value, or one per "
    "image (N,), or a class of such, with an attribute higher_is_better",
)


@final
@dataclass(frozen=True)
class Metric:
    """One metric of reconstructions.

    name : of its column, unique; spec : the text that names it; measure : (x̂, x̄) to a value or
    one per image, None where what it needs is absent; higher_is_better : None where that is not
    known; absent : what it needs, or "".
    """

    name: str
    spec: str
    measure: Callable[[Tensor, Tensor], Any] | None
    higher_is_better: bool | None
    absent: str = ""

    def value(self, image: Tensor, truth: Tensor) -> float:
        """The mean over images (N, C, H, W), the same whatever was drawn before.

        Raises ValueError, naming the metric, for whatever it raises, and where it returns what is
        no value.
        """
        what = f"metric {self.spec!r}"
        if self.measure is None:
            raise ValueError(f"{what} is empty: {self.absent}")
        if isinstance(self.measure, nn.Module):
            self.measure.to(image.device)
        try:
            with seeded(0):
                found = torch.as_tensor(self.measure(image, truth)).double()
        except Exception as error:
            raise ValueError(f"{what}: {error_line(error)}") from error
        finally:
            getattr(self.measure, "reset", lambda: None)()  # torchmetrics' are sums over calls
        if found.shape not in ((), (1,), (len(image),)):
            raise ValueError(
                f"{what} returned shape {tuple(found.shape)}, "
                f"expected one value or one per image, ({len(image)},)"
            )
        mean = float(found.mean())
        if not isfinite(mean):
            raise ValueError(f"{what} is not finite: {mean}")
        return mean


@final
@dataclass(frozen=True)
class Measured:
    """values : of each metric by its name, NaN where there is none; message : why, or ""."""

    values: dict[str, float]
    message: str = ""

    def columns(self) -> dict[str, float]:
        """Those of a row: ``metric_NAME`` for each metric."""
        return {f"metric_{name}": value for name, value in self.values.items()}


def make_metrics(specs: str | None) -> tuple[Metric, ...]:
    """The metrics that a text names, separated by commas outside of brackets.

    A metric whose package or weights are absent is made all the same, and empty. Raises ValueError
    for one that is not known, that says no direction or that is named twice.
    """
    metrics = tuple(_metric(spec) for spec in listed(specs))
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two metrics are named {name!r} in {specs!r}: expected one of each")
    return metrics


def unmeasured(metrics: Sequence[Metric]) -> Measured:
    """NaN for each metric, without a reason."""
    return Measured(dict.fromkeys((metric.name for metric in metrics), nan))


def measure_all(metrics: Sequence[Metric], pairs: Sequence[tuple[Tensor, Tensor]]) -> Measured:
    """The value of each metric on images and truths (N, C, H, W), a pair for each shape of images:
    the mean over all images. In float32 and without a graph.
    """
    values, messages = unmeasured(metrics).values, []
    number = sum(len(image) for image, _ in pairs)
    for metric in metrics:
        try:
            parts = [
                (len(image), metric.value(image.detach().float(), truth.detach().float()))
                for image, truth in pairs
            ]
        except ValueError as error:
            messages.append(str(error))
            continue
        mean = sum(n * value for n, value in parts) / number
        values[metric.name] = parts[0][1] if len(parts) == 1 else mean
    return Measured(values, "; ".join(messages))


def mean_of_measured(found: Sequence[Measured], numbers: Sequence[int]) -> Measured:
    """What was measured of so many images each, of all together; one alone as it is."""
    known = [(number, one) for number, one in zip(numbers, found, strict=True) if number]
    if len(known) == 1:
        return known[0][1]
    values = {
        name: sum(number * one.values[name] for number, one in known) / sum(numbers)
        for name in known[0][1].values
    }
    return Measured(
        values, "; ".join(dict.fromkeys(one.message for _, one in known if one.message))
    )


def directions(metrics: Sequence[Metric]) -> str:
    """For each metric of a known direction, whether higher is better, by name: as JSON."""
    known = {m.name: m.higher_is_better for m in metrics if m.higher_is_better is not None}
    return json.dumps(known)


def _metric(spec: str) -> Metric:
    name = _column(spec)
    try:
        chosen = METRIC.choose(spec, given=("x_hat", "x"))
        made = METRIC.call(chosen, spec) if isinstance(chosen.func, type) else chosen
    except (ValueError, OSError, ImportError) as error:
        reason = error.__cause__ if isinstance(error, ValueError) else error
        if isinstance(reason, ImportError | OSError):
            return Metric(name, spec, None, None, absent=error_line(reason))
        raise
    said = made.func if isinstance(made, partial) else made
    higher = getattr(said, "higher_is_better", None)
    if higher is None and hasattr(said, "lower_better"):  # as deepinv says it
        higher = not said.lower_better
    if not callable(made) or not isinstance(higher, bool):
        raise ValueError(
            f"metric {spec!r} has higher_is_better = {higher!r}, which must be True or False: "
            f"expected {METRIC.form}"
        )
    return Metric(name, spec, made, higher)


def _column(spec: str) -> str:
    """``spec`` without the folder and the ending of a file: "b(p=1)" of "a/b.py(p=1)"."""
    name, bracket, options = spec.partition("(")
    if name.strip().endswith(".py"):
        name = Path(name.strip()).stem
    return name.strip() + bracket + options.replace(":", "=")  # as the command line rewrites them
