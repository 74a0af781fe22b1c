"""Intervals that cover the truth at the stated rate, and marks that depend on nothing but data."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.report import statistics
from benchmark.report.statistics import difference, interval, not_worse, values


def runs(arrays, *, column=0.0) -> pd.DataFrame:
    """One row per repetition, with values per image."""
    means = [np.mean(a) if a is not None else column + r for r, a in enumerate(arrays)]
    return pd.DataFrame(
        {"repetition": range(len(arrays)), "test_psnr": means, "test_psnr_images": arrays}
    )


def crossed(generator, *, repetitions: int, images: int, shared: float = 0.0) -> pd.DataFrame:
    """Truth 0: each image and each repetition has an effect of its own, skewed noise on top."""
    noise = generator.exponential(0.5, (repetitions, images)) - 0.5
    effects = generator.normal(size=(1, images)) + shared * generator.normal(size=(repetitions, 1))
    return pd.DataFrame(effects + noise)


@pytest.mark.parametrize(("repetitions", "images"), [(1, 12), (1, 20), (3, 15), (1, 4)])
def test_coverage(repetitions, images, monkeypatch):
    """95 % nominal: at least 90 % of 300 simulated data sets, and not all of them."""
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    generator = np.random.default_rng(7)
    tables = [crossed(generator, repetitions=repetitions, images=images) for _ in range(300)]
    found = [interval(table) for table in tables]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.90 <= covered < 1, covered


def test_coverage_of_repetitions_alone():
    generator = np.random.default_rng(9)
    found = [interval(pd.DataFrame(generator.normal(size=(4, 1)))) for _ in range(300)]
    assert 0.90 <= np.mean([one.low <= 0 <= one.high for one in found]) < 1


@pytest.mark.parametrize(("repetitions", "images"), [(3, 15), (3, 5), (5, 20), (8, 12)])
def test_coverage_where_the_repetition_matters(repetitions, images, monkeypatch):
    """What a repetition does to all images alike is in the interval once there are several."""
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    generator = np.random.default_rng(8)
    tables = [
        crossed(generator, repetitions=repetitions, images=images, shared=1) for _ in range(400)
    ]
    found = [interval(table) for table in tables]
    assert 0.92 <= np.mean([one.low <= 0 <= one.high for one in found]) < 1
    assert {one.how.split(",")[0] for one in found} == {
        "bootstrap" if repetitions == 8 else "Student"
    }


def test_one_effect_alone_gives_its_own_student_s_interval():
    """Where nothing but the repetition differs, the images are no more than one."""
    effects = np.array([[1.0], [2.0], [4.0]])
    found = interval(pd.DataFrame(effects + np.zeros((1, 9))))
    alone = interval(pd.DataFrame(effects))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))


def test_large_samples_agree_with_student():
    numbers = np.random.default_rng(1).normal(30, 2, 60)
    found = interval(values(runs([numbers])))
    low, high = stats.t.interval(0.95, 59, numbers.mean(), stats.sem(numbers))
    assert found.mean == pytest.approx(numbers.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_few_images_get_student_s_interval():
    numbers = np.array([1.0, 2.0, 4.0, 3.0])
    found = interval(values(runs([numbers])))
    low, high = stats.t.interval(0.95, 3, numbers.mean(), stats.sem(numbers))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.how == "Student, 4 images"


def test_pairing_removes_what_images_share():
    generator = np.random.default_rng(2)
    hard = generator.normal(25, 5, 15)
    a, b = hard + 0.1 + 0.01 * generator.normal(size=15), hard
    paired = interval(difference(values(runs([a])), values(runs([b]))))
    assert paired.low > 0.08 and paired.high < 0.12
    alone = interval(values(runs([a])))
    assert alone.high - alone.low > 50 * (paired.high - paired.low)


def test_without_images_repetitions_are_the_unit():
    old = interval(values(runs([None] * 4, column=20.0)))
    assert old.mean == 21.5 and old.how == "Student, 4 repetitions"
    single = interval(values(runs([None], column=20.0)))
    assert single.mean == 20.0 and not single.known
    assert "one repetition" in single.how
    missing = (
        runs([None], column=20.0)
        .drop(columns="test_psnr_images")
        .assign(test_psnr_images=[math.nan])
    )
    assert not interval(values(missing)).known
    mixed = difference(values(runs([np.array([1.0, 3.0])])), values(runs([None], column=1.5)))
    assert mixed.shape == (1, 1) and mixed.iloc[0, 0] == 0.5


def test_pairs_are_of_the_same_repetition():
    first, second = runs([np.arange(8.0), np.arange(8.0) + 5]), runs([np.arange(8.0)])
    gap = difference(values(first), values(second))
    assert gap.shape == (1, 8) and not gap.to_numpy().any()


def test_neither_order_nor_call_changes_an_interval():
    generator = np.random.default_rng(3)
    rows = runs(list(generator.normal(size=(4, 12))))
    again = interval(values(rows.sample(frac=1, random_state=1)))
    assert again == interval(values(rows)) == interval(values(rows))


def tables(shifts: dict[str, float], *, noise: float = 0.05) -> dict[str, pd.DataFrame]:
    generator = np.random.default_rng(4)
    hard = generator.normal(25, 5, 16)
    return {
        name: values(runs([hard + shift + noise * generator.normal(size=16)]))
        for name, shift in shifts.items()
    }


def test_marks():
    found = tables({"good": 1.0, "as good": 0.995, "worse": 0.8, "bad": -2.0})
    assert not_worse(found) == {"good", "as good"}
    shuffled = dict(reversed(found.items()))
    assert not_worse(shuffled) == not_worse(found)


def test_marks_need_something_to_tell_apart():
    same = tables({"a": 0.0})["a"]
    assert not_worse({"a": same, "b": same}) == frozenset()
    assert not_worse({"a": same}) == frozenset()
    old = {name: values(runs([None], column=value)) for name, value in (("a", 1.0), ("b", 2.0))}
    assert not_worse(old) == frozenset()


def test_the_truly_best_is_marked_at_the_stated_rate(monkeypatch):
    """Of ten equals any one is best: it is left unmarked in 5 % of data sets at most."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1999)
    unmarked = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        equal = {str(k): pd.DataFrame(generator.normal(size=(1, 14))) for k in range(10)}
        unmarked += "0" not in not_worse(equal)
    assert unmarked <= 10


