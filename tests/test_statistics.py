"""Intervals that hold the truth at the stated rate, and marks that depend on nothing but data."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from benchmark.report.statistics import INDEX, difference, interval, not_worse, values

sys.path.insert(0, str(ROOT / "tools"))

from simulated_coverage import NAMED, Case, best_kept, coverage, table


def runs(arrays, photographs=None, *, column=0.0, **more) -> pd.DataFrame:
    """One row per repetition, with values per image."""
    means = [np.mean(a) if a is not None else column + r for r, a in enumerate(arrays)]
    names = None if photographs is None else json.dumps(photographs)
    return pd.DataFrame(
        {
            "repetition": range(len(arrays)),
            "test_psnr": means,
            "test_psnr_images": arrays,
            "test_photographs": names,
            **more,
        }
    )


def grid(numbers) -> pd.Series:
    """A row per repetition, a column per photograph with one image; NaN where there is none."""
    numbers = np.asarray(numbers, dtype=float)
    image = np.indices((*numbers.shape, 1))
    return table(numbers.ravel(), *(axis.ravel() for axis in image)).dropna()


# --- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("effect", [0.0, 3.0])
@pytest.mark.parametrize(("photographs", "repetitions"), [(4, 3), (4, 10), (20, 2), (20, 5)])
def test_intervals_hold_the_truth(photographs, repetitions, effect, missing):
    """1,000 data sets: with a rate of 95 %, fewer than 93 % once in 500 times; nor do all."""
    case = Case(photographs, repetitions, 0.9, effect=effect, missing=missing)
    assert 0.93 <= coverage(case, draws=1000) < 1


@pytest.mark.parametrize("photographs", [4, 8, 20])
@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_crops_of_a_photograph_are_no_units(photographs, correlation):
    case = Case(photographs, 1, correlation, crops=5)
    assert 0.93 <= coverage(case, draws=1000) < 0.97
    # which they would be if each counted: what the test can tell
    generator, held = np.random.default_rng(0), 0
    for _ in range(300):
        value, *_ = case.draw(generator)
        low, high = stats.t.interval(0.95, len(value) - 1, value.mean(), stats.sem(value))
        held += low <= 0 <= high
    assert held / 300 < 0.8


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_what_was_too_narrow(case):
    assert coverage(case, draws=1000) >= 0.93


def test_the_truly_best_is_marked_at_the_stated_rate():
    assert best_kept(Case(4, 1), draws=100) >= 0.95
    assert best_kept(Case(8, 5, effect=1.0, missing=0.1), draws=60) >= 0.95


# --- against formulas written out -----------------------------------------------------------------


def test_one_kind_of_unit_gives_student_s_interval():
    numbers = np.array([1.0, 2.0, 4.0, 3.0])
    low, high = stats.t.interval(0.95, 3, 2.5, stats.sem(numbers))
    for found, how in (
        (interval(values(runs([numbers]))), "4 images (each as a photograph)"),
        (interval(values(runs([numbers], list("abcd")))), "4 photographs"),
        # two crops of each, which count for one
        (interval(values(runs([np.repeat(numbers, 2)], list("aabbccdd")))), "4 photographs"),
        # repetitions of images that have nothing to tell
        (interval(values(runs([[n] for n in numbers], ["a"]))), "1 photograph and 4 repetitions"),
        (interval(values(runs([[n] * 4 for n in numbers], list("abcd")))), None),
    ):
        assert (found.mean, found.low, found.high) == pytest.approx((2.5, low, high))
        assert found.how == (how or "4 photographs and 4 repetitions")


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (5, 20), (7, 5)])
def test_each_kind_of_unit_has_a_factor_of_its_own(shape):
    """Sum by sum: t² of rows times their mean square, and of columns, over all."""
    numbers = 3 + np.random.default_rng(11).normal(size=shape)
    r, c = shape
    mean = numbers.sum() / (r * c)
    of_rows = c * sum((row.sum() / c - mean) ** 2 for row in numbers) / (r - 1)
    of_columns = r * sum((column.sum() / r - mean) ** 2 for column in numbers.T) / (c - 1)
    squares = stats.t.ppf(0.95, r - 1) ** 2 * of_rows + stats.t.ppf(0.95, c - 1) ** 2 * of_columns
    half = math.sqrt(squares / (r * c))
    found = interval(grid(numbers), level=0.9)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.mean == pytest.approx(mean)
    assert found.how == f"{c} photographs and {r} repetitions"


def test_photographs_with_many_crops_count_for_fewer():
    """Shares ½, ¼, ¼: 1/Σ share² = 8/3 of them."""
    found = interval(values(runs([np.array([1.0, 3.0, 0.0, 4.0])], list("aabc"))))
    sums = (np.array([4.0, 0.0, 4.0]) - 2.0 * np.array([2, 1, 1])) / 4
    half = stats.t.ppf(0.975, 5 / 3) * math.sqrt((8 / 5) * (sums**2).sum())
    assert found.mean == 2 and found.high - 2 == pytest.approx(half)


def test_pairing_removes_what_images_share():
    generator = np.random.default_rng(2)
    hard = generator.normal(25, 5, 15)
    a, b = hard + 0.1 + 0.01 * generator.normal(size=15), hard
    paired = interval(difference(values(runs([a])), values(runs([b]))))
    assert paired.low > 0.08 and paired.high < 0.12
    alone = interval(values(runs([a])))
    assert alone.high - alone.low > 50 * (paired.high - paired.low)


def test_pairs_are_of_the_same_repetition_and_images():
    first, second = runs([np.arange(8.0), np.arange(8.0) + 5]), runs([np.arange(8.0)])
    gap = difference(values(first), values(second))
    assert len(gap) == 8 and not gap.to_numpy().any()
    # of two files whose images differ, nothing is paired
    seeds = [values(first.assign(images_digest=digest)) for digest in ("a", "b")]
    assert interval(difference(*seeds)).how == "no values"
    both = values(pd.concat([first.assign(images_digest=digest) for digest in ("a", "b")]))
    assert interval(both).how == "8 images (each as a photograph) and 4 repetitions"


def test_without_images_repetitions_are_the_unit():
    old = interval(values(runs([None] * 4, column=20.0)))
    assert old.mean == 21.5 and old.how == "4 repetitions"
    single = interval(values(runs([None], column=20.0)))
    assert single.mean == 20.0 and not single.known
    assert single.how == "one repetition and no values per image"
    missing = runs([None], column=20.0).assign(test_psnr_images=[math.nan])
    assert not interval(values(missing)).known
    mixed = difference(values(runs([np.array([1.0, 3.0])])), values(runs([None], column=1.5)))
    assert mixed.tolist() == [0.5]
    one = interval(values(runs([np.array([1.0, 3.0])], ["a", "a"])))
    assert not one.known and one.how == "1 photograph and one repetition"


def test_runs_of_one_repetition_are_averaged():
    rows = pd.DataFrame(
        {
            "repetition": [1, 0, 1],
            "test_psnr": [5.0, 6.0, 7.0],
            "test_psnr_images": [[1.0, 3.0], np.array([4.0, 5.0, 6.0]), [3.0, 5.0]],
        }
    )
    found = values(rows)
    assert found.index.names == INDEX
    assert found.tolist() == [4, 5, 6, 2, 4]
    # one run without values per image: none has them
    for nothing in (None, math.nan, [], "", np.array([1.0, math.inf])):
        means = values(rows.assign(test_psnr_images=[nothing, [4.0, 5.0, 6.0], [1.0, 3.0]]))
        assert means.tolist() == [6, 6]
    assert values(rows[:0]).empty


def test_neither_order_nor_call_changes_an_interval():
    generator = np.random.default_rng(3)
    rows = runs(list(generator.normal(size=(4, 12))))
    again = interval(values(rows.sample(frac=1, random_state=1)))
    assert again == interval(values(rows)) == interval(values(rows), level=0.95)
    with pytest.raises(AttributeError):
        again.low = 0.0


def test_nothing_to_take_an_interval_over():
    for nothing in (pd.Series(dtype=float), grid([[math.nan, math.nan]])):
        found = interval(nothing)
        assert math.isnan(found.mean) and not found.known and found.how == "no values"
    constant = interval(grid([[0.1, 0.1, 0.1], [0.1, 0.1, math.nan]]))
    assert (constant.mean, constant.low, constant.high) == (0.1, 0.1, 0.1)
    assert constant.how == "3 photographs and 2 repetitions"


# --- marks ----------------------------------------------------------------------------------------


def marked(shifts: dict[str, float], *, noise: float = 0.05) -> dict[str, pd.Series]:
    generator = np.random.default_rng(4)
    hard = generator.normal(25, 5, 16)
    return {
        name: values(runs([hard + shift + noise * generator.normal(size=16)]))
        for name, shift in shifts.items()
    }


def test_marks():
    found = marked({"good": 1.0, "as good": 0.995, "worse": 0.8, "bad": -2.0})
    assert not_worse(found) == {"good", "as good"}
    shuffled = dict(reversed(found.items()))
    assert not_worse(shuffled) == not_worse(found)


def test_marks_are_monotone_in_the_mean():
    """A noisy third that cannot be told from the first takes the second, which can, along."""
    first, generator = np.zeros(16), np.random.default_rng(0)
    noise = generator.normal(size=16)
    third = noise - noise.mean() - 0.2
    assert not_worse({"1": grid([first]), "2": grid([first - 0.1])}) == {"1"}
    found = {"1": grid([first]), "2": grid([first - 0.1]), "3": grid([third])}
    assert not_worse(found) == {"1", "2", "3"}


def test_marks_need_something_to_tell_apart():
    same = marked({"a": 0.0})["a"]
    assert not_worse({"a": same, "b": same}) == frozenset()
    assert not_worse({"a": same}) == frozenset()
    old = {name: values(runs([None], column=value)) for name, value in (("a", 1.0), ("b", 2.0))}
    assert not_worse(old) == frozenset()
    # what cannot be compared with the best is not told from it
    found = marked({"good": 1.0, "as good": 0.995, "bad": -2.0})
    mean = {name: own.mean() for name, own in found.items()}
    good, bad = sorted(mean[name] for name in ("good", "as good"))[0], mean["bad"]
    for level, also in ((good + 1e-6, {"elsewhere"}), ((good + bad) / 2, set())):
        alone = grid([[level] * 3]).rename(lambda name: f"other {name}", level="photograph")
        assert not_worse(found | {"elsewhere": alone}) == {"good", "as good"} | also


def test_marks_allow_for_the_number_of_comparisons():
    """Of four images, a gap of 3.6 standard errors: significant at 5 %, not at 5 %/3."""
    noise = np.array([1.0, -1.0, 1.0, -1.0])
    gap = 3.6 * stats.sem(noise)
    assert stats.t.ppf(0.975, 3) < 3.6 < stats.t.ppf(1 - 0.05 / 3 / 2, 3)
    best, near, far = grid([[0] * 4]), grid([noise - gap]), grid([noise - 100 * gap])
    assert not_worse({"best": best, "near": near}) == {"best"}
    assert not_worse({"best": best, "near": near, "far": far, "low": far}) == {"best", "near"}
    # a level of 80 % takes less
    assert not_worse({"best": best, "near": near, "far": far}, level=0.8) == {"best"}


def test_marks_of_equals_are_shared():
    equal, worse = grid([[1, 2, 4]]), grid([[0, 1, 3]])
    assert not_worse({"b": equal, "a": equal, "c": worse}) == {"a", "b"}
    assert not_worse({"b": equal, "none": pd.Series(dtype=float)}) == frozenset()
