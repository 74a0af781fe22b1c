"""The outer loop that all methods share: θ step by step, and what benchopt asks on the way.

Nothing of any method's mathematics is here. A method that is a pair of a search and a gradient rule
inherits ``PairMethod``; one that is not inherits ``BilevelSolver`` and overrides ``hypergradient``
and ``deploy``, or ``GradientMethod`` where θ follows in a way of its own; one without gradients
inherits ``SearchMethod`` and overrides ``propose``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import final

from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion
from torch import Tensor

from benchmark.measure import timing
from benchmark.measure.counting import CountedProblem
from benchmark.measure.failure import attempt
from benchmark.options import checks
from benchmark.options.brought import of_a_file
from benchmark.plugins.carried import Carried
from benchmark.plugins.keyed import Keyed
from benchmark.plugins.rules import RULES
from benchmark.problems.bilevel import BilevelTask, Images
from benchmark.problems.lower_level import LowerLevelProblem, set_theta
from benchmark.solve.search import ToTolerance

#: the parameters of methods that solve for equilibria: the relative residual of each sample, the
#: layers that it may take, a name of ``benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS``
TO_TOLERANCE = {"tol": [1e-10], "max_layers": [5000], "equilibrium_solver": ["fista"]}


#: the columns of a row from what ``OuterLoop`` has come to
Evaluate = Callable[..., dict[str, object]]


@dataclass(frozen=True)
class Step:
    """An outer step that is done: its number, the seconds of training so far, without those of
    evaluation, and the columns of its row where it has one.
    """

    number: int
    seconds: float
    row: dict[str, object] | None


class OuterLoop(Keyed, BaseSolver, ABC):
    """Minimises F(θ) step by step; benchopt calls it.

    Parameters (the same for every method, and part of what is recorded)
    ----------
    steps : number of outer steps; 0 measures the method at the initial θ.
    batch_size : training images in each step; 0 for all.
    evaluate_every : outer steps between two rows of the results.
    """

    parameters = {"steps": [20], "batch_size": [0], "evaluate_every": [5]}
    sampling_strategy = "callback"
    stopping_criterion = NoCriterion(strategy="callback")

    @abstractmethod
    def prepare(self) -> None:
        """Called once before the first outer step, ``self.lower`` at the initial θ."""

    @abstractmethod
    def advance(self, batch: Images) -> None:
        """One outer step: changes θ of ``self.lower``, its layers counted by ``self.counted``."""

    @abstractmethod
    def rehearse(self) -> None:
        """What one outer step does, on the probe and without effect: done once, not counted."""

    @abstractmethod
    def own_state(self) -> dict[str, object]:
        """What the method's part of the loop needs to go on, as ``state`` has it."""

    @abstractmethod
    def restore_own_state(self, state: Mapping[str, object]) -> None:
        """Go back to what ``own_state`` gave, after ``prepare``."""

    @abstractmethod
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """The method's own x̂ for the observations ``y``, without a graph."""

    def check_parameters(self) -> None:
        """Raise ValueError where parameters that are in range alone do not go together."""

    @property
    @final
    def search(self) -> ToTolerance:
        """How equilibria are looked for by methods with the parameters of ``TO_TOLERANCE``."""
        return ToTolerance(self.equilibrium_solver, self.tol, self.max_layers)

    @final
    def save_parameters(self, **parameters: object) -> None:
        """benchopt's hook at creation; raises ValueError for a parameter out of its range.

        Where it is a file of the user's that is at fault, ``broken`` says so, and the run of this
        method is to end with that, and no other.
        """
        super().save_parameters(**parameters)
        self.carried, self.broken = Carried(), None
        try:
            checks.check_all(self._parameters, RULES)
            self.check_parameters()
        except ValueError as error:
            if not of_a_file(error):
                raise
            self.broken = str(error)

    def unfit(self, task: BilevelTask) -> str | None:
        """Why the method cannot be used on ``task``; None where it can."""
        return None

    @final
    def skip(
        self, task: BilevelTask, evaluate: object = None, stream: object = None
    ) -> tuple[bool, str | None]:
        """benchopt's hook, which is given what ``set_objective`` is."""
        reason = None if self.broken else self.unfit(task)
        return reason is not None, reason

    @final
    def set_objective(
        self,
        task: BilevelTask,
        evaluate: Evaluate | None = None,
        stream: Callable[[OuterLoop, Callable], Generator[Step, None, None]] | None = None,
    ) -> None:
        """Take the task; nothing is computed.

        evaluate : the columns of a row from what the loop has come to; None: there are none, and
            ``get_result`` is that itself. stream : where the loop runs and what surrounds it, given
            benchopt's callback (``benchmark.running``); None: here.
        """
        self.task, self.evaluate, self.stream = task, evaluate, stream

    @final
    def warm_up(self) -> None:
        """One step that is not counted, so that no method pays for lazy initialisation."""
        if self.stream is None:
            attempt(self.rehearse)

    @final
    def get_next(self, stop_val: int) -> int:
        """The outer step of the next row."""
        return stop_val + getattr(self, "evaluate_every", 1)

    @final
    def run(self, callback) -> None:
        """The outer loop, as benchopt calls it, ``callback`` after each step."""
        here = (self.evaluated(step) for step in self.course())
        steps = here if self.stream is None else self.stream(self, callback)
        with closing(steps):
            for step in steps:
                self.row = step.row or self.row
                timing.set_clock(callback, step.seconds)
                if not callback():
                    break

    @final
    def course(
        self, resumed: Mapping[str, object] | None = None, *, again: bool = False
    ) -> Generator[Step, None, None]:
        """The loop, step by step, from its start or from what ``state`` gave, the step that was
        done last by then being the first where ``again``; a step that fails ends it. Rows are
        ``evaluated``'s.
        """
        self.clock = timing.Stopwatch()
        self.lower = copy.deepcopy(self.task.lower)
        self.counted = CountedProblem(self.lower)
        self.carried = Carried()
        self.outer_step, self.row = 0, None
        self.outcome = attempt(self._prepare)
        if resumed is not None:
            self._restore(resumed)
        if resumed is None or again:
            yield self._reached()
        batches = self.task.minibatches(self.batch_size, after=self.outer_step)
        while self.outcome.ok and self.outer_step < self.steps:
            with self.clock.running():
                self.outcome = attempt(lambda: self.advance(next(batches)))
            self.outer_step += self.outcome.ok
            yield self._reached()

    @final
    def _prepare(self) -> None:
        if self.broken:
            raise ValueError(self.broken)
        self.prepare()

    @final
    def _reached(self) -> Step:
        return Step(self.outer_step, self.clock.seconds, None)

    @final
    def evaluated(self, step: Step) -> Step:
        """The step that was just done, with its row where it is to have one."""
        result = self._result()
        due = self.outer_step % getattr(self, "evaluate_every", 1) == 0
        row = self.evaluate(**result) if self.evaluate and (due or result["last"]) else None
        return replace(step, row=row)

    @final
    def get_result(self) -> dict[str, object]:
        """What ``Objective.evaluate_result`` takes: the row of the last step that has one."""
        return self._result() if self.evaluate is None else {"row": self.row, "method": self}

    @final
    def _result(self) -> dict[str, object]:
        """θ, the method itself, and how far it is."""
        return {
            "theta": {name: p.detach().clone() for name, p in self.lower.theta().items()},
            "method": self,
            "outer_step": self.outer_step,
            "training": self.outcome,
            "training_layer_evals": self.counted.layer_evals,
            "training_vjp_evals": self.counted.vjp_evals,
            "last": self.outer_step >= self.steps or not self.outcome.ok,
        }

    @final
    def state(self) -> dict[str, object]:
        """What the loop needs to go on from here as if it had not stopped: tensors, numbers and
        texts in dicts and lists.
        """
        return {
            "outer_step": self.outer_step,
            "seconds": self.clock.seconds,
            "theta": {name: p.detach().clone() for name, p in self.lower.theta().items()},
            "counts": self.counted.counts.state(),
            "carried": self.carried.state(),
            "own": self.own_state(),
        }

    @final
    def _restore(self, state: Mapping[str, object]) -> None:
        """Go back to what ``state`` gave."""
        self.outer_step, self.clock.seconds = state["outer_step"], state["seconds"]
        set_theta(self.lower, state["theta"])
        self.counted.counts.restore(state["counts"])
        self.carried = Carried.of_state(state["carried"], device=self.task.device)
        self.restore_own_state(state["own"])
