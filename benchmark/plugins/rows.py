"""The columns of a row that are measured, where the loop runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import nan
from typing import final

from torch import Tensor

from benchmark.measure.common import at_common_theta, nowhere
from benchmark.measure.device import numerics
from benchmark.measure.evaluation import Deploys, evaluate, unknown
from benchmark.measure.failure import Outcome, attempt
from benchmark.measure.handed import digests, of_images, require_same
from benchmark.measure.truth import Truth
from benchmark.problems.bilevel import BilevelTask


@final
@dataclass(frozen=True)
class Rows:
    """What ``OuterLoop`` is evaluated by: the columns of ``benchmark.measure.evaluation``, and how
    far the loop has come; ``ended`` says in the last row why it did: "finished",
    "error", "time limit" or "interrupted".

    truth : of ``task``, the task of the methods.
    """

    truth: Truth
    task: BilevelTask
    _digests: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_digests", digests(self._judged_by()))

    def _judged_by(self) -> dict[str, Tensor]:
        exact = of_images("the test set in float64", self.truth.task.test)
        return of_images("the test set", self.task.test) | exact

    def __call__(
        self,
        theta: Mapping[str, Tensor],
        method: Deploys,
        outer_step: int,
        training: Outcome,
        training_layer_evals: float,
        training_vjp_evals: float,
        last: bool,
        seconds: float = 0.0,
    ) -> dict[str, object]:
        """The columns of ``method`` at ``theta``, its last step having come out as ``training``,
        after ``seconds`` of training.
        """
        task = replace(self.task, probe=self.task.probe[:])  # handed out: a copy
        options = {"truth": self.truth, "task": task}
        intact = attempt(lambda: require_same(self._digests, digests(self._judged_by())))
        if not intact.ok:
            return self.failed(intact, outer_step)
        columns = evaluate(method, theta, training=training, last=last, seconds=seconds, **options)
        common = at_common_theta(method, seconds=seconds, **options) if last else nowhere()
        ended = ("finished" if training.ok else "error") if last else ""
        return {
            **columns,
            **common,
            "outer_step": outer_step,
            "training_layer_evals": training_layer_evals,
            "training_vjp_evals": training_vjp_evals,
            **_while_training(method),
            **numerics(),
            "ended": ended,
        }

    def failed(self, outcome: Outcome, outer_step: int) -> dict[str, object]:
        """The columns where the loop itself is gone, and ``outcome`` says why."""
        columns = unknown(self.truth, outcome) | {"left_behind": ""}
        why = {"timeout": "time limit", "interrupted": "interrupted"}
        ended = why.get(outcome.status, "error")
        return {
            **columns,
            **nowhere(),
            "outer_step": outer_step,
            "training_layer_evals": nan,
            "training_vjp_evals": nan,
            **_while_training(None),
            **numerics(),
            "ended": ended,
        }


def _while_training(method: object) -> dict[str, float]:
    """The worst relative residuals that the solvers of a method have left while it trained."""
    worst = getattr(getattr(method, "carried", None), "worst", {})
    names = ("state_residual", "adjoint_residual")
    return {f"training_{name}": worst.get(name, nan) for name in names}
