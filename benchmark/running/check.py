"""python -m benchmark check CONFIG: what ``run`` would do, before it does it.

Lists each run with what it would take and what is cached; what is skipped, and why; which libraries
are missing; the time, the memory and the disk that the study needs. Times come from a short probe
in this process: two outer steps on the images of the probe, the second in proportion to those of a
step, and two rows of a run. Exit code 0: it can be run; 2: it cannot.
"""

from __future__ import annotations

import copy
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import fmean

import torch

from benchmark.measure.failure import attempt
from benchmark.measure.timing import elapsed
from benchmark.running.faults import one_line
from benchmark.running.labels import labels
from benchmark.running.options import parser
from benchmark.running.outcome import Run, passing
from benchmark.running.run import planned
from benchmark.running.study import Cache, run_arguments
from benchmark.running.tasks import memory_of_machine
from benchmark.running.terminal import Terminal, say
from benchmark.running.validation import Plan, solver_rows

#: seconds of probing, beyond which runs are taken to be like those of their method
BUDGET = 60.0


@dataclass
class Line:
    """A run: ``state`` is "run", "again" (it failed before), "cached", "skip" or "fails"; seconds
    is NaN where nothing is known.
    """

    run: Run
    method: str
    state: str
    seconds: float = nan
    reason: str = ""


@dataclass
class Probe:
    """Short runs of methods on their tasks, until ``budget`` seconds are spent."""

    budget: float = BUDGET
    spent: float = 0.0
    #: seconds that it takes to find what is true of a θ, by task
    truths: dict[tuple[str, str], float] = field(default_factory=dict)
    #: the task that was made last, and the seconds that it took: each run makes its own
    made: tuple[tuple[str, str], object, float] | None = None

    def seconds(self, kwargs: dict) -> tuple[float, str]:
        """What a run would take, and why it would not run, or ""; NaN where there is no time."""
        solver = kwargs["solver"]
        objective, making = self._objective(kwargs)
        skip, reason = solver._set_objective(objective)
        if skip:
            return nan, one_line(reason or "without a reason")
        if self.spent > self.budget:
            return nan, ""
        outcome = attempt(lambda: self._measured(solver, objective, kwargs["meta"]))
        if not outcome.ok:
            return nan, f"it fails: {one_line(outcome.message)}"
        step, row, last = outcome.value
        number = solver_rows(solver, kwargs["max_runs"])
        return making + (solver.steps + 1) * step + (number - 1) * row + last, ""

    def _objective(self, kwargs: dict) -> tuple[object, float]:
        """The objective with its task, and the seconds that it took to make it."""
        meta, objective, dataset = kwargs["meta"], kwargs["objective"], kwargs["dataset"]
        if self.made is None:
            self._warm_up(kwargs)
        task = (meta["dataset_name"], meta["objective_name"])
        if self.made is None or self.made[0] != task:
            kwargs["run_context"].attach(objective, dataset, kwargs["solver"])
            seconds = elapsed(lambda: objective._set_dataset(dataset), torch.device("cpu"))
            self.made = (task, objective, seconds)
        return self.made[1:]

    def _warm_up(self, kwargs: dict) -> None:
        """One row that is not counted: what libraries load as they are used is no run's."""
        solver, objective = kwargs["solver"], copy.copy(kwargs["objective"])
        kwargs["run_context"].attach(objective, kwargs["dataset"], solver)
        skip, _ = objective._set_dataset(kwargs["dataset"])
        if not skip and not solver._set_objective(objective)[0]:
            attempt(lambda: self._measured(solver, objective, kwargs["meta"]))
        self.truths, self.spent = {}, 0.0

    def _measured(self, solver, objective, meta: dict) -> tuple[float, float, float]:
        """Seconds of an outer step, of a row and of the last row."""
        device = solver.task.device
        warm = elapsed(solver.rehearse, device)
        rehearsed = elapsed(solver.rehearse, device)
        images = next(solver.task.minibatches(solver.batch_size))
        solver.set_objective(solver.task)  # to be run here, row by row
        solver.run(lambda: False)
        result = solver.get_result()

        def row(last: bool) -> float:
            return elapsed(lambda: objective.rows(**result | {"last": last}), device)

        own, task = row(False), (meta["dataset_name"], meta["objective_name"])
        self.spent += warm + rehearsed + own
        if task not in self.truths:  # what is true of a θ is found once, for all methods
            first, own = own, row(False)
            self.truths[task] = max(0.0, first - own)
        last = row(True)
        self.spent += last
        step = rehearsed * max(1.0, len(images) / len(solver.task.probe))
        return step, self.truths[task] + own, self.truths[task] + last


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    made = parser("python -m benchmark check", __doc__ or "")
    made.add_argument("--seconds", dest="probe", type=float, default=BUDGET, help="of the probe")
    options = made.parse_args(arguments)
    budget = vars(options).pop("probe")
    plan = planned(options, arguments)
    if plan is None:
        return 2
    lines = looked_at(plan, Probe(budget))
    label = labels(plan)
    for line in lines:
        say(_shown(line, label))
    for line in (_totals(lines), _memory(plan), _disk(plan)):
        say(line)
    return 0


