"""How the time, memory and disk of a study grow with its runs, its images and their side.

    python tools/growth.py --out results/growth.md

Each of the three is varied alone, in the study of ``tools/streamed.py`` (HOAG on simulated images
that are in files; ten steps on eight images, two rows), and what is above the cost of the
smallest study is fitted as factor · xᵖ, by least squares in logarithms: of runs x are those beyond
the first. Intervals are Student's, 95 %. A study that is larger in two ways at once is measured
too, and compared with what the laws say of it. A few minutes.
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
RUNS, IMAGES, SIDES = (2, 3, 5, 9), (100, 200, 400, 800), (32, 64, 128, 256)
#: larger in two ways at once: images, and their side
BOTH = (400, 64)
#: what is extrapolated to
MANY_RUNS, MANY_IMAGES, LARGE = 10_000, 10_000, 512
#: of the smallest study's cost: what is less above it is not told from it
NOISE = 0.01
#: of a cost: its name, unit and the number of it
QUANTITIES: dict[str, tuple[str, Callable[[Cost], float]]] = {
    "time": ("s", lambda took: took.seconds),
    "memory, study": ("MiB", lambda took: took.study_mib),
    "memory, run": ("MiB", lambda took: took.run_mib),
    "disk, at most": ("MiB", lambda took: took.disk_mib),
    "disk, rows": ("MiB", lambda took: took.rows_mib),
}
#: a study of some runs, images and side, and what it took
Measured = Mapping[tuple[int, int, int], Cost]


@dataclass(frozen=True)
class Law:
    """start + factor · xᵖ, with ``half``, the half-width of the exponent's interval, about
    ``centre``, the geometric mean of the sizes; factor 0 where nothing was seen to grow up to the
    size ``largest``.
    """

    start: float
    factor: float
    exponent: float
    half: float
    centre: float
    largest: float

    def above(self, x: float) -> float:
        """What comes to the start at the size x."""
        return self.factor * x**self.exponent

    def ends(self, x: float) -> tuple[float, float]:
        """Between what ``above`` lies at x, as the exponent is in doubt; where nothing grew, up to
        a line that would not have been told from the start.
        """
        if not self.factor:
            return 0.0, NOISE * self.start * x / self.largest
        doubt = math.exp(self.half * abs(math.log(x / self.centre)))
        return self.above(x) / doubt, self.above(x) * doubt


def law(sizes: Sequence[float], costs: Sequence[float], *, start: float) -> Law:
    """The law of costs at some sizes; at least three of them must be told from the start."""
    x, above = np.asarray(sizes, dtype=float), np.asarray(costs, dtype=float) - start
    told, largest = above > NOISE * start, float(max(sizes))
    if told.sum() < 3:
        return Law(float(max(start, *costs)), 0.0, 0.0, math.nan, math.nan, largest)
    x, above = np.log(x[told]), np.log(above[told])
    fit = stats.linregress(x, above)
    half = float(fit.stderr * stats.t.ppf(0.975, len(x) - 2))
    factor, centre = math.exp(fit.intercept), math.exp(x.mean())
    return Law(start, factor, float(fit.slope), half, centre, largest)


def places() -> list[tuple[int, int, int]]:
    """Runs, images and side of each study that is measured, the smallest first."""
    varied = [(runs, FEWEST, SMALLEST) for runs in (1, *RUNS)]
    varied += [(1, images, SIDES[0]) for images in IMAGES]
    varied += [(1, IMAGES[0], side) for side in SIDES]
    return [*dict.fromkeys([*varied, (1, *BOTH)])]


def laws(measured: Measured, number: Callable[[Cost], float]) -> dict[str, Law]:
    """Of one quantity the laws of runs, of images and of the side."""
    start = number(measured[1, FEWEST, SMALLEST])
    at = {
        "runs": [((runs, FEWEST, SMALLEST), runs - 1) for runs in RUNS],
        "images": [((1, images, SIDES[0]), images) for images in IMAGES],
        "side": [((1, IMAGES[0], side), side) for side in SIDES],
    }
    return {
        name: law([x for _, x in own], [number(measured[key]) for key, _ in own], start=start)
        for name, own in at.items()
    }


@dataclass(frozen=True)
class Said:
    """What laws say of a study: its cost, and between what it lies."""

    value: float
    least: float
    most: float


def of_runs(found: Mapping[str, Law], runs: int) -> Said:
    """The cost of a study of many runs."""
    own = found["runs"]
    low, high = own.ends(runs - 1)
    return Said(own.start + own.above(runs - 1), own.start + low, own.start + high)


def of_images(found: Mapping[str, Law], images: int, side: int) -> Said:
    """Likewise of many images of a side: where both laws grow they are taken to multiply."""
    number, size = found["images"], found["side"]
    start = max(number.start, size.start)
    pairs = zip(number.ends(images), size.ends(side), strict=True)
    if number.factor and size.factor:
        by = number.above(images) / size.above(SIDES[0])
        least, most = (a * b / number.above(images) * by for a, b in pairs)
        return Said(start + size.above(side) * by, start + least, start + most)
    least, most = (a + b for a, b in pairs)
    return Said(start + number.above(images) + size.above(side), start + least, start + most)


def page(measured: Measured, *, machine: str) -> str:
    """What was measured, the laws, and what they say of large studies, in Markdown."""
    found = {name: laws(measured, number) for name, (_, number) in QUANTITIES.items()}
    lines = [
        "# What a study costs as it grows",
        "",
        "Time is that of the processor, of all processes together; memory the peak of what is "
        "resident of the process of the study and of the largest other, that of a run; disk the "
        "most that was in the study's folders at once, and its rows in the end. All are of one "
        "small study "
        f"(HOAG, ten steps), made larger in one way at a time, on: {machine}. Another method has "
        "other factors: `python -m benchmark check CONFIG` estimates those of a configuration. "
        "`tools/growth.py` says how, and `make growth` repeats it.",
        "",
        "## Measured",
        "",
        f"| runs | images | side (pixels) | {_heads(units=True)} |",
        f"|{' --- |' * (3 + len(QUANTITIES))}",
    ]
    for (runs, images, side), took in measured.items():
        cells = [f"{number(took):.4g}" for _, number in QUANTITIES.values()]
        lines.append(f"| {runs} | {images} | {side} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Laws",
        "",
        "What is above the start grows as a power: of runs beyond the first, of images, of the "
        f"side. Less than {NOISE:.0%} of the start is not told from it.",
        "",
        "| grows with | what | start | exponent | at twice the size |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("runs", "images", "side"):
        for what, (unit, _) in QUANTITIES.items():
            lines.append(f"| {name} | {what} | {_law(found[what][name], unit)} |")
    lines += ["", "## Extrapolated", "", *_extrapolated(found, measured)]
    return "\n".join(lines) + "\n"


def _heads(*, units: bool = False) -> str:
    """The quantities as heads of columns."""
    return " | ".join(f"{n} ({unit})" if units else n for n, (unit, _) in QUANTITIES.items())


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
        f"grow they go up to a line that stays below {NOISE:.0%} of the start where it was "
        "measured. What the laws leave out (a cache that is too small, a slow disk) is in none.",
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
    cells = [_amount(number(took), what) for what, (_, number) in QUANTITIES.items()]
    lines.append(f"| tried: {tried}, as measured | {' | '.join(cells)} |")
    return lines


def _amount(value: float, what: str) -> str:
    """Seconds or MiB in the unit that suits them."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1} if what == "time" else {}
    units = units or {"TiB": 2**20, "GiB": 2**10, "MiB": 1}
    unit, size = next(((u, s) for u, s in units.items() if value >= 2 * s), [*units.items()][-1])
    return f"{value / size:.2g} {unit}" if value < 99.5 * size else f"{value / size:.0f} {unit}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    machine = f"{device_name(torch.device('cpu'))}, {threads()} thread{'s' * (threads() > 1)}"
    measured = {}
    for runs, images, side in places():
        measured[runs, images, side] = took = cost(study(images, side, runs=runs), limit="0")
        print(f"{runs} runs, {images} images of {side}²: {took}", flush=True)
    options.out.write_text(page(measured, machine=machine), encoding="utf-8")


if __name__ == "__main__":
    main()
