"""The columns of a row that are measured, where the loop runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import final

from torch import Tensor

from benchmark.measure.common import at_common_theta, nowhere
from benchmark.measure.evaluation import Deploys, Truth, evaluate, unknown
from benchmark.measure.failure import Outcome
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

    def __call__(
        self,
        theta: Mapping[str, Tensor],
        method: Deploys,
        outer_step: int,
        training: Outcome,
        training_layer_evals: float,
        training_vjp_evals: float,
        last: bool,
    ) -> dict[str, object]:
        """The columns of ``method`` at ``theta``, its last step having come out as ``training``."""
        options = {"truth": self.truth, "task": self.task, "training": training, "last": last}
        columns = evaluate(method, theta, **options)
        ended = ("finished" if training.ok else "error") if last else ""
        common = nowhere()
        if last:
            common = at_common_theta(method, truth=self.truth, task=self.task)
        return {
            **columns,
            **common,
            "outer_step": outer_step,
            "training_layer_evals": training_layer_evals,
            "training_vjp_evals": training_vjp_evals,
            "ended": ended,
        }

    def failed(self, outcome: Outcome, outer_step: int) -> dict[str, object]:
        """The columns where the loop itself is gone, and ``outcome`` says why."""
        columns = unknown(self.truth, outcome)
        why = {"timeout": "time limit", "interrupted": "interrupted"}
        ended = why.get(outcome.status, "error")
        return {
            **columns,
            **nowhere(),
            "outer_step": outer_step,
            "training_layer_evals": nan,
            "training_vjp_evals": nan,
            "ended": ended,
        }
