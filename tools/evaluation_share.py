"""What share of a study is evaluation, family by family of layers, and of what it is made.

    python tools/evaluation_share.py configs/quick.yml configs/cpu/drunet.yml --degradations 1

Each method of each configuration on each of its tasks, in this process, one after another, without
a cache: processor seconds of the outer loop and of each part of the evaluation, those of a part
without those of others that it calls. What lies between them (digests, what is put back) is
"around".
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from unittest.mock import patch

from benchopt import BaseObjective
from benchopt.utils.run_context import RunContext

from benchmark.imaging.seeded import seeded
from benchmark.measure import common, evaluation
from benchmark.measure.truth import Truth
from benchmark.plugins.dataset import ImageDataset
from benchmark.plugins.outer_loop import OuterLoop
from benchmark.running.options import parser, settings
from benchmark.running.validation import Plan, validated

#: what is timed: a place, a name there, and what it is called
PARTS = (
    (OuterLoop, "_timed_step", "training"),
    (Truth, "_judge", "accuracy"),
    (Truth, "reference", "reference"),
    (Truth, "reached", "θ of exact gradients"),
    (Truth, "norm", "norm of J"),
    (evaluation, "deployed", "deployed"),
    (evaluation, "estimate", "estimate"),
    (common, "estimate", "estimate"),
    (evaluation, "cost", "cost"),
    (common, "_measured", "cost at a common θ"),
)


class Shares:
    """Processor seconds by what they were spent on; those within a part are not in what surrounds
    it.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._within = [0.0]

    def timed(self, part: str, call: Callable) -> Callable:
        """``call``, its seconds added to those of ``part``."""

        def timed_call(*arguments, **options):
            self._within.append(0.0)
            start = process_time()
            try:
                return call(*arguments, **options)
            finally:
                took = process_time() - start
                self.seconds[part] += took - self._within.pop()
                self._within[-1] += took

        return timed_call


def planned(config: Path) -> Plan:
    """The plan of a configuration."""
    typed = ["--config", str(config)]
    return validated(settings(parser("evaluation_share", "").parse_args(typed), typed))


def runs(plan: Plan, degradations: int | None) -> Iterator[tuple[str, OuterLoop]]:
    """The family of layers and the method of each run, its task at hand."""
    seed, tasks = plan.settings.seed, itertools.product(*_tasks(plan, degradations))
    for objective, dataset in tasks:
        pose(objective, dataset, images_of(dataset, seed))
        for solver in plan.solvers.instances:
            method = type(solver).get_instance(**solver._parameters)
            method.set_objective(objective.task.learning, objective.rows)
            yield str(objective.lower).partition("(")[0], method


def images_of(dataset: ImageDataset, seed: int) -> dict[str, object]:
    """What the first repetition of a study has of ``dataset``."""
    RunContext().set_run_context("any", dataset, "any", repetition=0, base_seed=seed)
    return dataset.get_data()


def pose(objective: BaseObjective, dataset: ImageDataset, data: dict[str, object]) -> None:
    """Have ``objective`` make its task of ``data``; exit with the reason where it cannot."""
    skipped, reason = objective.skip(**data)
    if skipped:
        raise SystemExit(f"{dataset}: {reason}")


def _tasks(plan: Plan, degradations: int | None) -> tuple[list, list]:
    return plan.objectives.instances, plan.datasets.instances[:degradations]


def shares(plan: Plan, degradations: int | None) -> tuple[dict[str, Counter], list[dict]]:
    """Seconds by part, of each family; and the last row of each run."""
    found, rows = {}, []
    with ExitStack() as stack:
        of = Shares()
        for place, name, part in PARTS:
            stack.enter_context(patch.object(place, name, of.timed(part, getattr(place, name))))
        for family, method in runs(plan, degradations):
            of.seconds.clear()
            start, row = process_time(), None
            with seeded(0):
                method.attempted(method.rehearse)
                for step in map(method.evaluated, method.course()):
                    row = step.row or row
            seconds = Counter(of.seconds)
            seconds["around"] = process_time() - start - sum(seconds.values())
            found.setdefault(family, Counter()).update(seconds)
            rows.append({"family": family, "method": method.name, **_plain(row)})
    return found, rows


def _plain(row: dict) -> dict:
    return {name: v for name, v in row.items() if isinstance(v, int | float | str)}


def told(family: str, seconds: Counter) -> Iterator[str]:
    """A line for each part of a family's runs, the largest first."""
    whole = sum(seconds.values())
    outside = 1 - seconds["training"] / whole
    yield f"{family}: {whole:.1f} s, of which {outside:.0%} evaluation"
    for part, took in seconds.most_common():
        yield f"  {took / whole:6.1%} {took:8.2f} s  {part}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("configs", nargs="+", type=Path)
    command.add_argument("--degradations", type=int, help="the first so many tasks alone")
    command.add_argument("--rows", type=Path, help="where the last row of each run goes, as JSON")
    options = command.parse_args(arguments)
    os.environ.setdefault("BENCHMARK_PROCESSES", "0")
    say, rows = partial(print, flush=True), []
    gc.freeze()  # as the process of a run does
    for config in options.configs:
        found, of_one = shares(planned(config), options.degradations)
        rows += [{"config": str(config), **row} for row in of_one]
        for family, seconds in found.items():
            for line in told(f"{config.stem}, {family}", seconds):
                say(line)
    if options.rows:
        options.rows.write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
