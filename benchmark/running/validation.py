"""A study is looked at as a whole before its first run: nothing starts that cannot end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchopt.benchmark import Benchmark

from benchmark.running.engine import faults_of_engine
from benchmark.running.faults import InvalidStudyError, said
from benchmark.running.options import Settings
from benchmark.running.places import faults_of_folder, rows_path
from benchmark.running.selection import Selection, not_listed, select
from benchmark.running.tasks import faults_of_tasks

#: runs of one study: more are a slip
MOST_RUNS = 100_000


@dataclass(frozen=True)
class Plan:
    """A study without faults: what it asks for, and where its rows go."""

    settings: Settings
    benchmark: Benchmark
    datasets: Selection
    objectives: Selection
    solvers: Selection
    path: Path

    @property
    def notes(self) -> list[str]:
        """A line for each thing that is left out."""
        parts = (self.datasets, self.objectives, self.solvers)
        absent = [
            f"{name} needs {library}, which is not installed: left out"
            for part in parts
            for name, library in part.missing.items()
        ]
        return [note for part in parts for note in part.notes] + absent

    @property
    def runs(self) -> int:
        """Runs of installed plugins, cached ones among them."""
        parts = (self.datasets, self.objectives, self.solvers)
        number = self.settings.n_repetitions or 1
        for part in parts:
            number *= len(part.instances)
        return number

    @property
    def bytes(self) -> int:
        """About what the rows take on the disk: numbers, and three pictures for each run."""
        return sum(
            (solver_rows(solver, self.settings.max_runs) * 4096 + 9 * _side(dataset) ** 2)
            * len(self.objectives.instances)
            * (self.settings.n_repetitions or 1)
            for solver in self.solvers.instances
            for dataset in self.datasets.instances
        )


def validated(settings: Settings) -> Plan:
    """The plan of a study; raises InvalidStudyError with a line for each of its faults."""
    benchmark = _benchmark(settings)
    datasets = select(benchmark, "Dataset", settings.dataset)
    objectives = select(benchmark, "Objective", settings.objective)
    forced = not_listed(settings.force_solver, settings.solver)
    solvers = select(benchmark, "Solver", settings.solver + forced)
    faults = [*objectives.faults, *datasets.faults, *solvers.faults]
    try:
        path = rows_path(settings)
    except ValueError as error:
        raise InvalidStudyError([*faults, str(error)]) from error
    plan = Plan(settings, benchmark, datasets, objectives, solvers, path)
    if not faults:
        faults += _faults_of_numbers(plan)
    if not datasets.faults + objectives.faults:
        tasks = (datasets.instances, objectives.instances)
        faults += faults_of_tasks(*tasks, seed=benchmark.seed)
    faults += _faults_of_places(plan)
    faults += faults_of_engine(settings)
    if faults:
        raise InvalidStudyError(faults)
    return plan


def solver_rows(solver: object, max_runs: int) -> int:
    """The rows of a run of ``solver``: one at the start, then one each ``evaluate_every`` steps."""
    steps, every = getattr(solver, "steps", 0), getattr(solver, "evaluate_every", 1)
    return min(-(-steps // every), max_runs) + 1


def _benchmark(settings: Settings) -> Benchmark:
    try:
        benchmark = Benchmark(settings.benchmark, no_cache=settings.no_cache, seed=settings.seed)
        benchmark.get_benchmark_objective().is_installed(raise_on_not_installed=True)
    except (Exception, SystemExit) as error:
        raise InvalidStudyError(
            [f"{settings.benchmark / 'objective.py'}: {said(error)}"]
        ) from error
    return benchmark


def _faults_of_numbers(plan: Plan) -> Iterator[str]:
    if plan.runs > MOST_RUNS:
        yield f"{plan.runs} runs are asked for: expected at most {MOST_RUNS}"
    parts = {"dataset": plan.datasets, "solver": plan.solvers}
    for kind, part in parts.items():
        if not part.instances:
            libraries = ", ".join(sorted(set(part.missing.values()))) or "nothing"
            yield f"no {kind} is left to run: not installed: {libraries}"


def _faults_of_places(plan: Plan) -> Iterator[str]:
    if plan.path.is_dir():
        yield f"the rows cannot be written to {plan.path}: it is a folder"
        return
    yield from faults_of_folder(plan.path.parent, "the rows", needed=plan.bytes)
    cache = plan.benchmark.get_cache_location()
    if cache is not None:
        yield from faults_of_folder(Path(cache), "cached rows", needed=plan.bytes)


def _side(dataset: object) -> int:
    size = getattr(dataset, "size", 0)
    return size if isinstance(size, int) else 0
