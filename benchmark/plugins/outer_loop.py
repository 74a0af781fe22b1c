"""The outer loop that all methods share: θ step by step, and what benchopt asks on the way.

Nothing of any method's mathematics is here. A method that is a pair of a search and a gradient rule
inherits ``PairMethod``; one that is not inherits ``BilevelSolver`` and overrides ``hypergradient``
and ``deploy``, or ``GradientMethod`` where θ follows in a way of its own; one without gradients
inherits ``SearchMethod`` and overrides ``propose``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import final

from benchopt import BaseSolver
from torch import Tensor

from benchmark.imaging.stored import PrivateFolder
from benchmark.measure import timing
from benchmark.measure.counting import CountedProblem
from benchmark.measure.device import full_precision
from benchmark.measure.failure import Outcome, attempt
from benchmark.measure.handed import (
    digests,
    of_images,
    of_lower,
    require_same,
    require_state,
    versions,
)
from benchmark.measure.surroundings import EVERYTHING, NUMERICS, Others, kept
from benchmark.options import checks
from benchmark.options.brought import error_line, of_a_file
from benchmark.plugins.carried import Carried, Files
from benchmark.plugins.keyed import Keyed
from benchmark.plugins.progress import ShareOfSteps, most_rows, show
from benchmark.plugins.rules import RULES
from benchmark.problems.bilevel import Images, LearningTask, StreamedBatch
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
    stopping_criterion = ShareOfSteps(strategy="callback")

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

        Where it is a file of the user's that is at fault, or the method's own code, ``broken`` says
        so, and the run of this method is to end with that, and no other.
        """
        super().save_parameters(**parameters)
        self.carried, self.broken, self.left_behind = Carried(), None, set()
        try:
            checks.check_all(self._parameters, RULES)
            with kept(EVERYTHING, self.left_behind):
                self.check_parameters()
        except (Exception, SystemExit, GeneratorExit) as error:
            if isinstance(error, ValueError) and not of_a_file(error):
                raise
            self.broken = str(error) if isinstance(error, ValueError) else error_line(error)

    def unfit(self, task: LearningTask) -> str | None:
        """Why the method cannot be used on ``task``; None where it can."""
        return None

    @final
    def skip(
        self, task: LearningTask, evaluate: object = None, stream: object = None
    ) -> tuple[bool, str | None]:
        """benchopt's hook, which is given what ``set_objective`` is."""
        if self.broken:
            return False, None
        with kept(EVERYTHING, self.left_behind):
            found = attempt(lambda: self.unfit(task))
        if not found.ok:
            self.broken = found.message
        return found.value is not None, found.value

    @final
    def set_objective(
        self,
        task: LearningTask,
        evaluate: Evaluate | None = None,
        stream: Callable[[OuterLoop, Callable], Generator[Step, None, None]] | None = None,
    ) -> None:
        """Take the task; nothing is computed.

        evaluate : the columns of a row from what the loop has come to; None: there are none, and
            ``get_result`` is that itself. stream : where the loop runs and what surrounds it, given
            benchopt's callback (``benchmark.running``); None: here.
        """
        self.task, self.evaluate, self.stream, self.most_rows = task, evaluate, stream, None
        self.left_behind, self._given, self.beside, self.together = set(), {}, None, False

    @final
    def warm_up(self) -> None:
        """One step that is not counted, so that no method pays for lazy initialisation."""
        if self.stream is None:
            self.attempted(self.rehearse)

    @final
    def attempted(self, call: Callable[[], object]) -> Outcome:
        """The outcome of a call of the method's code, which leaves the process as it was: what it
        changed is put back, and named in ``left_behind``.
        """
        if not self._given:
            self._note_what_is_given()
        with kept(EVERYTHING, self.left_behind):
            return attempt(call)

    @final
    def deployed(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """``deploy`` on a copy of ``y``; ValueError where it is no state, or ``lower`` changed."""
        handed = {"the observations": y.clone(), **of_lower(lower, theta=True)}
        before = versions(handed)
        with kept(NUMERICS, self.left_behind):
            x = self.deploy(lower, handed["the observations"])
        require_same(before, versions(handed))
        return require_state(x, like=lower.init(y), by="deploy")

    @final
    def get_next(self, stop_val: int) -> int:
        """The outer step of the next row."""
        return stop_val + getattr(self, "evaluate_every", 1)

    @final
    def run(self, callback) -> None:
        """The outer loop, as benchopt calls it, ``callback`` after each step."""
        self.most_rows = most_rows(callback)
        here = (self.evaluated(step) for step in self.course())
        steps = here if self.stream is None else self.stream(self, callback)
        with closing(steps):
            for step in steps:
                self.row = step.row or self.row
                timing.set_clock(callback, step.seconds)
                if not callback():
                    break
                show(callback, step.number)

    @final
    def course(
        self, resumed: Mapping[str, object] | None = None, *, again: bool = False
    ) -> Generator[Step, None, None]:
        """The loop, step by step, from its start or from what ``state`` gave, the step that was
        done last by then being the first where ``again``; a step that fails ends it. Rows are
        ``evaluated``'s.
        """
        full_precision()
        self.clock = timing.Stopwatch()
        self.lower = copy.deepcopy(self.task.lower)
        self.counted = CountedProblem(self.lower)
        self.carried = Carried(files=self._files(anew=resumed is None))
        self.outer_step, self.row = 0, None
        self.outcome = self.attempted(self._prepare)
        if resumed is not None:
            self._restore(resumed)
        if resumed is None or again:
            yield self._reached()
        batches = self.task.minibatches(self.batch_size, after=self.outer_step)
        while self.outcome.ok and self.outer_step < self.steps:
            self.outcome = self.attempted(lambda: self._timed_step(batches))
            self.outer_step += self.outcome.ok
            yield self._reached()

    @final
    def _timed_step(self, batches: Iterator[Images]) -> None:
        with self.clock.running():
            self.advance(next(batches))
        require_same(self._versions, versions(self._given))

    @final
    def _note_what_is_given(self) -> None:
        """What the method must leave alone, and which other threads and processes there are."""
        task = self.task
        self._given = {
            **of_images("the training set", task.train),
            **of_images("the probe", task.probe),
            **of_lower(task.lower, theta=True),
        }
        self._versions, self._digests = versions(self._given), digests(self._given)
        self._others = Others.now()

    @final
    def _files(self, *, anew: bool) -> Files | None:
        """Where what is carried is kept, one of each training image, where these are in files too:
        in the folder ``beside`` what is kept of the run, if there is one.
        """
        if not isinstance(self.task.train, StreamedBatch):
            return None
        private = PrivateFolder() if self.beside is None else None
        files = Files(self.beside or private.path, private)
        if anew:
            files.take_up(set())
        return files

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
        row = self._evaluated(result) if self.evaluate and (due or result["last"]) else None
        return replace(step, row=row)

    @final
    def _evaluated(self, result: Mapping[str, object]) -> dict[str, object]:
        """The columns of a row, its ``left_behind`` what had to be put back so far."""
        with kept(EVERYTHING, self.left_behind):
            row = self.evaluate(**result)
        left_alone = attempt(lambda: require_same(self._versions, versions(self._given)))
        if result["last"]:
            self.left_behind |= self._others.ended()
            left_alone = attempt(self._require_untouched)
        if self.outcome.ok and result["last"] and self.outer_step < self.steps:
            row |= {"ended": "row limit"}
        if self.outcome.ok and not left_alone.ok:
            self.outcome = left_alone
            row |= {"status": left_alone.status, "message": left_alone.message, "ended": "error"}
        return row | {"left_behind": ", ".join(sorted(self.left_behind))}

    @final
    def _require_untouched(self) -> None:
        """Raise ChangedError where what is given, or the copy of the operator, has other bytes."""
        require_same(self._digests, digests(self._given))
        copied = of_lower(self.lower, theta=False)
        require_same({name: self._digests[name] for name in copied}, digests(copied))

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
            "seconds": self.clock.seconds,
            "training_layer_evals": self.counted.layer_evals,
            "training_vjp_evals": self.counted.vjp_evals,
            "last": self.outer_step >= self._end() or not self.outcome.ok,
        }

    @final
    def _end(self) -> int:
        """The step of the last row: benchopt's limit is on rows after the first."""
        if self.most_rows is None:
            return self.steps
        return min(self.steps, self.most_rows * getattr(self, "evaluate_every", 1))

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
            "left_behind": sorted(self.left_behind),
        }

    @final
    def _restore(self, state: Mapping[str, object]) -> None:
        """Go back to what ``state`` gave."""
        self.outer_step, self.clock.seconds = state["outer_step"], state["seconds"]
        set_theta(self.lower, state["theta"])
        self.counted.counts.restore(state["counts"])
        where = {"folder": self.beside, "files": self.carried.files}
        self.carried = Carried.of_state(state["carried"], self.task.device, **where)
        self.left_behind |= set(state["left_behind"])
        self.restore_own_state(state["own"])
