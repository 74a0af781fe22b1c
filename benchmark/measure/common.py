"""Every method at the same θ: where all start, and where exact gradients lead from there.

At its own final θ each method meets another problem, and errors side by side are of different
things. Nothing here changes the method or the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import nan
from typing import Protocol, runtime_checkable

from benchmark.measure import cost, garbage, memory, timing
from benchmark.measure.counting import CountedProblem
from benchmark.measure.evaluation import EstimatesGradients, estimate
from benchmark.measure.failure import attempt
from benchmark.measure.truth import Theta, Truth, at_theta
from benchmark.options.columns import COMMON
from benchmark.problems.bilevel import BilevelTask, Images
from benchmark.problems.lower_level import LowerLevelProblem

#: estimates on the way to θ, of which what is carried over is left: at θ + (θ⁰ − θ)/2ᵏ, k = 1 … 5
BEFORE = 5
#: what the timing at one θ may take of what it may at a method's own
SHARE = 0.2


@runtime_checkable
class Carries(Protocol):
    """What a method offers that may carry something from one estimate to the next."""

    def carrying(
        self, before: Iterable[LowerLevelProblem], batch: Images
    ) -> AbstractContextManager[bool]:
        """Within it, it carries what estimates at the θ of ``before`` leave, and nothing else."""


@dataclass(frozen=True)
class AtTheta:
    """Of one hypergradient of the method on the probe, at a θ that is the same for all methods.

    gradient_error, gradient_cosine, layer_evals, vjp_evals : as in ``evaluation.Estimate``;
    gradient_seconds, peak_memory_mib : as in ``cost.Cost``; where one takes too long, of that one.
    """

    gradient_error: float = nan
    gradient_cosine: float = nan
    layer_evals: float = nan
    vjp_evals: float = nan
    gradient_seconds: float = nan
    peak_memory_mib: float = nan


def nowhere() -> dict[str, object]:
    """The columns of ``at_common_theta`` where nothing is known: ``COMMON``, and no message."""
    return {**dict.fromkeys(COMMON, nan), "common_message": ""}


@garbage.only_of_what_is_new()
def at_common_theta(
    method: object, *, truth: Truth, task: BilevelTask, seconds: float = 0.0
) -> dict[str, object]:
    """The columns of ``nowhere``; ``common_message`` says why some are empty.

    Empty for methods that estimate no gradients. What fails at a common θ is no failure of the run.
    Cost: the reference at both θ and, once for a task, the descent of
    ``benchmark.measure.exact_descent``; a dozen hypergradients and what their timing takes, a share
    of the ``seconds`` that training took.
    """
    row, given = nowhere(), {"truth": truth, "task": task, "budget": SHARE * cost.budget(seconds)}
    if not isinstance(method, EstimatesGradients):
        return row

    def measured(call: Callable[[], dict[str, float]]) -> None:
        outcome = attempt(call)
        row.update(outcome.value or {})
        if not outcome.ok:
            row["common_message"] = row["common_message"] or outcome.message

    measured(lambda: _cold(method, truth.start, "start", **given))
    measured(lambda: {"jacobian_norm_start": truth.norm()})
    measured(lambda: _cold(method, truth.reached(), "reached", **given))
    if row["common_message"] == "":
        cold = {name: row[f"{name}_reached"] for name in vars(AtTheta())}
        measured(lambda: _warm(method, cold, **given))
    return row


def _cold(
    method: EstimatesGradients,
    theta: Theta,
    place: str,
    *,
    truth: Truth,
    task: BilevelTask,
    budget: float,
) -> dict[str, float]:
    theta = _rounded(theta, task)
    reference = truth.reference(theta)
    with _carrying(method, [], task.probe):
        found = _measured(method, theta, truth=truth, task=task, budget=budget)
    return _named(found, place) | {
        f"gradient_norm_{place}": float(reference.gradient.norm()),
        f"reference_residual_{place}": reference.residual,
    }


def _warm(
    method: EstimatesGradients,
    cold: dict[str, float],
    *,
    truth: Truth,
    task: BilevelTask,
    budget: float,
) -> dict[str, float]:
    """With what is carried; where nothing is, ``cold``."""
    theta, start = _rounded(truth.reached(), task), truth.start
    before = (
        at_theta(task.lower, {n: value + (start[n] - value) / 2**k for n, value in theta.items()})
        for k in range(1, BEFORE + 1)
    )
    with _carrying(method, before, task.probe) as anything:
        given = {"truth": truth, "task": task, "budget": budget}
        found = _measured(method, theta, **given) if anything else AtTheta(**cold)
    return _named(found, "reached_warm")


def _carrying(
    method: object, before: Iterable[LowerLevelProblem], batch: Images
) -> AbstractContextManager[bool]:
    if isinstance(method, Carries):
        return method.carrying(before, batch)
    return nullcontext(False)


def _measured(
    method: EstimatesGradients, theta: Theta, *, truth: Truth, task: BilevelTask, budget: float
) -> AtTheta:
    lower = at_theta(task.lower, theta)

    def hypergradient() -> object:
        return method.hypergradient_on_probe(lower, task.probe)

    mib = nan if lower.compiled else memory.live_memory(hypergradient)
    seconds = timing.elapsed(hypergradient, task.device)
    if seconds < budget:
        timed = timing.seconds({"gradient": hypergradient}, task.device, budget=budget)
        seconds = timed["gradient"].seconds
    found = estimate(method, task, CountedProblem(lower), truth.reference(theta))
    return AtTheta(
        gradient_error=found.gradient_error,
        gradient_cosine=found.gradient_cosine,
        layer_evals=found.layer_evals,
        vjp_evals=found.vjp_evals,
        gradient_seconds=seconds,
        peak_memory_mib=mib,
    )


def _named(found: AtTheta, place: str) -> dict[str, float]:
    return {f"{name}_{place}": value for name, value in vars(found).items()}


def _rounded(theta: Theta, task: BilevelTask) -> Theta:
    """``theta`` as it is in the dtype of the run: the reference is to be at the same."""
    return {name: theta[name].to(p.dtype) for name, p in task.lower.theta().items()}
