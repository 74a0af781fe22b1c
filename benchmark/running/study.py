"""The runs of a study, by benchopt's own loop, one after another as they end.

What ``benchopt run`` does from here on, with its functions and its cache: rows and cached entries
are the same through both doors. Beyond it, each run says how it ended, a failure does not stay in
the cache, and rows are kept when the study is interrupted.
"""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchopt._generate_runs import generate_run_kwargs
from benchopt.benchmark import Benchmark
from benchopt.parallel_backends import parallel_run
from benchopt.runner import FailedRun, run_one_to_cvg
from benchopt.utils.run_context import RunContext

from benchmark.running import ending
from benchmark.running.child import interrupt_all
from benchmark.running.engine import engine
from benchmark.running.faults import said
from benchmark.running.outcome import Row, Run, ended, passing
from benchmark.running.record import Record
from benchmark.running.terminal import Terminal
from benchmark.running.under_way import left
from benchmark.running.validation import Plan

#: what benchopt leaves out of the key of its cache
IGNORED = ["force", "terminal", "run_context"]


@dataclass
class Study:
    """What has been done of a plan.

    runs : those that have ended, skipped ones among them; rows : theirs; interrupted : whether the
    study was ended from outside; broken : the exception that ended it, in words, or "".
    """

    plan: Plan
    runs: list[Run] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False
    broken: str = ""

    @property
    def left(self) -> int:
        """Runs of which nothing is known."""
        done = [run for run in self.runs if run.status != "not installed"]
        return max(0, self.plan.runs - len(done))


class Cache:
    """benchopt's cache of whole runs, entry by entry; none of it where it is switched off."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.known = None
        if not benchmark.no_cache:
            self.known = benchmark.mem.cache(run_one_to_cvg, ignore=IGNORED)
        self.ids: dict[tuple, tuple] = {}

    def holds(self, kwargs: dict) -> bool:
        """Whether the rows of that run are there."""
        return self.known is not None and self.known.check_call_in_cache(**kwargs)

    def held(self, kwargs: dict) -> tuple[list[Row], str]:
        """The rows that are there, and benchopt's status of their run."""
        rows, _, status, _ = self.known(**kwargs)
        return rows, status

    def note(self, kwargs: dict) -> None:
        """Remember which entry a run is, and drop it where it holds what may pass."""
        meta = kwargs["meta"]
        run = (*_names(meta), meta["idx_rep"])
        if self.known is None:
            self.ids[run] = None
            return
        entry = (self.known.func_id, self.known._get_args_id(**kwargs))
        self.ids[run] = entry
        if not kwargs["force"] and self.holds(kwargs) and passing(*self.held(kwargs)):
            self.known.store_backend.clear_item(entry)

    def unseen(self, seen: set[tuple]) -> Iterator[tuple]:
        """(rows, names, status, reason) of the noted runs that are there and not among ``seen``,
        names and repetitions: those that other processes finished.
        """
        for run, entry in self.ids.items():
            if run not in seen and self.contains(run):
                yield self.known.store_backend.load_item(entry, verbose=0)

    def contains(self, run: tuple) -> bool:
        """Whether the rows of a noted run are there."""
        entry = self.ids.get(run)
        return entry is not None and self.known.store_backend.contains_item(entry)

    def lacks(self, run: tuple) -> bool:
        """Whether a noted run is to be there, and is not."""
        return self.ids.get(run) is not None and not self.contains(run)

    def drop(self, run: tuple) -> None:
        """Forget a noted run, so that it is tried again."""
        entry = self.ids.get(run)
        if entry is not None:
            with suppress(OSError, KeyError):
                self.known.store_backend.clear_item(entry)


@dataclass(eq=False)  # joblib's dask puts it into a set
class _OneRun:
    """A run as benchopt makes it, through its cache; an exception in it is a status.

    What is kept of it stays where the cache, which is to hold its rows (``held``), does not.
    queued_again : of a job of submitit's that was asked to end, whether it is; None: it was not.
    """

    cached: Callable
    held: bool
    queued_again: bool | None = None

    def __call__(self, **kwargs):
        try:
            found = self.cached(**kwargs)
        except FailedRun as error:
            if self.queued_again:
                sys.exit("the run goes on when the job has its turn again")
            status = error.status if self.queued_again is None else "interrupted"
            return [], _names(kwargs["meta"]), status, ""
        if self.held:
            there = self.cached.check_call_in_cache(**kwargs)
            ending.release() if there else ending.spare()
        return found

    def check_call_in_cache(self, **kwargs) -> bool:
        return self.cached.check_call_in_cache(**kwargs)

    def checkpoint(self, **_: object) -> object:
        """submitit's hook in a job whose time is nearly up, or that makes room for another: the run
        is kept. What is returned is queued again, as it was when it was submitted; None: nothing,
        for this has been done as often as submitit may.
        """
        from submitit import JobEnvironment
        from submitit.core.utils import DelayedSubmission

        interrupt_all()
        submitted = DelayedSubmission.load(JobEnvironment().paths.submitted_pickle)
        self.queued_again = submitted._timeout_countdown > 0
        return submitted if self.queued_again else None


