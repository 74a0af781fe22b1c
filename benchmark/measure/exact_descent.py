"""θ that exact gradients reach: where methods are compared beside the start, the same for all."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.gradients.implicit import Implicit
from benchmark.gradients.refined import flat, refined_gradient
from benchmark.gradients.result import Hypergradient, mean_of
from benchmark.measure.failure import DivergedError
from benchmark.problems.bilevel import Batch, BilevelTask
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.search import ToTolerance

#: estimates of F and ∇F that the descent may take, and training images that it looks at
EVALUATIONS, IMAGES = 20, 4
#: ‖∇F‖ in units of that at the start, at which it is far enough: where the gradient vanishes, an
#: error relative to it says nothing
FAR_ENOUGH = 0.1
#: of each gradient, and of a state's residual above which it is no equilibrium
GRADIENT_TOL, NO_EQUILIBRIUM = 1e-2, 1e-4
#: how states and adjoints are solved; the tolerances are those of the refinement
_SEARCH = ToTolerance("anderson(depth=20)", tol=1e-6, max_layers=120)
_RULE = Implicit("auto", tol=1e-3, max_steps=120)


class _Ended(Exception):  # noqa: N818 (it is no error)
    """The descent has come far enough, or can go no further."""


def reached_by_exact_gradients(task: BilevelTask) -> dict[str, Tensor]:
    """θ by L-BFGS from that of ``task``, in the dtype of it.

    torch's L-BFGS with a strong Wolfe line search, so without a learning rate, on F of the first
    ``IMAGES`` training images. Each gradient is refined to ``GRADIENT_TOL``, state and adjoint from
    where they were left; where there is none, the line search goes back. It ends where ‖∇F‖ has
    fallen to ``FAR_ENOUGH`` of that at the start, or after ``EVALUATIONS`` of them; θ of the
    smallest F counts. A function of ``task`` alone. Raises DivergedError where there is no gradient
    at the start.
    """
    descent = _Descent(copy.deepcopy(task.lower), task.train[:IMAGES].parts)
    optimizer = torch.optim.LBFGS(
        descent.theta.values(),
        max_iter=EVALUATIONS,
        max_eval=EVALUATIONS,
        line_search_fn="strong_wolfe",
    )
    with suppress(_Ended):
        optimizer.step(descent.gradient)
    if descent.best is None:
        raise DivergedError("exact gradients lead nowhere: there is none at the start")
    return descent.best


@dataclass
class _Descent:
    """F on ``parts`` at θ of ``lower``, and the best θ so far."""

    lower: LowerLevelProblem
    parts: tuple[Batch, ...]
    best: dict[str, Tensor] | None = None
    least: float = inf
    first: float = 0.0
    largest: float = 0.0
    evaluations: int = 0
    left: list[Hypergradient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.theta = self.lower.theta()

    def gradient(self) -> Tensor:
        """F, its gradient put where optimizers look for it."""
        found = self._estimate()
        size = float(flat(found.gradient).norm())
        exact = found.state_residual <= NO_EQUILIBRIUM and isfinite(float(found.loss))
        self.evaluations += 1
        if not (exact and isfinite(size)):
            if self.best is None or self.evaluations >= EVALUATIONS:
                raise _Ended
            return self._back()
        if float(found.loss) < self.least:
            self.least = float(found.loss)
            self.best = {name: p.detach().clone() for name, p in self.theta.items()}
        self.first = self.first or size
        if size <= FAR_ENOUGH * self.first or self.evaluations >= EVALUATIONS:
            raise _Ended
        self.largest = max(self.largest, float(found.loss))
        for parameter, entry in zip(self.theta.values(), found.gradient, strict=True):
            parameter.grad = entry.contiguous()
        return found.loss

    def _back(self) -> Tensor:
        """More than F was anywhere, the last gradient turned around: a line search goes back."""
        self.left = []
        for parameter in self.theta.values():
            parameter.grad = -parameter.grad
        return torch.tensor(10 * self.largest, dtype=next(iter(self.theta.values())).dtype)

    def _estimate(self) -> Hypergradient:
        found = []
        for part, before in zip(self.parts, self.left or [None] * len(self.parts), strict=True):
            lower = self.lower.at(part.operator)
            exact = refined_gradient(
                EquilibriumLoss.of_lower_level(lower, part),
                before.state if before else lower.init(part.observation).detach(),
                before.adjoint if before else None,
                gradient_tol=GRADIENT_TOL,
                polish=False,
                search=_SEARCH,
                rule=_RULE,
            )
            found.append(exact)
        self.left = found
        total = sum(map(len, self.parts))
        return mean_of(found, [len(part) / total for part in self.parts])


def read(path: Path) -> dict[str, Tensor] | None:
    """θ that ``write`` has put there, on the CPU; None where there is none."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def write(path: Path, theta: dict[str, Tensor]) -> None:
    """Put ``theta`` into the file at ``path``, whole or not at all; no error where it cannot be."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{id(theta)}")
        save_file({name: value.cpu().contiguous() for name, value in theta.items()}, unfinished)
        unfinished.replace(path)