def looked_at(plan: Plan, probe: Probe) -> list[Line]:
    """A line for each run of ``plan``; those that were not probed take the mean of their method,
    or of all. Cost: each task in full, and ``probe``.
    """
    lines: list[Line] = []

    def skipped(run: Run) -> None:
        lines.append(Line(run, run.solver, "skip", reason=run.reason))

    cache = Cache(plan.benchmark)
    for kwargs in run_arguments(plan, Terminal(rich=False, on_skip=skipped)):
        lines.append(_line(kwargs, cache, probe))
    for line in lines:
        if line.state in ("run", "again") and isnan(line.seconds):
            line.seconds = _mean(lines, line.method)
    return lines


def _line(kwargs: dict, cache: Cache, probe: Probe) -> Line:
    meta, method = kwargs["meta"], kwargs["solver"].name
    names = (meta["dataset_name"], meta["objective_name"], meta["solver_name"])
    run = Run(*names, status="not run yet")
    state = "run"
    if not kwargs["force"] and cache.holds(kwargs):
        if not passing(*cache.held(kwargs)):
            return Line(run, method, "cached")
        state = "again"
    seconds, reason = probe.seconds(kwargs)
    if reason:
        return Line(run, method, "fails" if reason.startswith("it fails") else "skip", nan, reason)
    return Line(run, method, state, seconds)


def _mean(lines: Sequence[Line], method: str) -> float:
    known = [line for line in lines if not isnan(line.seconds)]
    like = [line.seconds for line in known if line.method == method]
    return fmean(like or [line.seconds for line in known] or [nan])


def _shown(line: Line, label: Callable[[Run], str]) -> str:
    time = _time(line.seconds) if line.state in ("run", "again") else ""
    why = f": {line.reason}" if line.reason else ""
    return f"{line.state:7}{time:>10}  {label(line.run)}{why}"


def _totals(lines: Sequence[Line]) -> str:
    todo = [line for line in lines if line.state in ("run", "again")]
    parts = [f"{len(todo)} to run"]
    if todo:
        parts[0] += f", about {_time(sum(line.seconds for line in todo))} in one process"
    words = {"again": "again, for they failed or were cut", "cached": "cached", "skip": "skipped"}
    for state, text in (words | {"fails": "failing in the probe"}).items():
        number = sum(line.state == state for line in lines)
        if number:
            parts.append(f"{number} {text}")
    return "; ".join(parts)


def _memory(plan: Plan) -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    jobs = max(1, plan.settings.n_jobs or 1)
    return (
        f"memory: about {jobs * peak / 2**30:.1f} GiB in {jobs} process{'es' * (jobs > 1)}; "
        f"this machine has {memory_of_machine() / 2**30:.1f} GiB"
    )


def _disk(plan: Plan) -> str:
    free = shutil.disk_usage(plan.path.parent).free
    return (
        f"disk: about {2 * plan.bytes / 2**20:.1f} MiB for {plan.path} and the cache; "
        f"{free / 2**30:.1f} GiB are free"
    )


def _time(seconds: float) -> str:
    if isnan(seconds):
        return "? s"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
