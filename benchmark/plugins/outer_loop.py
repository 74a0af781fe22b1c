"""The outer loop that all methods share: θ step by step, and what benchopt asks on the way.

Nothing of any method's mathematics is here. A method that is a pair of a search and a gradient rule
inherits ``PairMethod``; one that is not inherits ``BilevelSolver`` and overrides ``hypergradient``
and ``deploy``; one without gradients inherits ``SearchMethod`` and overrides ``propose``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import final

from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion
from torch import Tensor

from benchmark.measure.counting import CountedProblem
from benchmark.measure.failure import Outcome, attempt
from benchmark.measure.provenance import sources_digest
from benchmark.options import checks
from benchmark.plugins.carried import Carried
from benchmark.plugins.rules import RULES
from benchmark.problems.bilevel import BilevelTask, Images
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.search import ToTolerance

#: the parameters of methods that solve for equilibria: the relative residual of each sample, the
#: layers that it may take, a name of ``benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS``
TO_TOLERANCE = {"tol": [1e-10], "max_layers": [5000], "equilibrium_solver": ["fista"]}


class OuterLoop(BaseSolver, ABC):
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
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """The method's own x̂ for the observations ``y``, without a graph."""

    @property
    @final
    def search(self) -> ToTolerance:
        """How equilibria are looked for by methods with the parameters of ``TO_TOLERANCE``."""
        return ToTolerance(self.equilibrium_solver, self.tol, self.max_layers)

    @final
    def save_parameters(self, **parameters: object) -> None:
        """benchopt's hook at creation; raises ValueError for a parameter out of its range."""
        super().save_parameters(**parameters)
        checks.check_all(self._parameters, RULES)
        self.carried = Carried()

    @final
    def set_objective(self, task: BilevelTask) -> None:
        """Take the task; nothing is computed."""
        self.task = task

    @final
    def warm_up(self) -> None:
        """One step that is not counted, so that no method pays for lazy initialisation."""
        attempt(self.rehearse)

    @final
    def get_next(self, stop_val: int) -> int:
        """The outer step of the next row."""
        return stop_val + getattr(self, "evaluate_every", 1)

    @final
    def run(self, callback) -> None:
        """The outer loop; a step that fails ends it with one more row, which says why."""
        self.lower = copy.deepcopy(self.task.lower)
        self.counted = CountedProblem(self.lower)
        self.carried = Carried()
        self.outer_step, self.outcome = 0, Outcome()
        batches = self.task.minibatches(self.batch_size)
        self.prepare()
        while callback() and self.outer_step < self.steps:
            self.outcome = attempt(lambda: self.advance(next(batches)))
            if not self.outcome.ok:
                callback()
                return
            self.outer_step += 1

    @final
    def get_result(self) -> dict[str, object]:
        """θ, the method itself, and how far it is: what ``Objective.evaluate_result`` takes."""
        return {
            "theta": {name: p.detach().clone() for name, p in self.lower.theta().items()},
            "method": self,
            "outer_step": self.outer_step,
            "training": self.outcome,
            "training_layer_evals": self.counted.layer_evals,
            "last": self.outer_step >= self.steps or not self.outcome.ok,
        }

    # benchopt's cache knows the plugin's file alone: without the digest, rows would outlive a
    # change of the package
    def _get_state(self) -> dict[str, str]:
        return {"sources": sources_digest()}

    def __setstate__(self, state: dict[str, str]) -> None:
        pass
