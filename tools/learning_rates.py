"""The learning rate of each method of a study, from a common grid, by successive halving.

    python tools/learning_rates.py configs/cpu/weighted_norms.yml --out results/cpu/rates.md

On the first repetition of the study's seed: every rate trains on all tasks for a quarter of the
steps, the better half of the rates for half of them. What judges is F on ``VALIDATION`` further
training images, of photographs of their own, at the equilibrium: its logarithm, in the mean over
the tasks. No test image is looked at. The best rate is to be written into the configuration. (An
eighth of the steps is too early to judge: the largest rates lead there, and are behind later.)
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from evaluation_share import images_of, planned, pose

from benchmark.imaging.images import Cut
from benchmark.imaging.seeded import seeded
from benchmark.plugins.dataset import ImageDataset
from benchmark.plugins.outer_loop import OuterLoop
from benchmark.problems.bilevel import Batch, BilevelTask, mean_over, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.running.validation import Plan
from benchmark.solve.search import ToTolerance

#: the common grid, and how far each rung goes, in parts of the steps
RATES, RUNGS = (0.03, 0.1, 0.3, 1.0), (1 / 4, 1 / 2)
#: images that judge, and how their equilibria are solved
VALIDATION, _SEARCH = 16, ToTolerance("anderson", tol=1e-4, max_layers=1000)


@dataclass
class Rate:
    """A learning rate, its runs on all tasks, and F on the validation images after each rung."""

    value: float
    courses: list[tuple[BilevelTask, OuterLoop, Iterator]]
    losses: list[list[float]] = field(default_factory=list)

    @property
    def scores(self) -> list[float]:
        """The mean over the tasks of log F after each rung; infinite where a run has failed."""
        return [
            fmean(map(math.log, rung)) if all(map(math.isfinite, rung)) else math.inf
            for rung in self.losses
        ]

    @property
    def score(self) -> float:
        """That after the last rung."""
        return self.scores[-1]

    def go_on(self, share: float) -> None:
        """Train to this ``share`` of the steps, and judge."""
        self.losses.append([_trained(*course, share) for course in self.courses])


def _trained(task: BilevelTask, method: OuterLoop, course: Iterator, share: float) -> float:
    with seeded(0):
        while method.outcome.ok and method.outer_step < math.ceil(share * method.steps):
            next(course)
    return validation_loss(task, method) if method.outcome.ok else math.inf


@torch.no_grad()
def validation_loss(task: BilevelTask, method: OuterLoop) -> float:
    """F on the images that judge, at the equilibria of θ; infinite where one has none."""

    def of_one(at: LowerLevelProblem, part: Batch) -> float:
        y = part.observation
        found = _SEARCH(at.layer(y), at.init(y), on_failure="ignore")
        return float(upper_loss(at, found.x, part)) if found.converged.all() else math.inf

    return mean_over(method.lower, task.test, of_one)


def tasks(plan: Plan) -> Iterator[BilevelTask]:
    """Those of the first repetition, with the images that judge as their test images."""
    for objective in plan.objectives.instances:
        for dataset in plan.datasets.instances:
            number = dataset._parameters["n_train"]
            more = {**dataset._parameters, "n_train": number + VALIDATION}
            wider = type(dataset).get_instance(**more)
            data = images_of(wider, plan.settings.seed)
            if "unavailable" in data:
                raise SystemExit(data["unavailable"])
            drawn = data["train"]
            train, judge = (
                Cut(drawn.images[rows], drawn.photographs[rows])
                for rows in (slice(number), slice(number, None))
            )
            _require_apart(dataset, train, judge)
            pose(objective, dataset, {**data, "train": train, "test": judge})
            yield objective.task


def _require_apart(dataset: ImageDataset, train: Cut, judge: Cut) -> None:
    """Exit where a photograph that judges is trained on, or may be one of the study's tests.

    One source alone is split in proportion to the numbers asked for: with more to train on, what
    the study tests on is among it.
    """
    both = {*train.photographs} & {*judge.photographs}
    if both:
        raise SystemExit(f"{dataset}: {len(both)} photographs are trained on and judge")
    given = dataset._parameters
    if any(given.get(name) for name in ("source", "path")):
        raise SystemExit(f"{dataset}: one source for both: a test image could judge")


def halved(
    solver: OuterLoop, given: Sequence[BilevelTask], rates: Sequence[float], say=print
) -> list[Rate]:
    """The rates of one method, the best first."""
    going, dropped = [Rate(value, [*_courses(solver, given, value)]) for value in rates], []
    for share in RUNGS:
        for rate in going:
            rate.go_on(share)
        going.sort(key=lambda rate: rate.score)
        told = ", ".join(f"{rate.value:g}: {rate.score:.4f}" for rate in going)
        say(f"{solver.name}, {share:g} of the steps: {told}")
        kept = max(1, math.ceil(len(going) / 2))
        going, dropped = going[:kept], [*going[kept:], *dropped]
    return [*going, *dropped]


def _courses(solver: OuterLoop, given: Sequence[BilevelTask], rate: float) -> Iterator[tuple]:
    for task in given:
        method = type(solver).get_instance(**{**solver._parameters, "learning_rate": rate})
        method.set_objective(task.learning)
        course = method.course()
        next(course)
        yield task, method, course


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("config", type=Path)
    command.add_argument("--rates", type=float, nargs="+", default=RATES, help="the grid")
    command.add_argument("--out", type=Path, help="where the table goes")
    options = command.parse_args(arguments)
    plan, say = planned(options.config), partial(print, flush=True)
    given = [*tasks(plan)]
    lines = [
        f"# Learning rates of {options.config}",
        "",
        f"`python tools/learning_rates.py {options.config}`: the mean over {len(given)} tasks of",
        f"the logarithm of F on {VALIDATION} validation images each, after parts of the steps;",
        "the better half of the rates goes on.",
        "",
        "| method | rate | " + " | ".join(f"at {share:g}" for share in RUNGS) + " |",
        "| --- | --- |" + " --- |" * len(RUNGS),
    ]
    for solver in plan.solvers.instances:
        if "learning_rate" not in solver._parameters:
            continue
        for number, rate in enumerate(halved(solver, given, options.rates, say)):
            scores = [f"{score:.4f}" for score in rate.scores]
            scores += [""] * (len(RUNGS) - len(scores))
            name = f"**{solver.name}**" if number == 0 else ""
            lines.append(f"| {name} | {rate.value:g} | " + " | ".join(scores) + " |")
    text = "\n".join(lines) + "\n"
    say(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
