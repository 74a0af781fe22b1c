"""Methods that estimate hypergradients: first-order descent on F."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.pair import Pair
from benchmark.gradients.precision import Promoted, promote
from benchmark.gradients.result import Hypergradient, mean_of
from benchmark.gradients.rule import AdjointRecord
from benchmark.measure.device import synchronize
from benchmark.measure.failure import require_finite
from benchmark.measure.handed import (
    of_images,
    of_lower,
    require_estimate,
    require_graph,
    require_state,
    untouched,
)
from benchmark.measure.surroundings import NUMERICS, kept
from benchmark.plugins.among import mean_among
from benchmark.plugins.carried import Carried
from benchmark.plugins.descent import Descent
from benchmark.plugins.outer_loop import TO_TOLERANCE, OuterLoop
from benchmark.problems.bilevel import Batch, Images, LearningTask, StreamedBatch, in_chunks
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Layer


class GradientMethod(OuterLoop):
    """A method on estimates of ∇F, however θ follows them.

    Parameters (beside those of ``OuterLoop``)
    ----------
    warm_start : whether a training image starts from the state at which it was left, instead of
        x⁰; solvers of adjoint systems start from the adjoint that they left.
    """

    parameters = {**OuterLoop.parameters, "warm_start": [False]}

    @abstractmethod
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        """The estimate of ∇F on ``batch`` at the θ of ``lower``, which must not be changed.

        What is kept for the next outer step goes through ``self.carried`` alone.
        """

    @final
    def mean_hypergradient(self, lower: LowerLevelProblem, batch: Images) -> Hypergradient:
        """``hypergradient`` on images of one operator or several: there, the mean over the images
        of the estimates of each, which count as one call. Of images that are read part by part,
        the mean alone is kept, with the state of the first part.
        """
        found, weights, calls, parts = [], [], self.carried.counts(), batch.parts
        for part in parts:
            self.carried.recount(calls)
            with kept(NUMERICS, self.left_behind):
                one = self.hypergradient(lower.at(part.operator), part)
            if not isinstance(one, Hypergradient):
                raise ValueError(f"hypergradient returned {one!r}, expected a Hypergradient")
            if len(parts) > 1:  # else who asked looks at it
                require_estimate(one, lower.theta())
            found.append(one)
            weights.append(len(part) / len(batch))
            if isinstance(batch, StreamedBatch) and len(found) > 1:
                so_far = mean_of(found, [weight / sum(weights) for weight in weights])
                found, weights = [replace(so_far, parts=())], [sum(weights)]
        mean = mean_of(found, weights)
        self.carried.note("state_residual", mean.state_residual)
        self.carried.note("adjoint_residual", mean.adjoint_residual)
        return mean

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
    def carry(self, batch: Batch, found: Hypergradient) -> None:
        """With ``warm_start``, keep the state and the adjoint to start from in the next step."""
        if self.warm_start:
            self.carried.put("state", batch, found.state)
            if found.adjoint is not None:
                self.carried.put("adjoint", batch, found.adjoint, of_mean=True)

    @final
    def hypergradient_on_probe(self, lower: LowerLevelProblem, batch: Images) -> Hypergradient:
        """``mean_hypergradient`` as the next step would compute it; what is carried is left."""
        kept = self.carried
        self.carried = kept.copy()
        try:
            return self.mean_hypergradient(lower, batch)
        finally:
            self.carried = kept

    @final
    @contextmanager
    def carrying(self, before: Iterable[LowerLevelProblem], batch: Images) -> Iterator[bool]:
        """Within it, what is carried is what estimates at the θ of ``before``, one after another,
        leave of ``batch``; afterwards what it was. Gives whether they leave anything.
        """
        kept, self.carried = self.carried, Carried()
        try:
            for lower in before:
                self.mean_hypergradient(lower, batch)
                if self.carried.empty:
                    break
            yield not self.carried.empty
        finally:
            self.carried = kept

    @final
    def rehearse(self) -> None:
        self.hypergradient_on_probe(self.task.lower, self.task.probe)


class BilevelSolver(GradientMethod):
    """A first-order method on estimates of ∇F.

    Parameters (beside those of ``GradientMethod``)
    ----------
    optimizer, schedule, groups, projection : how θ follows the estimates, each a text or, but for
        the first, None: see ``benchmark.plugins.descent.Descent``. An optimizer that searches along
        lines (LBFGS) takes several estimates a step; each is counted, and carries over what it
        leaves.
    learning_rate : of the optimizer.
    chunk : images of a step that are in memory with their graphs at once, the gradients of all such
        chunks being averaged; 0: all.
    """

    parameters = {
        "optimizer": ["adam"],
        "learning_rate": [0.1],
        "schedule": [None],
        "groups": [None],
        "projection": [None],
        "chunk": [0],
        **GradientMethod.parameters,
    }

    @final
    def prepare(self) -> None:
        self.theta = list(self.lower.theta().values())
        self._read = of_lower(self.lower, theta=True)
        self.descent = Descent(
            self.lower.theta(),
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            groups=self.groups,
            projection=self.projection,
        )

    @final
    def own_state(self) -> dict[str, object]:
        return self.descent.state()

    @final
    def restore_own_state(self, state: Mapping[str, object]) -> None:
        self.descent.restore(state)

    @final
    def advance(self, batch: Images) -> None:
        def estimated(images: Images) -> Hypergradient:
            images = in_chunks(images, getattr(self, "chunk", 0))
            with untouched(self._read | of_images("the batch", images)):
                found = self.mean_hypergradient(self.counted, images)
            require_estimate(found, self.lower.theta())
            return found

        def gradient() -> Tensor:
            shared = mean_among(estimated, batch, self.theta) if self.together else None
            estimate = shared or estimated(batch)
            require_finite(estimate, when=f"at outer step {self.outer_step}")
            for parameter, entry in zip(self.theta, estimate.gradient, strict=True):
                parameter.grad = entry.contiguous()
            return estimate.loss

        self.descent.step(gradient)
        synchronize(self.theta[0].device)


class StateMethod(BilevelSolver):
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
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        x0 = self.start(lower, batch)
        with kept(NUMERICS, self.left_behind):
            x = self.equilibrium(problem.T, x0)
        require_state(x, like=x0, by="equilibrium")
        require_graph(x, problem.parameters, T=problem.T, x0=x0, by="equilibrium")
        found = problem.differentiated(x)
        self.carry(batch, found)
        return found

    @final
    @torch.no_grad()
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """x̂ by the same call as in training, gradients disabled."""
        x0 = lower.init(y)
        return require_state(self.equilibrium(lower.layer(y), x0), like=x0, by="equilibrium")


class PairMethod(BilevelSolver):
    """A method given by a pair: how the state is looked for, and the rule that differentiates it.

    A tolerance below what the dtype of the run reaches is met in float64 where the pair says
    ``polish``, the same solver leading up to it in float32, and is an error where it does not.
    """

    @abstractmethod
    def pair(self, call: float) -> Pair:
        """The pair of estimate number ``call``, 0 the first; infinite: of the reconstruction.

        A function of the plugin's parameters and ``call`` alone.
        """

    @final
    def check_parameters(self) -> None:
        found = self.pair(inf)
        if not isinstance(found, Pair):
            raise TypeError(f"pair returned {found!r}, expected a Pair")

    @final
    def unfit(self, task: LearningTask) -> str | None:
        if self.pair(inf).rule.needs_splitting and not task.lower.splits:
            return "cg needs a layer that is a gradient step followed by soft-thresholding"
        return None

    @final
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        x0 = self.start(lower, batch)
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        pair = self.pair(self.carried.count("call"))
        found = pair.hypergradient(problem, x0, AdjointRecord(self.start_of_adjoint(batch)))
        self.carry(batch, found)
        return found.to(x0.dtype)

    @final
    def equilibrium(self, T: Layer, x0: Tensor) -> Tensor:
        """The state, its graph the estimate, for any T; raises as ``Pair.equilibrium`` does."""
        return self.pair(inf).equilibrium(T, x0, AdjointRecord()).x

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """The state by the same pair, to its tolerance or what the dtype of the run reaches."""
        return self.pair(inf).reconstruction(lower.layer(y), lower.init(y))


class EquilibriumMethod(BilevelSolver):
    """A method that is no pair, and whose own reconstruction is the equilibrium.

    Parameters (beside those of ``BilevelSolver``)
    ----------
    tol, max_layers : relative residual of an equilibrium, and the layers it may take.
    equilibrium_solver : a name of ``benchmark.solve.fixed_point.EQUILIBRIUM_SOLVERS``.
    """

    parameters = {**BilevelSolver.parameters, **TO_TOLERANCE}

    @final
    def promoted(self, lower: LowerLevelProblem, batch: Batch) -> Promoted:
        """F and where to start, in a dtype in which ``tol`` can be reached: float64 where the run's
        own does not and the parameter ``polish`` is True.
        """
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        options = {"tol": self.tol, "polish": self.polish}
        return promote(problem, self.start(lower, batch), **options, search=self.search)

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        return self.search(lower.layer(y), lower.init(y)).x
