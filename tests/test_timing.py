"""Timing against clocks that only the timed calls advance."""

from __future__ import annotations

import gc
import time
from math import exp, inf, isnan

import numpy as np
import pytest
import torch

from benchmark.measure import timing
from benchmark.measure.timing import Timing, interval_of_ratio, ratio, ratio_to_sum, seconds

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


class FakeClock:
    """Wall and processor clocks that only the timed calls advance."""

    def __init__(self, monkeypatch) -> None:
        self.wall = self.busy = 0.0
        monkeypatch.setattr(timing, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(timing, "process_time", lambda: self.busy)
        monkeypatch.setattr(timing, "threads", lambda: 1)
        for name in ("collect", "freeze", "unfreeze"):
            monkeypatch.setattr(gc, name, lambda: None)
        self.log: list[str] = []

    def call(self, name: str, *durations: float, load: float = 1.0):
        """A call that takes the next of ``durations`` (the last for ever), ``load`` of it busy."""
        remaining = list(durations)

        def run() -> None:
            self.log.append(name)
            wall = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            self.wall += wall
            self.busy += load * wall

        return run


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    return FakeClock(monkeypatch)


def test_a_warm_up_then_rounds_of_every_call_in_shuffled_order(clock):
    calls = {name: clock.call(name, 1.0) for name in "abcd"}
    seconds(calls, CPU, rounds=20)
    assert clock.log[:4] == list("abcd")
    rounds = [tuple(clock.log[i : i + 4]) for i in range(4, len(clock.log), 4)]
    assert len(rounds) == 20
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(set(rounds)) > 5
    first = clock.log.copy()
    clock.log.clear()
    seconds(calls, CPU, rounds=20)
    assert clock.log == first


def test_median_and_interquartile_range_without_the_warm_up(clock):
    timing = seconds({"a": clock.call("a", 99, 5, 1, 4, 2, 3)}, CPU, rounds=5)["a"]
    assert timing == Timing(3.0, 2.0, 5, False, (5.0, 1.0, 4.0, 2.0, 3.0))


def test_ratio_is_taken_within_each_round(clock):
    # a machine that slows down threefold leaves the ratio alone
    pair = {"a": clock.call("a", 2, 2, 4, 6), "b": clock.call("b", 1, 1, 2, 3)}
    timings = seconds(pair, CPU, rounds=3)
    assert ratio(timings["a"], timings["b"]) == 2.0
    assert timings["a"].seconds == 4.0
    with pytest.raises(ValueError, match="shorter"):
        ratio(timings["a"], Timing(1.0, 0.0, 1, None, (1.0,)))


def test_ratio_to_a_sum_is_taken_within_each_round():
    whole, one, other = (
        Timing(samples[0], 0.0, 3, False, samples)
        for samples in ((10.0, 20.0, 90.0), (1.0, 2.0, 3.0), (4.0, 8.0, 12.0))
    )
    assert ratio_to_sum(whole, (6, one), (1, other)) == 1.0
    assert ratio_to_sum(whole, (0, one), (5, other)) == 0.5


@pytest.mark.parametrize(("duration", "calls"), [(0.04, 2), (0.02, 3), (0.3, 1)])
def test_short_calls_are_timed_in_blocks(clock, duration, calls):
    """Warmed up twice; each block of several begins with one that is not timed."""
    timing = seconds({"a": clock.call("a", duration)}, CPU, rounds=2)["a"]
    assert timing.samples == pytest.approx((duration, duration))
    first, more = (2, 1) if calls > 1 else (2, 0)
    assert len(clock.log) == first + 2 * (more + calls)


def test_what_is_made_of_calls_takes_no_less_time_than_they_do(clock):
    """A clock on which a call takes twice as long after another than after itself.

    A hypergradient of a hundred layers, timed against single layers, had an overhead of 0.5.
    """
    last = []

    def layer() -> None:
        clock.wall += 1e-3 if last == ["layer"] else 2e-3
        last[:] = ["layer"]

    def gradient() -> None:
        for _ in range(100):
            layer()

    def other() -> None:
        clock.wall += 0.1
        last[:] = ["other"]

    timings = seconds({"gradient": gradient, "layer": layer, "other": other}, CPU)
    assert ratio_to_sum(timings["gradient"], (100, timings["layer"])) == pytest.approx(1, abs=0.02)


def test_blocks_are_as_long_as_the_budget_has_room_for(clock):
    seconds({"a": clock.call("a", 0.01)}, CPU, rounds=5, budget=0.1)
    assert len(clock.log) == 2 + 3 * (1 + 2)  # blocks of 0.02 s, until 0.1 s are spent
    clock.log.clear()
    seconds({"a": clock.call("a", 0.01)}, CPU, budget=0)
    assert clock.log == ["a", "a"]


def test_the_interval_of_a_ratio_covers_it():
    """Rounds that are off by a factor exp(N(0, 0.2)): the median ratio is 1.3."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(400):
        wholes = tuple(1.3 * np.exp(0.2 * random.normal(size=7)))
        whole, part = (Timing(1.0, 0.0, 7, False, s) for s in (wholes, (0.5,) * 7))
        low, high = interval_of_ratio(whole, (2, part))
        assert low <= ratio_to_sum(whole, (2, part)) <= high
        covered += low <= 1.3 <= high
    assert covered >= 0.93 * 400
    one = Timing(1.0, 0.0, 1, False, (1.0,))
    assert all(map(isnan, interval_of_ratio(one, (1, one))))
    two = Timing(1.0, 0.0, 2, False, (1.0, exp(0.1)))
    # Student's quantile of one degree of freedom is 12.7
    low, high = interval_of_ratio(two, (1, Timing(1.0, 0.0, 2, False, (1.0, 1.0))))
    assert high / low == pytest.approx(exp(2 * 12.706 * 0.0707107 * (1.5708 / 2) ** 0.5), rel=1e-3)


@pytest.mark.parametrize(
    "budget, expected", [(inf, 7), (100, 7), (9, 4), (8, 3), (0, 1)], ids=lambda v: str(v)
)
def test_no_round_begins_once_the_budget_is_spent(clock, budget, expected):
    # the warm-up and each round take 2 s
    calls = {"a": clock.call("a", 1.5), "b": clock.call("b", 0.5)}
    timings = seconds(calls, CPU, rounds=7, budget=budget)
    assert [t.rounds for t in timings.values()] == [expected, expected]
    assert isnan(timings["a"].spread) == (expected == 1)


def test_contention_is_told_by_the_processor_time(clock):
    calls = {"quiet": clock.call("quiet", 1, load=0.96), "busy": clock.call("busy", 1, load=0.9)}
    timings = seconds(calls, CPU)
    assert (timings["quiet"].contended, timings["busy"].contended) == (False, True)


def test_contention_is_unknown_with_several_threads(clock, monkeypatch):
    monkeypatch.setattr(timing, "threads", lambda: 2)
    assert seconds({"a": clock.call("a", 1, load=0.1)}, CPU)["a"].contended is None


def test_garbage_is_collected_before_the_clock_starts(clock, monkeypatch):
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, clock.call(name, 10.0))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 0)
    timing = seconds({"a": clock.call("a", 1.0)}, CPU, rounds=2)["a"]
    assert clock.log == ["collect", "freeze", "a", "collect", "a", "collect", "a", "unfreeze"]
    assert timing.samples == (1.0, 1.0)
    clock.log.clear()
    with pytest.raises(StopIteration):
        seconds({"fails after the warm-up": iter([0]).__next__}, CPU, budget=0)
    assert clock.log == ["collect", "freeze", "collect", "unfreeze"]


def test_what_the_program_has_frozen_stays_frozen(clock, monkeypatch):
    monkeypatch.setattr(gc, "unfreeze", clock.call("unfreeze", 1.0))
    for frozen, expected in ((0, ["a", "a", "unfreeze"]), (7, ["a", "a"])):
        monkeypatch.setattr(gc, "get_freeze_count", lambda frozen=frozen: frozen)
        clock.log.clear()
        seconds({"a": clock.call("a", 1.0)}, CPU, rounds=1)
        assert clock.log == expected


def test_cuda_is_synchronised_on_both_sides(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.call("sync", 0.5)())
    timing = seconds({"a": clock.call("a", 1.0)}, CUDA, rounds=1)["a"]
    assert clock.log == ["a", "sync", "sync", "a", "sync"]
    assert timing.samples == (1.5,)  # waiting for the work counts, for what came before does not
    assert timing.contended is None


def test_the_real_clock_ticks_in_seconds():
    timing = seconds({"a": lambda: time.sleep(0.02)}, CPU, rounds=2)["a"]
    assert 0.02 <= timing.seconds < 2


def test_rounds_must_be_positive_and_errors_pass():
    with pytest.raises(ValueError, match="rounds"):
        seconds({}, CPU, rounds=0)
    with pytest.raises(ZeroDivisionError):
        seconds({"a": lambda: 1 / 0}, CPU)