def execute(plan: Plan, *, rich: bool, report: Callable[[Run, Study], None]) -> Study:
    """Run ``plan``; ``report`` is told of each run as it ends.

    KeyboardInterrupt ends the study, and so does an exception outside of a run (a worker that was
    killed, a dataset that cannot be had, a full disk): what was finished is in it, and what was
    begun. Cost: that of the runs that are not cached.
    """
    study, cache = Study(plan), Cache(plan.benchmark)
    record = Record(plan.path, each=plan.settings.no_cache)

    def known(run: Run) -> None:
        study.runs.append(run)
        report(run, study)

    terminal, seen = Terminal(rich=rich, on_skip=known), set()
    try:
        record.begin()
        for rows, names, status, reason, cached in _results(plan, terminal, cache):
            terminal.set(dataset=names[0], objective=names[1], solver=names[2])
            terminal.show_status(status, reason=reason, cached=cached)
            run = (*names, rows[0]["idx_rep"] if rows else 0)
            seen.add(run)
            study.rows.extend(rows)
            known(ended(names, rows, status, reason, cached))
            lost = bool(rows) and cache.lacks(run)
            record.write(study.rows, now=lost)
            if lost:
                raise OSError("the rows of a run cannot be put into the cache: is its disk full?")
            if passing(rows, status):
                cache.drop(run)
    except KeyboardInterrupt:
        study.interrupted = True
    except (Exception, SystemExit) as error:
        if not isinstance(error, OSError):
            traceback.print_exc()
        study.broken = said(error)
    if study.interrupted or study.broken:
        for rows, names, status, reason in _not_seen(plan, cache, seen):
            study.rows.extend(rows)
            known(ended(names, rows, status, reason, cached=status != "interrupted"))
    return study


def _not_seen(plan: Plan, cache: Cache, seen: set[tuple]) -> Iterator[tuple]:
    """(rows, names, status, reason) of the runs of ``plan`` that ended elsewhere, or only began."""
    for found in cache.unseen(seen):
        seen.add(_run(found[0][0]))
        yield found
    for frame in left(plan.path):
        rows = frame.to_dict("records")
        if (run := _run(rows[0])) in cache.ids and run not in seen:
            rows[-1]["objective_ended"] = "interrupted"
            yield rows, run[:3], "interrupted", "the same command goes on with it"


def _results(plan: Plan, terminal: Terminal, cache: Cache) -> Iterator[tuple]:
    """(rows, names, status, reason, cached) of each run as it ends, in whatever order."""
    settings, benchmark = plan.settings, plan.benchmark
    cached = benchmark.cache(run_one_to_cvg, ignore=IGNORED)
    once = _OneRun(cached, held=not benchmark.no_cache)

    def noted() -> Iterator[dict]:
        for kwargs in run_arguments(plan, terminal):
            cache.note(kwargs)
            yield kwargs

    with _jobs_in(_artefacts(plan.path) / "jobs"):
        yield from parallel_run(
            benchmark, once, noted(), engine(settings), collect=settings.collect
        )


@contextmanager
def _jobs_in(folder: Path) -> Iterator[None]:
    """What submitit's jobs are given and say is in ``folder``, not beside the plugins, while the
    study lasts; it stays there where one of them fails as a job.
    """
    beside = Benchmark.get_slurm_folder
    Benchmark.get_slurm_folder = lambda self: folder
    try:
        yield
    finally:
        Benchmark.get_slurm_folder = beside
    shutil.rmtree(folder, ignore_errors=True)


def run_arguments(plan: Plan, terminal: Terminal) -> Iterator[dict]:
    """The arguments of each run, as benchopt makes them; each task is made on the way."""
    settings = plan.settings
    terminal.n_repetitions = settings.n_repetitions or 1
    context = RunContext(pdb=settings.pdb, run_output_base=_artefacts(plan.path))
    return generate_run_kwargs(
        plan.benchmark,
        solvers=plan.solvers.chosen,
        forced_solvers=settings.force_solver,
        datasets=plan.datasets.chosen,
        objectives=plan.objectives.chosen,
        n_repetitions=settings.n_repetitions,
        max_runs=settings.max_runs,
        timeout=settings.timeout,
        collect=settings.collect,
        terminal=terminal,
        run_context=context,
    )


def _artefacts(path: Path) -> Path:
    return path.parent / path.stem


def _run(row: Row) -> tuple:
    """Which run a row is of."""
    return (*_names(row), row["idx_rep"])


def _names(meta: dict) -> tuple[str, str, str]:
    return meta["dataset_name"], meta["objective_name"], meta["solver_name"]