# --- against formulas written out ----------------------------------------------------------------


def analysis_of_variance(table: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom of the mean of a crossed table, sum by sum."""
    r, c = table.shape
    mean = table.sum() / (r * c)
    rows, columns = [row.sum() / c for row in table], [column.sum() / r for column in table.T]
    of_rows = c * sum((row - mean) ** 2 for row in rows) / (r - 1)
    of_columns = r * sum((column - mean) ** 2 for column in columns) / (c - 1)
    rest = sum(
        (table[i, j] - rows[i] - columns[j] + mean) ** 2 for i in range(r) for j in range(c)
    ) / ((r - 1) * (c - 1))
    total = of_rows + of_columns - rest
    if total < rest:
        return math.sqrt(rest / (r * c)), (r - 1) * (c - 1)
    parts = of_rows**2 / (r - 1) + of_columns**2 / (c - 1) + rest**2 / ((r - 1) * (c - 1))
    return math.sqrt(total / (r * c)), total**2 / parts


@pytest.mark.parametrize(("repetitions", "images"), [(2, 3), (3, 2), (5, 20), (7, 5), (5, 6)])
@pytest.mark.parametrize("effects", [1.0, 0.0])
def test_few_units_of_a_crossed_table_get_student_s_interval(repetitions, images, effects):
    generator = np.random.default_rng(11)
    rows, columns = generator.normal(size=(repetitions, 1)), generator.normal(size=(1, images))
    table = 3 + effects * (rows + columns) + generator.normal(size=(repetitions, images))
    if not effects:  # take both effects out: what is left is smaller than chance would have it
        table = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True)
    error, freedom = analysis_of_variance(table)
    half = stats.t.ppf(0.95, freedom) * error
    found = interval(pd.DataFrame(table), level=0.9)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert found.mean == pytest.approx(table.mean())
    assert found.how == f"Student, {images} images and {repetitions} repetitions"


def resampled(table: np.ndarray, *, units: int, level: float) -> tuple[float, float]:
    """The expanded percentile interval, every resample taken as it is."""
    known = np.ma.masked_invalid(table)

    def mean(*drawn):
        i = drawn[0] if len(table) > 1 else [0]
        j = drawn[-1] if table.shape[1] > 1 else [0]
        return known[np.ix_(np.asarray(i, int), np.asarray(j, int))].mean()

    z = math.sqrt(units / (units - 1)) * stats.t.ppf((1 + level) / 2, units - 1)
    found = stats.bootstrap(
        [np.arange(n) for n in table.shape if n > 1],
        mean,
        n_resamples=499,
        confidence_level=2 * stats.norm.cdf(z) - 1,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),
    )
    return found.confidence_interval.low, found.confidence_interval.high


@pytest.mark.parametrize(
    ("repetitions", "images", "missing", "how"),
    [
        (1, 6, (), "6 images"),
        (6, 1, (), "6 repetitions"),
        (6, 9, (), "9 images and 6 repetitions"),
        # no crossed table where values are missing
        (2, 8, ((0, 3),), "8 images and 2 repetitions"),
    ],
)
def test_more_are_resampled(repetitions, images, missing, how, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    table = np.random.default_rng(12).normal(size=(repetitions, images)) ** 2
    for at in missing:
        table[at] = np.nan
    found = interval(pd.DataFrame(table), level=0.9)
    units = images if images > 1 else repetitions
    assert (found.low, found.high) == pytest.approx(resampled(table, units=units, level=0.9))
    assert found.mean == pytest.approx(np.nanmean(table)) and found.how == f"bootstrap, {how}"


def test_two_images_are_enough():
    found = interval(few(1, 3))
    low, high = stats.t.interval(0.95, 1, 2, 1)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.how == "Student, 2 images"
    with pytest.raises(AttributeError):
        found.low = 0.0


def test_what_is_resampled_and_how_often_is_fixed():
    assert (statistics.LEVEL, statistics.RESAMPLES, statistics.SEED) == (0.95, 4999, 0)
    numbers = pd.DataFrame(np.random.default_rng(3).normal(size=(1, 9)))
    assert interval(numbers) == interval(numbers, level=0.95)


def test_nothing_to_take_an_interval_over():
    for table in (pd.DataFrame(), pd.DataFrame([[math.nan, math.nan]])):
        found = interval(table)
        assert math.isnan(found.mean) and not found.known and found.how == "no values"
    constant = interval(pd.DataFrame([[2.0, 2.0, 2.0], [2.0, 2.0, math.nan]]))
    assert (constant.mean, constant.low, constant.high) == (2, 2, 2) and constant.known
    assert constant.how == "3 images and 2 repetitions"


def test_runs_of_one_repetition_are_averaged_and_short_ones_filled_up():
    rows = pd.DataFrame(
        {
            "repetition": [1, 0, 1],
            "test_psnr": [5.0, 6.0, 7.0],
            "test_psnr_images": [[1.0, 3.0], np.array([4.0, 5.0, 6.0]), [3.0, 5.0]],
        }
    )
    table = values(rows)
    assert list(table.index) == [0, 1]
    np.testing.assert_array_equal(table, [[4, 5, 6], [2, 4, math.nan]])
    # one run without values per image: none has them
    for nothing in (None, math.nan, [], "", np.array([1.0, math.inf])):
        means = values(rows.assign(test_psnr_images=[nothing, [4.0, 5.0, 6.0], [1.0, 3.0]]))
        assert means[0].tolist() == [6, 6] and means.shape == (2, 1)


def few(*numbers: float) -> pd.DataFrame:
    return pd.DataFrame([numbers])


def test_marks_allow_for_the_number_of_comparisons():
    """Of four images, a gap of 3.6 standard errors: significant at 5 %, not at 5 %/3."""
    noise = np.array([1.0, -1.0, 1.0, -1.0])
    gap = 3.6 * stats.sem(noise)
    assert stats.t.ppf(0.975, 3) < 3.6 < stats.t.ppf(1 - 0.05 / 3 / 2, 3)
    best, near, far = few(0, 0, 0, 0), few(*(noise - gap)), few(*(noise - 100 * gap))
    assert not_worse({"best": best, "near": near}) == {"best"}
    assert not_worse({"best": best, "near": near, "far": far, "low": far}) == {"best", "near"}
    # a level of 90 % takes less
    assert not_worse({"best": best, "near": near, "far": far}, level=0.8) == {"best"}


def test_marks_of_equals_are_shared():
    equal, worse = few(1, 2, 4), few(0, 1, 3)
    assert not_worse({"b": equal, "a": equal, "c": worse}) == {"a", "b"}
    assert not_worse({"b": equal, "none": pd.DataFrame()}) == frozenset()
