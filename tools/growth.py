"""How the time, memory and disk of a study grow with its runs, its images and their side.

    python tools/growth.py --out results/growth.md

Each of the three is varied alone, in the study of ``tools/streamed.py`` (HOAG on simulated images
that are in files; once through them in steps of eight, two rows). Runs and images are counted from
the first number, which has what does not grow, or only at first: one run has no other's rows beside
it on the disk, and the first images are solved to tolerances that float32 can meet. What is above
the cost there, and for the side above that of the smallest study, is fitted as factor · xᵖ by least
squares in logarithms. Intervals are Student's, 95 %. A study that is larger in two ways at once is
measured too, and compared with what the laws say of it; the smallest is measured again at the end.
A quarter of an hour.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from streamed import Cost, cost, study

from benchmark.measure.device import device_name, threads

#: the smallest study: one run on eight images of 8²
FEWEST, SMALLEST = 8, 8
#: what the others are: one is varied, at the first value of the other
RUNS, IMAGES, SIDES = (2, 4, 7, 13, 20), (500, 1000, 1500, 2000, 4000), (64, 96, 144, 224)
#: larger in two ways at once: images, and their side
BOTH = (1000, 128)
#: what is extrapolated to
MANY_RUNS, MANY_IMAGES, LARGE = 10_000, 10_000, 512


@dataclass(frozen=True)
class Quantity:
    """A number ``of`` a cost, in ``unit``; what is above that of the smallest study by less than
    the share ``noise`` of it is not told from it.
    """

    unit: str
    noise: float
    of: Callable[[Cost], float]


QUANTITIES = {
    "time": Quantity("s", 0.05, lambda took: took.seconds),
    "memory, study": Quantity("MiB", 0.01, lambda took: took.study_mib),
    "memory, run": Quantity("MiB", 0.01, lambda took: took.run_mib),
    "disk, at most": Quantity("MiB", 0.1, lambda took: took.disk_mib),
    "disk, rows": Quantity("MiB", 0.01, lambda took: took.rows_mib),
}
#: a study of some runs, images and side, and what it took
Measured = Mapping[tuple[int, int, int], Cost]


@dataclass(frozen=True)
class Law:
    """start + factor · xᵖ, with ``half``, the half-width of the exponent's interval, about
    ``centre``, the geometric mean of the sizes. Factor 0 where nothing was seen to grow; a line of
    the slope ``unseen`` would not have been.
    """

    start: float
    factor: float
    exponent: float
    half: float
    centre: float
    unseen: float

    def above(self, x: float) -> float:
        """What comes to the start at the size x."""
        return self.factor * x**self.exponent

    def ends(self, x: float) -> tuple[float, float]:
        """Between what ``above`` lies at x, as the exponent is in doubt; where nothing grew, up to
        the line that would not have been seen. Without a bound where the exponent is not told
        from 0.
        """
        if not self.factor:
            return 0.0, self.unseen * x
        if not self.half < self.exponent:
            return 0.0, math.inf
        doubt = math.exp(self.half * abs(math.log(x / self.centre)))
        return self.above(x) / doubt, self.above(x) * doubt


def law(sizes: Sequence[float], costs: Sequence[float], *, start: float, noise: float) -> Law:
    """The law of costs at some sizes; at least three of them must be told from the start, and so be
    above it by more than the share ``noise`` of it.
    """
    x, above = np.asarray(sizes, dtype=float), np.asarray(costs, dtype=float) - start
    told, unseen = above > noise * start, noise * start / max(sizes)
    if told.sum() < 3:
        return Law(max(start, *costs), 0.0, 0.0, math.nan, math.nan, unseen)
    x, above = np.log(x[told]), np.log(above[told])
    fit = stats.linregress(x, above)
    half = float(fit.stderr * stats.t.ppf(0.975, len(x) - 2))
    factor, centre = math.exp(fit.intercept), math.exp(x.mean())
    return Law(start, factor, float(fit.slope), half, centre, unseen)


def places() -> list[tuple[int, int, int]]:
    """Runs, images and side of each study that is measured, the smallest first."""
    varied = [(runs, FEWEST, SMALLEST) for runs in (1, *RUNS)]
    varied += [(1, images, SIDES[0]) for images in IMAGES]
    varied += [(1, IMAGES[0], side) for side in SIDES]
    return [*dict.fromkeys([*varied, (1, *BOTH)])]


def laws(measured: Measured, quantity: Quantity) -> dict[str, Law]:
    """Of one quantity the laws of runs, of images and of the side."""

    def along(first: tuple[int, int, int], places: Mapping[int, tuple[int, int, int]]) -> Law:
        costs = [quantity.of(measured[place]) for place in places.values()]
        return law([*places], costs, start=quantity.of(measured[first]), noise=quantity.noise)

    (one, *runs), (few, *images) = RUNS, IMAGES
    place = {n: (1, n, SIDES[0]) for n in IMAGES}
    return {
        "runs": along((one, FEWEST, SMALLEST), {n - one: (n, FEWEST, SMALLEST) for n in runs}),
        "images": along(place[few], {n - few: place[n] for n in images}),
        "side": along((1, FEWEST, SMALLEST), {side: (1, few, side) for side in SIDES}),
    }


@dataclass(frozen=True)
class Said:
    """What laws say of a study: its cost, and between what it lies."""

    value: float
    least: float
    most: float


def of_runs(found: Mapping[str, Law], runs: int) -> Said:
    """The cost of a study of many runs."""
    own, more = found["runs"], runs - RUNS[0]
    low, high = own.ends(more)
    return Said(own.start + own.above(more), own.start + low, own.start + high)


def of_images(found: Mapping[str, Law], images: int, side: int) -> Said:
    """Likewise of many images of a side: where both laws grow they are taken to multiply."""
    number, size, more = found["images"], found["side"], images - IMAGES[0]
    ends = zip(number.ends(more), size.ends(side), strict=True)
    by = [(number.above(more), size.above(side)), *ends]
    if number.factor and size.factor:
        first = size.above(SIDES[0])
        return Said(*(size.start + b * (1 + a / first) for a, b in by))
    start = size.start if size.factor else max(number.start, size.start)
    return Said(*(start + a + b for a, b in by))


def page(measured: Measured, again: Cost, *, machine: str) -> str:
    """What was measured, the smallest study ``again`` at the end, the laws, and what they say of
    large studies, in Markdown.
    """
    found = {name: laws(measured, quantity) for name, quantity in QUANTITIES.items()}
    noise = ", ".join(f"{each.noise:.0%} ({name})" for name, each in QUANTITIES.items())
    lines = [
        "# What a study costs as it grows",
        "",
        "Time is that of the processor, of all processes together; memory the peak of what is "
        "resident of the process of the study and of the largest other, that of a run; disk the "
        "most that was in the study's folders at once (images in files, runs as they are kept, the "
        "cache, rows), and its rows in the end. All are of one small study, made larger in one way "
        "at a time: HOAG on simulated images that are in files, once through them in steps of "
        f"eight, judged before and after. Times are those of this machine: {machine}. Another "
        "method has other factors: `python -m benchmark check CONFIG` estimates those of a "
        "configuration. `tools/growth.py` says how, and `make growth` repeats it.",
        "",
        "## Measured",
        "",
        f"| runs | images | side (pixels) | {_heads(units=True)} |",
        f"|{' --- |' * (3 + len(QUANTITIES))}",
    ]
    for (runs, images, side), took in measured.items():
        lines.append(f"| {runs} | {images} | {side} | {_cells(took)} |")
    lines += [
        f"| 1, at the end again | {FEWEST} | {SMALLEST} | {_cells(again)} |",
        "",
        "## Laws",
        "",
        "What is above the start grows as a power: of runs beyond the first "
        f"{RUNS[0]}, of images beyond the first {IMAGES[0]}, of the side. Not told from the start "
        f"is less than {noise} of it.",
        "",
        "| grows with | what | start | exponent | at twice the size |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("runs", "images", "side"):
        for what, quantity in QUANTITIES.items():
            lines.append(f"| {name} | {what} | {_law(found[what][name], quantity.unit)} |")
    lines += ["", "## Extrapolated", "", *_extrapolated(found, measured)]
    return "\n".join(lines) + "\n"


def _heads(*, units: bool = False) -> str:
    """The quantities as heads of columns."""
    return " | ".join(f"{n} ({each.unit})" if units else n for n, each in QUANTITIES.items())


def _cells(took: Cost) -> str:
    """The quantities as they are."""
    return " | ".join(f"{each.of(took):.4g}" for each in QUANTITIES.values())


def _law(own: Law, unit: str) -> str:
    if not own.factor:
        return f"at most {own.start:.4g} {unit} | not told from 0 | the same"
    exponent = f"{own.exponent:.2f} ± {own.half:.2f}"
    return f"{own.start:.4g} {unit} | {exponent} | {2**own.exponent:.2f}× what is above it"


def _extrapolated(found: Mapping[str, Mapping[str, Law]], measured: Measured) -> list[str]:
    """The costs of large studies, and of the one that was measured to try the laws."""
    ratios = [MANY_RUNS / RUNS[-1], MANY_IMAGES / IMAGES[-1], LARGE / SIDES[-1]]
    largest = max(images * side**2 for _, images, side in measured)
    pixels = MANY_IMAGES * LARGE**2 / largest
    lines = [
        f"{MANY_RUNS:,} runs are **{ratios[0]:.0f} times the most that were measured**. "
        f"{MANY_IMAGES:,} images of {LARGE}² are {ratios[1]:.1f} times the most images and "
        f"{ratios[2]:.1f} times the largest side, and **{pixels:.0f} times the most pixels that "
        "were measured at once**. Ranges are those of the exponents; where nothing was seen to "
        "grow they go up to a line that would not have been told from the start where it was "
        "measured, and there is no bound where an exponent is not told from 0. What the laws leave "
        "out (a cache that is too small, a slow disk) is in none.",
        "",
        f"| study | {_heads()} |",
        f"|{' --- |' * (1 + len(QUANTITIES))}",
    ]
    tried = f"{BOTH[0]} images of {BOTH[1]}²"
    studies: dict[str, Callable[[Mapping[str, Law]], Said]] = {
        f"{MANY_RUNS:,} runs": partial(of_runs, runs=MANY_RUNS),
        f"{MANY_IMAGES:,} images of {LARGE}²": partial(of_images, images=MANY_IMAGES, side=LARGE),
        f"tried: {tried}, by the laws": partial(of_images, images=BOTH[0], side=BOTH[1]),
    }
    for name, of in studies.items():
        cells = []
        for what, own in found.items():
            said = of(own)
            ends = dict.fromkeys(_amount(end, what) for end in (said.least, said.most))
            told = f" ({' to '.join(ends)})" if len(ends) > 1 else ""
            cells.append(_amount(said.value, what) + told)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    took = measured[1, *BOTH]
    cells = [_amount(each.of(took), what) for what, each in QUANTITIES.items()]
    lines.append(f"| tried: {tried}, as measured | {' | '.join(cells)} |")
    return lines


def _amount(value: float, what: str) -> str:
    """Seconds or MiB in the unit that suits them."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1} if what == "time" else {}
    units = units or {"TiB": 2**20, "GiB": 2**10, "MiB": 1}
    if math.isinf(value):
        return "no bound known"
    unit, size = next(((u, s) for u, s in units.items() if value >= 2 * s), [*units.items()][-1])
    return f"{value / size:.2g} {unit}" if value < 99.5 * size else f"{value / size:.0f} {unit}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    machine = f"{device_name(torch.device('cpu'))}, {threads()} thread{'s' * (threads() > 1)}"
    measured = {}
    for runs, images, side in places():
        measured[runs, images, side] = took = cost(study(images, side, runs=runs), limit="0")
        print(f"{runs} runs, {images} images of {side}²: {took}", flush=True)
    again = cost(study(FEWEST, SMALLEST), limit="0")
    options.out.write_text(page(measured, again, machine=machine), encoding="utf-8")


if __name__ == "__main__":
    main()
