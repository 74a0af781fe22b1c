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
