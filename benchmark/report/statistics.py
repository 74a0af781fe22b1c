"""Confidence intervals of means and of paired differences, over photographs and repetitions.

A value v[r, p, i] is that of image i, a crop of photograph p, in repetition r. Images of one
photograph are alike, and so are all images of one repetition: photographs and repetitions are the
units, crossed with each other, and images are none. Two methods are compared through
v[r, p, i] − w[r, p, i], the same image under the same noise.

Of N values with mean m, S_r and S_p the sums of (v − m) / N over a repetition and a photograph,

    half-width² = Σ_units  t(n − 1)² · n / (n − 1) · Σ S²,    n = 1 / Σ share²,

t Student's factor, n the number of units that count (of equal units all; of unequal ones fewer:
Kish, "Survey Sampling", 1965). Each Σ S² is what resampling those units gives for the variance of
m; their sum errs on the side of wide intervals (the pigeonhole bootstrap: Owen, Annals of Applied
Statistics 2007). That each has a factor of its own keeps the rate whichever dominates (Banerjee,
"Approximate confidence interval for linear functions of means", Sankhyā 1960): where it is the
repetitions, their number governs, however many the photographs. Nothing is drawn at random, few
units and missing values are no special cases, and ``results/coverage.md`` holds the rates found.

With one repetition only photographs count: what another seed would change in all images alike
cannot be seen then. Where rows do not say which photographs their images are of (files of earlier
versions, measured pairs, simulated images), each image counts as one, and ``Interval.how`` says so.
Files without values per image leave the repetitions.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from benchmark.report.reading import unpacked

LEVEL = 0.95
UNITS = ["repetition", "photograph"]
INDEX = [*UNITS, "image"]
#: in the place of a photograph's name: of a mean over images; of an image that counts as one
MEAN, ALONE = "", "the image "


class Interval(NamedTuple):
    """A mean and its confidence interval (NaN without two units), and ``how`` it was taken."""

    mean: float
    low: float
    high: float
    how: str

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return not math.isnan(self.low)


def values(runs: pd.DataFrame, name: str = "test_psnr") -> pd.Series:
    """By ``repetition``, ``photograph`` and ``image``: the test PSNRs of one row per run.

    Without values per image, and of another column than test PSNR, the means that the runs report.
    Repetitions of one number whose images differ are two; runs of one repetition and the same
    images (the same configuration in several files) are averaged.
    """
    arrays = [_array(value) if name == "test_psnr" else None for value in runs["test_psnr_images"]]
    each = all(array is not None for array in arrays)
    if not each:
        arrays = [np.array([value], dtype=float) for value in runs[name]]
    digests = runs.get("images_digest", pd.Series("", runs.index)).fillna("").astype(str)
    names = runs.get("test_photographs", pd.Series(None, runs.index, dtype=object))
    sizes = [len(array) for array in arrays]
    own = [_photographs(*pair) if each else [MEAN] for pair in zip(names, sizes, strict=True)]
    repetitions = (runs["repetition"].astype(str) + " " + digests).str.strip()
    found = pd.DataFrame({"value": np.concatenate([*arrays, []])})
    found["repetition"] = np.repeat(repetitions.to_numpy(), sizes)
    found["photograph"] = [*itertools.chain(*own)]
    found["image"] = [*itertools.chain(*map(range, sizes))]
    return found.dropna().groupby(INDEX)["value"].mean()


def difference(a: pd.Series, b: pd.Series) -> pd.Series:
    """a − b over the images that both have (``values`` of two configurations); where one has no
    values per image, of the means of repetitions.
    """
    pair = [a, b]
    if any(MEAN in own.index.get_level_values("photograph") for own in pair):
        means = [own.groupby("repetition").mean().to_frame("value") for own in pair]
        pair = [
            own.assign(photograph=MEAN, image=0).set_index(INDEX[1:], append=True)["value"]
            for own in means
        ]
    return pair[0].sub(pair[1]).dropna()


def interval(found: pd.Series, *, level: float = LEVEL) -> Interval:
    """The mean of ``values`` or of their ``difference``, with its interval."""
    found = found.dropna()
    if found.empty:
        return Interval(math.nan, math.nan, math.nan, "no values")
    numbers = found.to_numpy()
    mean = float(numbers.mean()) if np.ptp(numbers) else float(numbers[0])
    how = _how(*(found.index.get_level_values(unit).unique() for unit in UNITS))
    codes = [found.index.codes[found.index.names.index(unit)] for unit in UNITS]
    half = half_width(numbers - mean, *codes, level=level)
    return Interval(mean, mean - half, mean + half, how)


def half_width(rest: np.ndarray, *units: np.ndarray, level: float = LEVEL) -> float:
    """Of the interval of a mean, from what is left without it and, for each way to group the values
    in units, the number of each one's unit; NaN where all are of one.
    """
    squares = []
    for unit in units:
        shares = np.bincount(unit) / len(rest)
        if np.count_nonzero(shares) > 1:
            count = 1 / (shares**2).sum()
            sums = np.bincount(unit, weights=rest) / len(rest)
            factor = special.stdtrit(count - 1, (1 + level) / 2)
            squares.append(factor**2 * count / (count - 1) * (sums**2).sum())
    return math.sqrt(sum(squares)) if squares else math.nan


def _how(repetitions: pd.Index, photographs: pd.Index) -> str:
    repeated = f"{len(repetitions)} repetitions" if len(repetitions) > 1 else ""
    if set(photographs) == {MEAN}:
        return repeated or "one repetition and no values per image"
    alone = any(name.startswith(ALONE) for name in photographs)
    kind = "image{} (each as a photograph)" if alone else "photograph{}"
    shown = f"{len(photographs)} {kind.format('s' * (len(photographs) > 1))}"
    if len(photographs) > 1 and not repeated:
        return shown
    return f"{shown} and {repeated or 'one repetition'}"


def student(numbers: np.ndarray) -> tuple[float, float]:
    """Student's interval of a mean."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(numbers) - 1) * stats.sem(numbers)
    return float(numbers.mean() - half), float(numbers.mean() + half)


