"""Confidence intervals of means and of paired differences, over test images and repetitions.

The unit is the test image. A value is known for each repetition r and image i, and two methods are
compared through d[r, i] = a[r, i] − b[r, i], the same photograph under the same noise. Images and
repetitions are crossed, so both are resampled, independently of each other (the pigeonhole
bootstrap: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007; it errs on the side
of wide intervals). With one repetition only images are resampled: what another seed would change
in all images alike cannot be seen then. Files without values per image leave the repetitions.

Percentile intervals of a mean are too narrow for few units; the level is raised so that normal
data get the width of Student's interval (Hesterberg, "What teachers should know about the
bootstrap", 2015: expanded percentiles). Below ``FEW`` images, or ``FEW`` repetitions where there
are several, no resampling reaches 95 %: then it is Student's interval, with the variance and the
degrees of freedom of the mean of a crossed table where images and repetitions are several.

Every function is deterministic and independent of the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from benchmark.report.reading import unpacked

LEVEL = 0.95
FEW = 6
RESAMPLES = 4999
SEED = 0
PSNR_IMAGES = "test_psnr_images"


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; ``how`` says what it was taken over.

    The bounds are NaN where there are not two units to take it over.
    """

    mean: float
    low: float
    high: float
    how: str

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return not math.isnan(self.low)


def values(runs: pd.DataFrame, name: str = "test_psnr") -> pd.DataFrame:
    """A row per repetition, a column per test image: the test PSNRs of one row per run.

    Without values per image, and of another column than test PSNR, there is one column, the mean
    that the run reports. Several runs of one repetition (the same configuration in several files)
    are averaged.
    """
    arrays = [_array(value) for value in runs[PSNR_IMAGES]] if name == "test_psnr" else []
    if not arrays or any(array is None for array in arrays):
        arrays = [np.atleast_1d(float(value)) for value in runs[name]]
    table = pd.DataFrame([pd.Series(array) for array in arrays], dtype=float)
    table = table.groupby(runs["repetition"].to_numpy()).mean().sort_index()
    return table.dropna(axis="index", how="all").dropna(axis="columns", how="all")


