"""Work on several processors at once, in forks of this process, which have all that it has."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from benchmark.report.reading import ReportError

T = TypeVar("T")

#: what the forks are to do: they inherit it, so that no frame is sent to them
_JOBS: list[Callable[[], object]] = []


def abreast(jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
    """What each of some jobs returns, in their order; the first that raises ends them.

    One after the other, in this process, where there is one job or one processor, off Linux (system
    libraries of others may not be forked), or where ``BENCHMARK_PROCESSES`` is 0. What a job
    changes in a fork is lost, and what it prints comes in between: it is to return all of it. A
    ReportError where a fork is killed from without.
    """
    alone = sys.platform != "linux" or os.environ.get("BENCHMARK_PROCESSES") == "0"
    forks = 1 if alone else min(len(jobs), len(os.sched_getaffinity(0)))
    if forks < 2:
        yield from (job() for job in jobs)
        return
    _JOBS[:] = jobs
    try:
        with ProcessPoolExecutor(forks, multiprocessing.get_context("fork")) as pool:
            yield from pool.map(_done, range(len(jobs)))
    except BrokenProcessPool as error:
        told = "a process of the report was killed, by the system if memory ran out"
        raise ReportError(f"{told}; BENCHMARK_PROCESSES=0 does with one") from error
    finally:
        _JOBS.clear()


def _done(number: int) -> object:
    return _JOBS[number]()
