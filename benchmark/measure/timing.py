"""Seconds of calls that are timed against each other. Wall-clock, unless it says otherwise."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, exp, inf, log, nan, sqrt
from statistics import median, quantiles, stdev
from time import perf_counter, process_time
from typing import TypeVar

import torch
from scipy.stats import t as student

from benchmark.measure import garbage
from benchmark.measure.device import synchronize, threads

Name = TypeVar("Name", bound=Hashable)

#: seconds that a block of calls takes at least, and calls in it at most: a single call pays for
#: what others have done to the caches, which a call among its like does not
BLOCK, MOST_CALLS = 0.05, 1000


class Stopwatch:
    """Seconds of the clock spent inside ``running()``, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds += perf_counter() - start


class Pace:
    """How long what is under way will last, by what it took so far. Wall-clock, for displays."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def left(self, share: float) -> float:
        """Seconds until all of it is done, with ``share`` in [0, 1] done now; infinite where that
        cannot be told: the first time, and as long as no more is done than then.
        """
        now = perf_counter()
        self._first = self._first or (share, now)
        before, then = self._first
        return (now - then) * (1 - share) / (share - before) if share > before else inf


def set_clock(callback: object, seconds: float) -> None:
    """Make ``seconds`` the time that benchopt's ``callback`` has counted so far.

    The time of a run that is computed elsewhere, or resumed, is not what passes here. The two
    attributes are not documented (benchopt 1.10); other callables are left alone.
    """
    if hasattr(callback, "time_iter"):
        callback.time_iter, callback.time_callback = seconds, perf_counter()


@dataclass(frozen=True)
class Timing:
    """What one call took, in seconds.

    seconds : the median of ``samples``; spread : their interquartile range, NaN for a single one;
    rounds : how many; contended : whether the processor was taken away for more than 5 % of the
    time, None where that cannot be told (several threads, or CUDA); samples : one for each round,
    the mean over a block of calls.
    """

    seconds: float
    spread: float
    rounds: int
    contended: bool | None
    samples: tuple[float, ...]


def seconds(
    calls: Mapping[Name, Callable[[], object]],
    device: torch.device,
    rounds: int = 7,
    budget: float = inf,
) -> dict[Name, Timing]:
    """Times the calls against each other: in each round a block of every call, in shuffled order.

    A drift of the machine's speed then meets all calls alike, and ``ratio`` cancels it. A block is
    one call that takes ``BLOCK`` seconds, or as many as do, after one that is not timed; it begins
    after a garbage collection, between two synchronisations. Without that, short calls read up to
    twice as slow beside long ones that are made of them. Each call is warmed up, a short one twice.
    No round begins once ``budget`` seconds of wall time are spent, warm-up included, but one always
    runs, and blocks are no longer than the budget has room for. Cost: (rounds + 1) times all
    blocks. An exception of a call passes.

    Raises ValueError for ``rounds`` below 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    start = perf_counter()
    shuffled = random.Random(0).sample
    samples: dict[Name, list[tuple[float, float]]] = {name: [] for name in calls}
    block = min(BLOCK, budget / max(1, rounds * len(calls)))
    with garbage.only_of_what_is_new():
        times = {name: _calls_in(block, call, device) for name, call in calls.items()}
        for done in range(rounds):
            if done and perf_counter() - start >= budget:
                break
            for name in shuffled(list(calls), len(calls)):
                samples[name].append(_stopwatch(calls[name], device, times[name]))
    measurable = device.type != "cuda" and threads() == 1
    return {name: _timing(pairs, measurable) for name, pairs in samples.items()}


def elapsed(call: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call as it is, not warmed up: for estimates, not for results."""
    wall, _ = _stopwatch(call, device)
    return wall


def ratio(a: Timing, b: Timing) -> float:
    """The median of the per-round ratios a/b of two timings from the same ``seconds``.

    Raises ValueError where the numbers of rounds differ.
    """
    return ratio_to_sum(a, (1, b))


def ratio_to_sum(a: Timing, *parts: tuple[float, Timing]) -> float:
    """The median of the per-round ratios of a to Σ n·b, over the pairs (n, b) of ``parts``.

    Raises ValueError where the numbers of rounds differ.
    """
    return median(_ratios(a, parts))


def interval_of_ratio(
    a: Timing, *parts: tuple[float, Timing], level: float = 0.95
) -> tuple[float, float]:
    """The ends of an interval around ``ratio_to_sum``, Student's of the logarithms of the rounds.

    A median of n values of standard deviation s has about √(π/2) s/√n. NaN for a single round.
    """
    logs = [log(r) for r in _ratios(a, parts)]
    if len(logs) < 2:
        return nan, nan
    half = sqrt(1.5708 / len(logs)) * stdev(logs) * student.ppf((1 + level) / 2, len(logs) - 1)
    return exp(median(logs) - half), exp(median(logs) + half)


def _ratios(a: Timing, parts: Sequence[tuple[float, Timing]]) -> list[float]:
    """a over Σ n·b, round by round."""
    rounds = zip(a.samples, *(part.samples for _, part in parts), strict=True)
    times = [n for n, _ in parts]
    return [
        whole / sum(n * piece for n, piece in zip(times, pieces, strict=True))
        for whole, *pieces in rounds
    ]


def _calls_in(block: float, call: Callable[[], object], device: torch.device) -> int:
    """How many calls take ``block`` seconds; runs it once, twice where the first one was short."""
    start = perf_counter()
    call()
    synchronize(device)
    one = perf_counter() - start
    if one < 10 * block:
        one, _ = _stopwatch(call, device)
    return MOST_CALLS if one <= 0 else max(1, min(MOST_CALLS, ceil(block / one)))


def _stopwatch(
    call: Callable[[], object], device: torch.device, times: int = 1
) -> tuple[float, float]:
    """(wall, processor) seconds of a call, one of ``times`` after one that is not timed."""
    gc.collect()
    if times > 1:
        call()
    synchronize(device)
    busy, wall = process_time(), perf_counter()
    for _ in range(times):
        call()
    synchronize(device)
    wall, busy = perf_counter() - wall, process_time() - busy
    return wall / times, busy / times


def _timing(pairs: Sequence[tuple[float, float]], measurable: bool) -> Timing:
    walls, busy = zip(*pairs, strict=True)
    low, _, high = quantiles(walls, n=4, method="inclusive") if len(walls) > 1 else (nan,) * 3
    return Timing(
        seconds=median(walls),
        spread=high - low,
        rounds=len(walls),
        contended=sum(walls) > 1.05 * sum(busy) if measurable else None,
        samples=walls,
    )