def difference(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """a − b over the repetitions and images that both have (``values`` of two configurations).

    Where one of them has no values per image, the means are compared.
    """
    if (a.shape[1] == 1) != (b.shape[1] == 1):
        a, b = (table.mean(axis="columns").to_frame() for table in (a, b))
    return a.sub(b).dropna(axis="index", how="all").dropna(axis="columns", how="all")


def interval(table: pd.DataFrame, *, level: float = LEVEL) -> Interval:
    """The mean of a table of ``values`` or of their ``difference``, with its interval."""
    numbers = np.ascontiguousarray(table.to_numpy(dtype=float))
    if not numbers.size or np.isnan(numbers).all():
        return Interval(math.nan, math.nan, math.nan, "no values")
    mean = float(np.nanmean(numbers))
    repetitions, images = numbers.shape
    units, unit = (images, "image") if images > 1 else (repetitions, "repetition")
    if units < 2:
        return Interval(mean, math.nan, math.nan, "one repetition and no values per image")
    how = f"{units} {unit}s"
    how += f" and {repetitions} repetitions" if images > 1 and repetitions > 1 else ""
    if np.ptp(numbers[~np.isnan(numbers)]) == 0:
        return Interval(mean, mean, mean, how)
    crossed = min(numbers.shape) > 1 and not np.isnan(numbers).any()
    if units >= FEW and not (crossed and repetitions < FEW):
        return Interval(mean, *_bootstrap(numbers, units, level), f"bootstrap, {how}")
    means = np.nanmean(numbers, axis=0 if images > 1 else 1)
    error, freedom = _crossed(numbers) if crossed else (stats.sem(means), units - 1)
    half = float(stats.t.ppf((1 + level) / 2, freedom) * error)
    return Interval(mean, mean - half, mean + half, f"Student, {how}")


def student(numbers: np.ndarray) -> tuple[float, float]:
    """Student's interval of a mean."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(numbers) - 1) * stats.sem(numbers)
    return float(numbers.mean() - half), float(numbers.mean() + half)


def not_worse(tables: Mapping[str, pd.DataFrame], *, level: float = LEVEL) -> frozenset[str]:
    """The entry with the highest mean, and those not significantly below it.

    Each of the m − 1 others is compared with the best through the paired difference, at the level
    1 − (1 − level) / (m − 1): with the probability ``level`` at least, the entry that is best in
    truth is in the set (Bonferroni's bound for comparisons with the best; Hsu 1984). Where
    nothing can be told apart by any data (all values equal, or no intervals) the set is empty.
    """
    means = {name: float(np.nanmean(table)) for name, table in tables.items() if table.size}
    if len(means) < 2:
        return frozenset()
    best = min(means, key=lambda name: (-means[name], name))
    each = 1 - (1 - level) / (len(means) - 1)
    gaps = {
        name: interval(difference(tables[best], tables[name]), level=each)
        for name in means
        if name != best
    }
    known = {name: gap for name, gap in gaps.items() if gap.known}
    if not any(gap.mean or gap.low or gap.high for gap in known.values()):
        return frozenset()
    return frozenset({best, *(name for name, gap in known.items() if not gap.low > 0)})


def _array(value: object) -> np.ndarray | None:
    """The values per image of one row; None where there are none."""
    value = unpacked(value)
    if not isinstance(value, np.ndarray | Sequence) or isinstance(value, str | bytes):
        return None
    array = np.asarray(value, dtype=float).ravel()
    return array if array.size and np.isfinite(array).all() else None


def _crossed(numbers: np.ndarray) -> tuple[float, float]:
    """The standard error of the mean of a crossed table, and its degrees of freedom.

    Of a value = mean + effect of its row + effect of its column + rest, the mean has the variance
    (M_rows + M_columns − M_rest) / size, M the mean squares of the two-way layout; at least
    M_rest / size. Degrees of freedom: Satterthwaite, "An approximate distribution of estimates of
    variance components", Biometrics Bulletin 1946.
    """
    mean = numbers.mean()
    rows, columns = (numbers.mean(axis=axis, keepdims=True) - mean for axis in (1, 0))
    free = np.array([len(numbers) - 1, numbers.shape[1] - 1])
    free = np.append(free, free.prod())
    parts = (rows, columns, numbers - mean - rows - columns)
    squares = [(np.broadcast_to(part, numbers.shape) ** 2).sum() for part in parts] / free
    of_rows, of_columns, rest = squares
    variance = of_rows + of_columns - rest
    if variance < rest:
        return math.sqrt(rest / numbers.size), float(free[2])
    freedom = variance**2 / (squares**2 / free).sum()
    return math.sqrt(variance / numbers.size), float(freedom)


def _bootstrap(numbers: np.ndarray, units: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval of the mean; images and repetitions drawn apart."""
    z = math.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1)
    axes = [np.arange(count) for count in numbers.shape if count > 1]
    known = ~np.isnan(numbers)
    filled = np.where(known, numbers, 0.0)

    def mean(*drawn: np.ndarray, axis: int) -> np.ndarray:
        times = iter([_times(index) for index in drawn])
        rows, columns = (next(times) if count > 1 else np.ones((1, 1)) for count in numbers.shape)
        total, weight = (((rows @ part) * columns).sum(axis=-1) for part in (filled, known))
        return total / weight

    options = {"n_resamples": RESAMPLES, "method": "percentile", "vectorized": True}
    expanded = float(2 * stats.norm.cdf(z) - 1)
    generator = np.random.default_rng(SEED)
    found = stats.bootstrap(axes, mean, confidence_level=expanded, rng=generator, **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _times(index: np.ndarray) -> np.ndarray:
    """How often each unit was drawn: (…, n) indices below n to (…, n) counts."""
    units = index.shape[-1]
    draws = index.reshape(-1, units)
    apart = draws + units * np.arange(len(draws))[:, None]
    counts = np.bincount(apart.ravel(), minlength=draws.size)
    return counts.reshape(index.shape).astype(float)
