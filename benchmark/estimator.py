"""The base classes of the solver plugins: the outer loop that all methods share.

Nothing of any method's mathematics is here. A plugin inherits ``HypergradientEstimator`` and
overrides ``equilibrium``; one that is not a state with a graph inherits ``BilevelSolver`` and
overrides ``hypergradient`` and ``deploy``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion
from torch import Tensor

from benchmark import checks
from benchmark.failure import DivergedError, Outcome, attempt
from benchmark.fixed_point import EQUILIBRIUM_SOLVERS
from benchmark.linear import ADJOINT_SOLVERS
from benchmark.metering import CountedProblem, synchronize
from benchmark.problem import Batch, BilevelTask, Layer, LowerLevelProblem, upper_loss
from benchmark.provenance import sources_digest

OPTIMIZERS = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}

#: what a parameter of that name may be, in whichever plugin it occurs
RULES = {
    "optimizer": partial(checks.one_of, table=OPTIMIZERS),
    "learning_rate": checks.positive_number,
    "steps": checks.nonnegative_integer,
    "batch_size": checks.nonnegative_integer,
    "evaluate_every": checks.positive_integer,
    "layers": checks.positive_integer,
    "restarts": checks.nonnegative_integer,
    "max_layers": checks.positive_integer,
    "tol": checks.positive_number,
    "adjoint_tol": checks.positive_number,
    "equilibrium_solver": partial(checks.one_of, table=EQUILIBRIUM_SOLVERS),
    "adjoint_solver": partial(checks.one_of, table=ADJOINT_SOLVERS),
}


@dataclass(frozen=True)
class Hypergradient:
    """loss : ℓ at the method's state, 0-d; gradient : the estimate ĝ, one tensor per parameter in
    the order of ``lower.theta()``; state : the method's x̂ (N, …), without a graph.
    """

    loss: Tensor
    gradient: tuple[Tensor, ...]
    state: Tensor


def require_finite(estimate: Hypergradient, *, when: str) -> None:
    """Raise DivergedError where the loss or the gradient holds a NaN or an infinity."""
    finite = torch.stack([t.isfinite().all() for t in (estimate.loss, *estimate.gradient)])
    if not finite.all():
        what = "gradient" if finite[0] else "loss"
        raise DivergedError(f"the {what} is not finite {when}")


class BilevelSolver(BaseSolver, ABC):
    """Minimises F(θ) by a first-order method on estimates of ∇F; benchopt calls it.

    Parameters (the same for every method, and part of what is recorded)
    ----------
    optimizer : "adam" or "gradient_descent", torch's with their other settings at default.
    learning_rate : of the optimizer.
    steps : number of outer steps; 0 measures the method at the initial θ.
    batch_size : training images in each step; 0 for all.
    evaluate_every : outer steps between two rows of the results.
    """

    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        "steps": [20],
        "batch_size": [0],
        "evaluate_every": [5],
    }
    sampling_strategy = "callback"
    stopping_criterion = NoCriterion(strategy="callback")

    @abstractmethod
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """The estimate of ∇F on ``batch`` at the θ of ``lower``, which must not be changed."""

    @abstractmethod
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """The method's own x̂ for the observations ``y``, without a graph."""

    @final
    def save_parameters(self, **parameters: object) -> None:
        """benchopt's hook at creation; raises ValueError for a parameter out of its range."""
        super().save_parameters(**parameters)
        checks.check_all(self._parameters, RULES)

    @final
    def set_objective(self, task: BilevelTask) -> None:
        """Take the task; nothing is computed."""
        self.task = task

    @final
    def warm_up(self) -> None:
        """One hypergradient that is not counted, so that no method pays for lazy initialisation."""
        attempt(lambda: self.hypergradient(self.task.lower, self.task.probe))

    @final
    def get_next(self, stop_val: int) -> int:
        """The outer step of the next row."""
        return stop_val + getattr(self, "evaluate_every", 1)

    @final
    def run(self, callback) -> None:
        """The outer loop; a step that fails ends it with one more row, which says why."""
        self.lower = copy.deepcopy(self.task.lower)
        self.counted = CountedProblem(self.lower)
        self.batches = self.task.minibatches(self.batch_size)
        theta = list(self.lower.theta().values())
        optimizer = OPTIMIZERS[self.optimizer](theta, lr=self.learning_rate)
        self.outer_step, self.outcome = 0, Outcome()
        while callback() and self.outer_step < self.steps:
            self.outcome = attempt(lambda: self._step(theta, optimizer))
            if not self.outcome.ok:
                callback()
                return

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

    def _step(self, theta: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
        estimate = self.hypergradient(self.counted, next(self.batches))
        require_finite(estimate, when=f"at outer step {self.outer_step}")
        for parameter, gradient in zip(theta, estimate.gradient, strict=True):
            parameter.grad = gradient
        optimizer.step()
        synchronize(estimate.loss.device)
        self.outer_step += 1

    # benchopt's cache knows the plugin's file alone: without the digest, rows would outlive a
    # change of the package
    def _get_state(self) -> dict[str, str]:
        return {"sources": sources_digest()}

    def __setstate__(self, state: dict[str, str]) -> None:
        pass


class HypergradientEstimator(BilevelSolver):
    """A method given by a state x̂ ≈ x* whose graph *is* the gradient estimate.

    The estimate is what automatic differentiation makes of ℓ(R_θ(x̂)).
    """

    @abstractmethod
    def equilibrium(self, T: Layer, x0: Tensor) -> Tensor:
        """x̂ ≈ x* = T(x*) from ``x0``, its graph reaching the tensors that T closes over.

        A function of the plugin's parameters, ``T`` and ``x0`` (N, …) alone, for any T.
        """

    @final
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """Differentiate ℓ(R_θ(x̂)), the direct term through R_θ included."""
        x = self.equilibrium(lower.layer(batch.observation), lower.init(batch.observation))
        loss = upper_loss(lower, x, batch.truth)
        theta = list(lower.theta().values())
        gradient = torch.autograd.grad(loss, theta, allow_unused=True, materialize_grads=True)
        return Hypergradient(loss.detach(), gradient, x.detach())

    @final
    @torch.no_grad()
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """x̂ by the same call as in training, gradients disabled."""
        return self.equilibrium(lower.layer(y), lower.init(y))
