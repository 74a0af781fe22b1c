"""The base classes of the solver plugins: the outer loop that all methods share.

Nothing of any method's mathematics is here. A plugin inherits ``HypergradientEstimator`` and
overrides ``equilibrium``; one that is not a state with a graph inherits ``BilevelSolver`` and
overrides ``hypergradient`` and ``deploy``; one without gradients inherits ``SearchMethod`` and
overrides ``propose``.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, nan
from typing import final

import torch
from benchopt import BaseSolver
from benchopt.stopping_criterion import NoCriterion
from torch import Tensor

from benchmark.gradients.precision import Posed, in_reach
from benchmark.gradients.refined import adjoint_solver, equilibrium_solver
from benchmark.gradients.schedules import DECREASES
from benchmark.measure.failure import DivergedError, Outcome, attempt
from benchmark.measure.metering import CountedProblem, synchronize
from benchmark.measure.provenance import sources_digest
from benchmark.options import checks
from benchmark.plugins.carried import Carried
from benchmark.problems.lower_level import (
    Batch,
    BilevelTask,
    Layer,
    LowerLevelProblem,
    set_theta,
    upper_loss,
)
from benchmark.solve.convergence import warn_unless_converged

OPTIMIZERS = {"adam": torch.optim.Adam, "gradient_descent": torch.optim.SGD}

#: the solvers that torchdeq has by name; it may be absent
TORCHDEQ_SOLVERS = dict.fromkeys(("fixed_point_iter", "anderson", "broyden"))

#: what a parameter of that name may be, in whichever plugin it occurs
RULES = {
    "optimizer": partial(checks.one_of, table=OPTIMIZERS),
    "learning_rate": checks.positive_number,
    "steps": checks.nonnegative_integer,
    "batch_size": checks.nonnegative_integer,
    "evaluate_every": checks.positive_integer,
    "warm_start": checks.boolean,
    "polish": checks.boolean,
    "layers": checks.positive_integer,
    "restarts": checks.nonnegative_integer,
    "max_layers": checks.positive_integer,
    "factor": partial(checks.strictly_between, low=1, high=inf),
    "terms": checks.positive_integer,
    "damping": checks.fraction,
    "step": checks.positive_number,
    "directions": checks.positive_integer,
    "max_parameters": checks.positive_integer,
    "inner_steps": checks.positive_integer,
    "memory": checks.positive_integer,
    "fallback": checks.optional(checks.positive_number),
    "first_tol": checks.positive_number,
    "decrease": partial(checks.one_of, table=DECREASES),
    "span": checks.positive_number,
    "tol": checks.positive_number,
    "adjoint_tol": checks.positive_number,
    "gradient_tol": checks.optional(checks.positive_number),
    "equilibrium_solver": lambda _, value: equilibrium_solver(value),
    "adjoint_solver": lambda _, value: adjoint_solver(value),
    "tangent_solver": lambda _, value: adjoint_solver(value),
    # as torchdeq and deepinv call theirs
    "f_solver": partial(checks.one_of, table=TORCHDEQ_SOLVERS),
    "b_solver": partial(checks.one_of, table=TORCHDEQ_SOLVERS),
    "f_tol": checks.positive_number,
    "b_tol": checks.positive_number,
    "f_max_iter": checks.positive_integer,
    "b_max_iter": checks.positive_integer,
    "grad": checks.positive_integer,
    "tau": checks.positive_number,
    "m": checks.positive_integer,
    "lam": checks.nonnegative_number,
    "thres_conv": checks.positive_number,
    "max_iter": checks.positive_integer,
    "max_iter_backward": checks.positive_integer,
    "anderson": checks.boolean,
    "history_size": checks.positive_integer,
    "eps": checks.nonnegative_number,
}


@dataclass(frozen=True)
class Hypergradient:
    """loss : ℓ at the method's state, 0-d; gradient : the estimate ĝ, one tensor per parameter in
    the order of ``lower.theta()``; state : the method's x̂ (N, …), without a graph; error : the
    method's own estimate of ‖ĝ − ∇F‖/‖∇F‖, NaN where it makes none.
    """

    loss: Tensor
    gradient: tuple[Tensor, ...]
    state: Tensor
    error: float = nan

    def to(self, dtype: torch.dtype) -> Hypergradient:
        """The same in another dtype."""
        gradient = tuple(g.to(dtype) for g in self.gradient)
        return replace(
            self, loss=self.loss.to(dtype), gradient=gradient, state=self.state.to(dtype)
        )


@torch.no_grad()
def equilibrium_of(method: BaseSolver, T: Layer, x0: Tensor) -> Tensor:
    """x* = T(x*) from ``x0``, without a graph, by the ``equilibrium_solver`` of ``method`` to its
    ``tol`` within its ``max_layers`` layers; warns ``NotConverged``.
    """
    solve = equilibrium_solver(method.equilibrium_solver)
    found = solve(T, x0, tol=method.tol, max_layers=method.max_layers)
    return warn_unless_converged(found, what="the equilibrium").x


def require_finite(estimate: Hypergradient, *, when: str) -> None:
    """Raise DivergedError where the loss or the gradient holds a NaN or an infinity."""
    finite = torch.stack([t.isfinite().all() for t in (estimate.loss, *estimate.gradient)])
    if not finite.all():
        what = "gradient" if finite[0] else "loss"
        raise DivergedError(f"the {what} is not finite {when}")


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
    def advance(self, batch: Batch) -> None:
        """One outer step: changes θ of ``self.lower``, its layers counted by ``self.counted``."""

    @abstractmethod
    def rehearse(self) -> None:
        """What one outer step does, on the probe and without effect: done once, not counted."""

    @abstractmethod
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """The method's own x̂ for the observations ``y``, without a graph."""

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