def not_worse(tables: Mapping[str, pd.Series], *, level: float = LEVEL) -> frozenset[str]:
    """The entry with the highest mean, those that cannot be told from it, and all above one such.

    Each of the m − 1 others is compared with the best through the paired difference, at the level
    1 − (1 − level) / (m − 1): with the probability ``level`` at least, the entry that is best in
    truth is in the set (Bonferroni's bound for comparisons with the best; Hsu 1984). An entry that
    has no interval against the best has no say, but may be above one that has. Where nothing can be
    told apart by any data (all values equal, or no intervals) the set is empty.
    """
    means = {name: float(table.mean()) for name, table in tables.items() if table.notna().any()}
    if len(means) < 2:
        return frozenset()
    best = min(means, key=lambda name: (-means[name], name))
    each = 1 - (1 - level) / (len(means) - 1)
    others = [name for name in means if name != best]
    gaps = {n: interval(difference(tables[best], tables[n]), level=each) for n in others}
    known = {name: gap for name, gap in gaps.items() if gap.known}
    if not any(gap.mean or gap.low or gap.high for gap in known.values()):
        return frozenset()
    least = min(means[name] for name in [best, *known] if name == best or known[name].low <= 0)
    return frozenset(name for name in means if means[name] >= least)


def _array(value: object) -> np.ndarray | None:
    """The values per image of one row; None where there are none."""
    value = unpacked(value)
    if not isinstance(value, np.ndarray | Sequence) or isinstance(value, str | bytes):
        return None
    array = np.asarray(value, dtype=float).ravel()
    return array if array.size and np.isfinite(array).all() else None


@lru_cache(maxsize=1)  # a file's rows mostly have the same
def _photographs(names: object, number: int) -> list[str]:
    """The photograph of each of ``number`` images, of the JSON in a row."""
    listed = json.loads(names) if isinstance(names, str) and names else []
    return listed if len(listed) == number else [f"{ALONE}{i}" for i in range(number)]
