"""Whether a long run, and a study of many, stay as they begin: memory, handles, time per step.

    python tools/long_runs.py --steps 2000 --runs 500

On a tiny problem, where what surrounds a step shows: one run of so many outer steps, kept on disk
as any run is, and so many runs of one step, each in a process of its own. What is told of the
last quarter is compared with the second. Exit code 0: memory rises by less than ``MIB``, there is
no handle and no thread more, and a step takes no more processor time than ``SLOWER`` times as much.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchopt.benchmark import Benchmark

from benchmark.imaging.images import simulated
from benchmark.measure.truth import Truth
from benchmark.plugins.task import make_task
from benchmark.running import ending
from benchmark.running.course import Course
from benchmark.running.kept import kept

ROOT = Path(__file__).resolve().parents[1]
MIB, SLOWER = 4.0, 1.5


@dataclass(frozen=True)
class Seen:
    """Of this process, after some step: resident MiB, open handles, threads; and what ``call`` that
    came before has cost it, in seconds of processor.
    """

    resident: float
    handles: int
    threads: int
    seconds: float


def seen(seconds: float) -> Seen:
    """What there is now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Seen(resident, len(os.listdir("/proc/self/fd")), threading.active_count(), seconds)


def columns(theta, outer_step, training, **_) -> dict[str, object]:
    """A row that costs little: what surrounds it is looked at."""
    learned = {name: value.numpy() for name, value in theta.items()}
    return learned | {"outer_step": outer_step, "status": training.status}


columns.failed = lambda outcome, step: {
    "outer_step": step,
    "status": outcome.status,
    "message": outcome.message,
}


def made(name: str, **parameters: object):
    """A method on the tiny task, and that task."""
    images = {part: simulated(number=2, size=8, seed=k) for k, part in enumerate(("train", "test"))}
    lower = "wavelet_l1(wavelet='haar',levels=1,ridge=0.5)"
    common = {"degradation": "denoising(sigma=0.1)", "lower": lower, "probe_size": 1, "seed": 0}
    task = make_task(**images, **common)
    solvers = {cls.name: cls for cls in Benchmark(ROOT, no_cache=True).get_solvers()}
    return solvers[name].get_instance(**parameters), task


def one_long_run(steps: int, folder: Path) -> Iterator[Seen]:
    """After each of its steps."""
    solver, task = made("JFB", steps=steps, evaluate_every=10, batch_size=1)
    solver.set_objective(task, columns)
    start = time.process_time()
    for _ in kept(solver, folder / "long.safetensors"):
        yield seen(time.process_time() - start)
        start = time.process_time()


def many_runs(number: int, folder: Path) -> Iterator[Seen]:
    """After each of them."""
    solver, task = made("JFB", steps=1)
    truth = Truth(task)
    for run in range(number):
        start = time.process_time()
        solver.set_objective(task, columns, Course(folder, str(run), truth))
        solver.run(lambda: True)
        if solver.row["status"] != "ok":
            raise SystemExit(f"run {run}: {solver.row['status']}: {solver.row.get('message')}")
        yield seen(time.process_time() - start)
    ending.release()


def told(what: str, all_of_it: Sequence[Seen]) -> bool:
    """Print how it went, quarter by quarter; whether the last is like the second."""
    size = len(all_of_it) // 4
    quarters = [all_of_it[k * size : (k + 1) * size] for k in range(4)]
    print(f"{len(all_of_it)} {what}:")
    for quarter in quarters:
        ms = 1000 * median(one.seconds for one in quarter)
        end = quarter[-1]
        there = f"{end.handles:4} handles  {end.threads:3} threads"
        print(f"  {end.resident:8.1f} MiB  {there}  {ms:6.2f} ms")
    second, last = quarters[1], quarters[3]
    slower = median(one.seconds for one in last) / median(one.seconds for one in second)
    more = last[-1].resident - second[-1].resident
    handles = last[-1].handles - second[-1].handles + last[-1].threads - second[-1].threads
    print(f"  last to second: {more:+.1f} MiB, {handles:+} handles and threads, × {slower:.2f}")
    return more < MIB and handles <= 0 and slower < SLOWER


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=500)
    options = parser.parse_args(arguments)
    parts: dict[str, Callable[[Path], Iterator[Seen]]] = {
        "outer steps": lambda folder: one_long_run(options.steps, folder),
        "runs": lambda folder: many_runs(options.runs, folder),
    }
    flat = []
    for what, part in parts.items():
        with tempfile.TemporaryDirectory() as name:
            flat.append(told(what, list(part(Path(name)))))
            left = sorted(path.name for path in Path(name).iterdir())
            size = sum(path.stat().st_size for path in Path(name).iterdir())
            print(f"  on disk: {len(left)} files, {size / 1024:.0f} KiB", flush=True)
    return 0 if all(flat) else 1


if __name__ == "__main__":
    sys.exit(main())