class BilevelSolver(OuterLoop):
    """A first-order method on estimates of ∇F.

    Parameters (beside those of ``OuterLoop``)
    ----------
    optimizer : "adam" or "gradient_descent", torch's with their other settings at default.
    learning_rate : of the optimizer.
    warm_start : whether a training image starts from the state at which it was left, instead of
        x⁰; solvers of adjoint systems start from the adjoint that they left.
    """

    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        **OuterLoop.parameters,
        "warm_start": [False],
    }

    @abstractmethod
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """The estimate of ∇F on ``batch`` at the θ of ``lower``, which must not be changed.

        What is kept for the next outer step goes through ``self.carried`` alone.
        """

    @final
    def start(self, lower: LowerLevelProblem, batch: Batch) -> Tensor:
        """The state to start from (N, …): x⁰, or with ``warm_start`` the "state" carried over."""
        x0 = lower.init(batch.observation).detach()
        return self.carried.get("state", batch, x0) if self.warm_start else x0

    @final
    def start_of_adjoint(self, batch: Batch) -> Tensor | None:
        """With ``warm_start`` the "adjoint" carried over, where all of ``batch`` have one."""
        return self.carried.get("adjoint", batch, None) if self.warm_start else None

    @final
    def carry(self, batch: Batch, **tensors: Tensor) -> None:
        """With ``warm_start``, keep for the next step what ``start`` and its like look for."""
        if self.warm_start:
            for name, tensor in tensors.items():
                self.carried.put(name, batch, tensor)

    @final
    def hypergradient_on_probe(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """``hypergradient`` as the next step would compute it, leaving what is carried as it is."""
        kept = self.carried
        self.carried = kept.copy()
        try:
            return self.hypergradient(lower, batch)
        finally:
            self.carried = kept

    @final
    def prepare(self) -> None:
        self.theta = list(self.lower.theta().values())
        self.descent = OPTIMIZERS[self.optimizer](self.theta, lr=self.learning_rate)

    @final
    def advance(self, batch: Batch) -> None:
        estimate = self.hypergradient(self.counted, batch)
        require_finite(estimate, when=f"at outer step {self.outer_step}")
        for parameter, gradient in zip(self.theta, estimate.gradient, strict=True):
            parameter.grad = gradient
        self.descent.step()
        synchronize(estimate.loss.device)

    @final
    def rehearse(self) -> None:
        self.hypergradient_on_probe(self.task.lower, self.task.probe)


class EquilibriumMethod(BilevelSolver):
    """A method whose own reconstruction is the equilibrium, however it estimates ∇F.

    Parameters (beside those of ``BilevelSolver``)
    ----------
    tol, max_layers : relative residual of an equilibrium, and the layers it may take.
    equilibrium_solver : a name of ``benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS``.
    """

    parameters = {
        **BilevelSolver.parameters,
        "tol": [1e-10],
        "max_layers": [5000],
        "equilibrium_solver": ["fista"],
    }

    @final
    def posed(self, lower: LowerLevelProblem, batch: Batch, *, tol: float | None = None) -> Posed:
        """The problem and where to start, in a dtype in which ``tol`` (by default the method's own)
        can be reached: float64 where the run's own does not and the parameter ``polish`` is True.
        """
        return in_reach(
            lower,
            batch,
            self.start(lower, batch),
            tol=self.tol if tol is None else tol,
            polish=self.polish,
            max_layers=self.max_layers,
        )

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        return equilibrium_of(self, lower.layer(y), lower.init(y))


class HypergradientEstimator(BilevelSolver):
    """A method given by a state x̂ ≈ x* whose graph *is* the gradient estimate.

    The estimate is what automatic differentiation makes of ℓ(R_θ(x̂)). A method with a parameter
    ``polish`` (True or False) solves for x* to ``tol`` within ``max_layers`` layers: a tolerance
    below what the dtype of the run reaches is then met in float64, or is an error
    (``benchmark.gradients.precision``).
    """

    @abstractmethod
    def equilibrium(self, T: Layer, x0: Tensor) -> Tensor:
        """x̂ ≈ x* = T(x*) from ``x0``, its graph reaching the tensors that T closes over.

        A function of the plugin's parameters, ``T`` and ``x0`` (N, …) alone, for any T.
        """

    @final
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """Differentiate ℓ(R_θ(x̂)), the direct term through R_θ included."""
        x0 = self.start(lower, batch)
        posed = Posed(lower, batch, x0)
        if hasattr(self, "polish"):
            precision = {"polish": self.polish, "max_layers": self.max_layers}
            posed = in_reach(lower, batch, x0, tol=self.tol, **precision)
        x = self.equilibrium(posed.lower.layer(posed.batch.observation), posed.x0)
        loss = upper_loss(posed.lower, x, posed.batch.truth)
        theta = list(posed.lower.theta().values())
        gradient = torch.autograd.grad(loss, theta, allow_unused=True, materialize_grads=True)
        self.carry(batch, state=x)
        found = Hypergradient(loss.detach(), gradient, x.detach())
        return found.to(x0.dtype)

    @final
    @torch.no_grad()
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """x̂ by the same call as in training, gradients disabled, in the dtype of the run."""
        return self.equilibrium(lower.layer(y), lower.init(y))


@dataclass(frozen=True)
class Trial:
    """A θ that was tried, by name, and F there; infinite where it is not finite."""

    theta: dict[str, Tensor]
    value: float


class SearchMethod(OuterLoop):
    """A method that tries values of θ and keeps the best on the training images.

    Each outer step tries one: F at the equilibrium, to ``tol`` within ``max_layers`` layers of
    ``equilibrium_solver``. It estimates no gradient: the gradient's columns stay empty.
    """

    parameters = {
        **OuterLoop.parameters,
        "tol": [1e-4],
        "max_layers": [5000],
        "equilibrium_solver": ["anderson"],
    }

    @abstractmethod
    def propose(self, lower: LowerLevelProblem, tried: Sequence[Trial]) -> dict[str, Tensor]:
        """The θ to try next; ``lower`` is at the initial θ and must not be changed."""

    @final
    def prepare(self) -> None:
        self.tried: list[Trial] = []

    @final
    @torch.no_grad()
    def advance(self, batch: Batch) -> None:
        theta = self.propose(self.task.lower, self.tried)
        set_theta(self.lower, theta)
        value = float(self._loss(self.counted, batch))
        self.tried.append(Trial(theta, value if isfinite(value) else inf))
        set_theta(self.lower, min(self.tried, key=lambda trial: trial.value).theta)

    @final
    def rehearse(self) -> None:
        self._loss(self.task.lower, self.task.probe)

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        return equilibrium_of(self, lower.layer(y), lower.init(y))

    @torch.no_grad()
    def _loss(self, lower: LowerLevelProblem, batch: Batch) -> Tensor:
        return upper_loss(lower, self.deploy(lower, batch.observation), batch.truth)
