"""Timing against clocks that only the timed calls advance."""

from __future__ import annotations

import gc
import time
from math import inf, isnan

import pytest
import torch

from benchmark.measure import timing
from benchmark.measure.timing import Timing, ratio, ratio_to_sum, seconds

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
pytestmark = pytest.mark.usefixtures("quick_collections")


class FakeClock:
    """Wall and processor clocks that only the timed calls advance."""

    def __init__(self, monkeypatch) -> None:
        self.wall = self.busy = 0.0
        monkeypatch.setattr(timing, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(timing, "process_time", lambda: self.busy)
        monkeypatch.setattr(timing, "threads", lambda: 1)
        for name in ("collect", "freeze", "unfreeze"):
            monkeypatch.setattr(timing.gc, name, lambda: None)
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
    timing = seconds({"a": clock.call("a", 1.0)}, CPU, rounds=2)["a"]
    assert clock.log == ["a", "freeze", "collect", "a", "collect", "a", "unfreeze"]
    assert timing.samples == (1.0, 1.0)
    clock.log.clear()
    with pytest.raises(StopIteration):
        seconds({"fails after the warm-up": iter([0]).__next__}, CPU)
    assert clock.log == ["freeze", "collect", "unfreeze"]


def test_cuda_is_synchronised_on_both_sides(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: clock.call("sync", 0.5)())
    timing = seconds({"a": clock.call("a", 1.0)}, CUDA, rounds=1)["a"]
    assert clock.log == ["a", "sync", "a", "sync"]
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
