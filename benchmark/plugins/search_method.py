"""Methods without gradients: values of θ are tried, the best is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import final

import torch
from torch import Tensor

from benchmark.measure.surroundings import NUMERICS, kept
from benchmark.plugins.outer_loop import TO_TOLERANCE, OuterLoop
from benchmark.problems.bilevel import Batch, Images, mean_over, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem, set_theta


@dataclass(frozen=True)
class Trial:
    """A θ that was tried, by name, and F there; infinite where it is not finite, or not known."""

    theta: dict[str, Tensor]
    value: float


class SearchMethod(OuterLoop):
    """A method that tries values of θ and keeps the best on the training images.

    Each outer step tries one: F at the equilibrium, to ``tol`` within ``max_layers`` layers of
    ``equilibrium_solver``, of the first ``batch_size`` training images (0: of all), the same in
    each step: on other images F is another function, and its values do not compare. Where an image
    has no equilibrium within ``max_layers``, F is infinite: what a layer is at on the way is no
    value of F. It estimates no gradient: the gradient's columns stay empty.
    """

    parameters = {
        **OuterLoop.parameters,
        **TO_TOLERANCE,
        "tol": [1e-4],
        "equilibrium_solver": ["anderson"],
    }

    @abstractmethod
    def propose(self, lower: LowerLevelProblem, tried: Sequence[Trial]) -> dict[str, Tensor]:
        """The θ to try next; ``lower`` is at the initial θ and must not be changed."""

    @final
    def prepare(self) -> None:
        self.tried: list[Trial] = []

    @final
    def own_state(self) -> dict[str, object]:
        return {"tried": [(trial.theta, trial.value) for trial in self.tried]}

    @final
    def restore_own_state(self, state: Mapping[str, object]) -> None:
        device = self.task.device
        self.tried = [
            Trial({name: value.to(device) for name, value in theta.items()}, found)
            for theta, found in state["tried"]
        ]

    @final
    @torch.no_grad()
    def advance(self, batch: Images) -> None:
        with kept(NUMERICS, self.left_behind):
            theta = self.propose(self.task.lower, self.tried)
        _require_theta(theta, self.lower.theta())
        set_theta(self.lower, theta)
        images = self.task.train
        value = self._loss(self.counted, images[: self.batch_size] if self.batch_size else images)
        self.tried.append(Trial(theta, value if isfinite(value) else inf))
        set_theta(self.lower, min(self.tried, key=lambda trial: trial.value).theta)

    @final
    def rehearse(self) -> None:
        self._loss(self.task.lower, self.task.probe)

    @final
    def deploy(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        return self.search(lower.layer(y), lower.init(y)).x

    @torch.no_grad()
    def _loss(self, lower: LowerLevelProblem, batch: Images) -> float:
        def of_one(at: LowerLevelProblem, part: Batch) -> float:
            y = part.observation
            found = self.search(at.layer(y), at.init(y), on_failure="ignore")
            return float(upper_loss(at, found.x, part)) if found.converged.all() else inf

        return mean_over(lower, batch, of_one)


def _require_theta(found: object, theta: Mapping[str, Tensor]) -> None:
    """ValueError unless ``propose`` gave a finite tensor for each of ``theta``, of its shape."""
    if not isinstance(found, Mapping) or found.keys() != theta.keys():
        got = ", ".join(found) if isinstance(found, Mapping) else repr(found)
        raise ValueError(
            f"propose returned {got}, expected a tensor for each of {', '.join(theta)}"
        )
    for name, parameter in theta.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"propose returned {got} for {name}, expected a tensor {tuple(parameter.shape)}"
            )
        if not value.isfinite().all():
            raise ValueError(f"propose returned a value of {name} that is not finite")
