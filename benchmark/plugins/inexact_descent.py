"""Gradient descent by inexact gradients and values of F, whose accuracies and stepsize adapt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import final

import torch
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.linearization import Linearization
from benchmark.gradients.refined import flat, relative_change
from benchmark.gradients.result import Hypergradient
from benchmark.measure.failure import require_finite
from benchmark.plugins.bilevel_solver import GradientMethod
from benchmark.plugins.outer_loop import TO_TOLERANCE
from benchmark.problems.bilevel import Batch, Images, LearningTask, StreamedBatch, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Equilibrium, Layer
from benchmark.solve.named import adjoint_solver
from benchmark.solve.search import ToTolerance
from benchmark.solve.vectors import dot

#: of the decrease that a linear F would have, what is asked for (Armijo's rule)
_ASKED = 0.1
#: what an accepted stepsize is multiplied by, and one that is too long divided
_LONGER = 2.0
#: stepsizes tried at one accuracy, and accuracies, in one outer step
_TRIALS, _ROUNDS = 10, 10
#: what the errors of two values of F are aimed at, in units of the decrease asked for
_SHARE = 0.3
#: the part of its correction that a value is unsure by
_UNSURE = 0.3
#: the relative error of ĝ above which it is not followed, and what it is aimed at
_TOO_WRONG, _AIM = 0.5, 0.1
#: the adjoint is solved once more, to this part of its tolerance: what the gradient changes by is
#: the error that it had
_FINER = 0.1
#: the loosest tolerances, and by how much they change at once
_LOOSEST, _LEAST, _MOST = 0.5, 0.01, 2.0


@final
@dataclass(frozen=True)
class Pace:
    """stepsize : α of θ ← θ − αĝ, 0 until there is a gradient; tol, adjoint_tol : relative
    residuals of state and adjoint.
    """

    stepsize: float
    tol: float
    adjoint_tol: float

    def changed(self, *, tol: float = 1.0, adjoint_tol: float = 1.0, floor: float) -> Pace:
        """The tolerances times these factors, as far as they may change."""

        def of(old: float, factor: float) -> float:
            return min(max(old * min(max(factor, _LEAST), _MOST), floor), _LOOSEST)

        return replace(self, tol=of(self.tol, tol), adjoint_tol=of(self.adjoint_tol, adjoint_tol))


@final
@dataclass(frozen=True)
class _Value:
    """F on a batch: loss, corrected; an estimate of its error; the states of each part."""

    loss: float
    error: float
    states: tuple[Tensor, ...]


class InexactDescent(GradientMethod):
    """θ ← θ − αĝ where F falls by enough, as far as its values can be trusted.

    A value is ℓ(x) + Σᵢ ⟨wᵢ, T(xᵢ) − xᵢ⟩ at a state x near the equilibrium, w the adjoint of ĝ: to
    first order F itself, whatever the residual. It counts as unsure by 0.3 Σᵢ |⟨wᵢ, T(xᵢ) − xᵢ⟩|,
    an estimate and no bound, and a step is taken where F has surely fallen by 0.1 α‖ĝ‖². Where the
    values cannot tell, both are solved further; where the step is too long, it is halved; once
    taken, it is doubled. The tolerance of the state follows the errors that the steps could bear.
    That of the adjoint follows what ĝ changes by when the adjoint is solved to a tenth of it.

    Parameters (beside those of ``GradientMethod``)
    ----------
    tol, max_layers, equilibrium_solver : the smallest tolerance, the layers (and products) that a
        solution may take, how equilibria are found.
    adjoint_solver : how adjoints are.
    first_tol : the relative residuals of state and adjoint to begin with.
    first_move : ‖αĝ‖ of the first step, in the units of θ.
    adaptive : False keeps both tolerances at ``first_tol``, and trusts every value.
    """

    parameters = {
        **GradientMethod.parameters,
        **TO_TOLERANCE,
        "warm_start": [True],
        "adjoint_solver": ["auto"],
        "first_tol": [1e-3],
        "first_move": [0.5],
        "adaptive": [True],
    }

    @final
    def unfit(self, task: LearningTask) -> str | None:
        if isinstance(task.train, StreamedBatch) and not 0 < self.batch_size < len(task.train):
            return "values of F need the states of all images of a step: expected a batch_size"
        return None

    @final
    def check_parameters(self) -> None:
        self.pace = Pace(0.0, self.first_tol, self.first_tol)

    @final
    def prepare(self) -> None:
        self.check_parameters()
        self.theta = list(self.lower.theta().values())

    @final
    def own_state(self) -> dict[str, object]:
        return asdict(self.pace)

    @final
    def restore_own_state(self, state: Mapping[str, float]) -> None:
        self.pace = Pace(**state)

    @final
    def hypergradient(self, lower: LowerLevelProblem, batch: Batch) -> Hypergradient:
        problem = EquilibriumLoss.of_lower_level(lower, batch)
        state = self._near(problem.T, self.start(lower, batch))
        at, solve = Linearization(problem, state.x), adjoint_solver(self.adjoint_solver)
        tol, system = self.pace.adjoint_tol, at.adjoint_system()
        w = solve(system, at.g, tol=tol, max_steps=self.max_layers, x0=self.start_of_adjoint(batch))
        gradient, error = at.gradient(w.x), 0.0
        if self.adaptive:
            rough = gradient
            w = solve(system, at.g, tol=_FINER * tol, max_steps=self.max_layers, x0=w.x)
            gradient = at.gradient(w.x, last=True)
            error = relative_change(flat(gradient), flat(rough))
        found = Hypergradient(
            loss=at.loss,
            gradient=gradient,
            state=state.x,
            adjoint=w.x,
            state_residual=float(state.residual.max()),
            adjoint_residual=float(w.residual.max()),
            error=error,
            converged=bool(state.converged.all() and w.converged.all()),
        )
        self.carry(batch, found)
        return found

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        return self.search(lower.layer(y), lower.init(y)).x

    @final
    def advance(self, batch: Images) -> None:
        for _ in range(_ROUNDS):
            here = self.mean_hypergradient(self.counted, batch)
            require_finite(here, when=f"at outer step {self.outer_step}")
            tolerances = self.pace.tol, self.pace.adjoint_tol
            if self._moved(here, batch) or tolerances == (self.pace.tol, self.pace.adjoint_tol):
                break

    @torch.no_grad()
    def _moved(self, here: Hypergradient, batch: Images) -> bool:
        """Whether a step along −ĝ was taken; where not, tolerances are smaller."""
        if here.error > _TOO_WRONG:
            self._change(adjoint_tol=_AIM / here.error)
            return False
        slope = float(flat(here.gradient).square().sum())
        if not self.pace.stepsize and slope:
            self.pace = replace(self.pace, stepsize=self.first_move / slope**0.5)
        before, parts = [p.clone() for p in self.theta], here.parts or (here,)
        now = self._value(parts, batch, tuple(part.state for part in parts))
        for _ in range(_TRIALS):
            alpha = self.pace.stepsize
            self._move(before, here.gradient, alpha)
            then = self._value(parts, batch, self._states(parts, batch))
            asked, fall = _ASKED * alpha * slope, now.loss - then.loss
            error = now.error + then.error if self.adaptive else 0.0
            if fall - error >= asked:
                self._accept(then, batch, here.error, asked / error if error else _MOST)
                return True
            if error > asked and fall + error >= asked:
                self._change(tol=_SHARE * asked / error)
                break
            self.pace = replace(self.pace, stepsize=alpha / _LONGER)
        else:
            self._change(tol=_FINER, adjoint_tol=_FINER)
        self._move(before, here.gradient, 0.0)
        return False

    def _near(self, T: Layer, x0: Tensor) -> Equilibrium:
        search = ToTolerance(self.equilibrium_solver, self.pace.tol, self.max_layers)
        return search(T, x0, on_failure="ignore")

    def _move(self, before: Sequence[Tensor], gradient: Sequence[Tensor], alpha: float) -> None:
        """θ ← before − α ĝ."""
        for p, old, g in zip(self.theta, before, gradient, strict=True):
            p.copy_(old - alpha * g)

    def _states(self, parts: Sequence[Hypergradient], batch: Images) -> tuple[Tensor, ...]:
        """Equilibria at the present θ, from where those of ``parts`` were."""
        return tuple(
            self._near(self.counted.at(part.operator).layer(part.observation), of.state).x
            for part, of in zip(batch.parts, parts, strict=True)
        )

    def _value(
        self, parts: Sequence[Hypergradient], batch: Images, states: tuple[Tensor, ...]
    ) -> _Value:
        """F at the present θ from ``states`` x near its equilibria: ℓ(x) + Σᵢ ⟨wᵢ, T(xᵢ) − xᵢ⟩, the
        w those of ``parts``. Cost: one layer.
        """
        loss = error = 0.0
        for part, of, x in zip(batch.parts, parts, states, strict=True):
            lower, share = self.counted.at(part.operator), len(part) / len(batch)
            missing = dot(of.adjoint, lower.step(x, part.observation) - x)
            loss += share * float(upper_loss(lower, x, part) + missing.sum())
            error += share * _UNSURE * float(missing.abs().sum())
        return _Value(loss, error, states)

    def _accept(self, then: _Value, batch: Images, gradient_error: float, margin: float) -> None:
        """Go on from the states of ``then``, next time with a longer step; ``margin`` is the
        decrease asked for in units of the error of the values.
        """
        self.pace = replace(self.pace, stepsize=_LONGER * self.pace.stepsize)
        # no change at all says nothing: the first solution was there at its start
        factor = _AIM / gradient_error if gradient_error else 1.0
        self._change(tol=_SHARE * margin, adjoint_tol=factor)
        if self.warm_start:
            for part, x in zip(batch.parts, then.states, strict=True):
                self.carried.put("state", part, x)

    def _change(self, *, tol: float = 1.0, adjoint_tol: float = 1.0) -> None:
        """Multiply the tolerances by these, where they adapt."""
        if self.adaptive:
            self.pace = self.pace.changed(tol=tol, adjoint_tol=adjoint_tol, floor=self.tol)
