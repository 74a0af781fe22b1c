"""What is measured of a method and of the θ it has reached: each family of columns by one function.

Nothing here changes the method or the task. A column that could not be measured is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from benchmark.gradients.result import Hypergradient
from benchmark.imaging import metrics
from benchmark.imaging.extra_metrics import unmeasured
from benchmark.imaging.images import to_uint8
from benchmark.measure.cost import Cost, budget, cost, of_the_batch
from benchmark.measure.counting import CountedProblem
from benchmark.measure.failure import DivergedError, Outcome, attempt, require_finite
from benchmark.measure.handed import (
    of_images,
    of_lower,
    require_estimate,
    require_theta,
    states_of,
    untouched,
)
from benchmark.measure.reference import Reference
from benchmark.measure.truth import Accuracy, Theta, Truth, at_theta
from benchmark.problems.bilevel import Batch, BilevelTask, Images, mean_over
from benchmark.problems.lower_level import LowerLevelProblem

#: entries of θ up to which a row holds them all
MOST_LEARNED = 256


class Deploys(Protocol):
    """What is asked of every method."""

    def deployed(self, lower: LowerLevelProblem, y: Tensor) -> Tensor:
        """Its own reconstruction's state for the observations ``y``, without a graph."""


@runtime_checkable
class EstimatesGradients(Deploys, Protocol):
    """What is asked of a method that estimates hypergradients."""

    def hypergradient_on_probe(self, lower: LowerLevelProblem, batch: Images) -> Hypergradient:
        """The estimate that the next outer step would compute, without effect."""


@dataclass(frozen=True)
class Deployed:
    """Of the method's own reconstructions of the test set, in the dtype of the run.

    test_psnr_deployed : dB; the first test image as reconstructed, as first estimated from its
    observation, and itself: arrays (H, W, 3) of bytes.
    """

    test_psnr_deployed: float = nan
    reconstruction: np.ndarray | None = None
    observation: np.ndarray | None = None
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class ReferenceQuality:
    """Of the reference hypergradient at θ.

    reference_residual : how far to trust ``gradient_error`` and ``gradient_cosine``;
    reference_error : estimate of the relative error of the reference itself, the error bar of
    ``gradient_error``; contraction : the local rate of the layer at x*.
    """

    reference_residual: float = nan
    reference_error: float = nan
    contraction: float = nan


@dataclass(frozen=True)
class Estimate:
    """Of one hypergradient of the method on the probe.

    gradient_error : ‖ĝ − ∇F‖/‖∇F‖; gradient_cosine : of the angle between them (both empty where
    the reference cannot be trusted); gradient_error_estimate : the method's own, where it makes
    one; state_residual : ‖T(x̂) − x̂‖/‖x̂‖; layer_evals, vjp_evals :
    calls of T, and products with its Jacobian transposed; where images are of several shapes or
    operators, the means of those of each.
    """

    gradient_error: float = nan
    gradient_cosine: float = nan
    gradient_error_estimate: float = nan
    state_residual: float = nan
    layer_evals: float = nan
    vjp_evals: float = nan


def evaluate(
    method: Deploys,
    theta: Theta,
    *,
    truth: Truth,
    task: BilevelTask,
    training: Outcome,
    last: bool,
    seconds: float = 0.0,
) -> dict[str, object]:
    """All columns of a row: those above, ``status``, ``message``, and ``learned``: θ itself where
    it is small, as JSON: for each parameter the list of its entries (else empty).

    ``truth`` is that of ``task``. Costs and pictures are taken in the ``last`` row of a run alone;
    timing them takes a share of the ``seconds`` that training took.
    What fails leaves its columns empty and its status in the row; the rest is measured. A metric of
    ``truth`` that fails leaves its column ``metric_NAME`` empty, and says why in the message of a
    row that is "ok" all the same.
    """
    extra, row = unmeasured(truth.metrics), {}
    outcomes = [training]

    def measure(call: Callable[[], object]) -> None:
        outcomes.append(attempt(call))
        if outcomes[-1].ok:
            row.update(vars(outcomes[-1].value))

    if all(bool(value.isfinite().all()) for value in theta.values()):
        measure(lambda: truth.accuracy(theta))
        if outcomes[-1].ok:
            extra = truth.extra(theta)
        measure(lambda: deployed(method, task, theta, pictures=last))
        measure(lambda: reference_quality(truth.reference(theta)))
        if isinstance(method, EstimatesGradients):
            counted = CountedProblem(at_theta(task.lower, theta))
            measure(lambda: estimate(method, task, counted, truth.reference(theta)))
            if last:
                own = method.hypergradient_on_probe
                measure(lambda: cost(own, task, counted, budget=budget(seconds)))
    else:
        outcomes.append(Outcome("diverged", "θ is not finite"))
    worst = next((o for o in outcomes if not o.ok), Outcome(message=extra.message))
    return unknown(truth, worst) | row | extra.columns() | {"learned": _as_text(theta)}


def unknown(truth: Truth, outcome: Outcome) -> dict[str, object]:
    """The columns of ``evaluate`` where nothing is known but the ``outcome``."""
    row: dict[str, object] = {}
    for part in (Accuracy(), Deployed(), ReferenceQuality(), Estimate(), Cost()):
        row |= vars(part)
    ends = {"status": outcome.status, "message": outcome.message, "learned": None}
    return row | unmeasured(truth.metrics).columns() | ends


@torch.no_grad()
def deployed(method: Deploys, task: BilevelTask, theta: Theta, *, pictures: bool) -> Deployed:
    """The quality of the method's own reconstructions of the test set, and one to look at."""
    lower, shown = at_theta(task.lower, theta), []

    def quality(at: LowerLevelProblem, part: Batch) -> float:
        y, truth = part.observation, part.truth
        image = at.reconstruct(method.deployed(at, y))
        if not image.isfinite().all():
            raise DivergedError("the method's reconstruction of the test set is not finite")
        if pictures and not shown:
            shown.extend(batch[0] for batch in (image, at.reconstruct(at.init(y)), truth))
        return metrics.psnr(image, truth)

    found = mean_over(lower, task.test, quality)
    require_theta(lower, theta)
    return Deployed(found, *map(to_uint8, shown))


def reference_quality(reference: Reference) -> ReferenceQuality:
    """How far the reference can be trusted."""
    return ReferenceQuality(reference.residual, reference.error, reference.contraction)


def estimate(
    method: EstimatesGradients,
    task: BilevelTask,
    counted: CountedProblem,
    reference: Reference,
) -> Estimate:
    """One hypergradient of the method on the probe against ``reference``; ``counted`` is new."""
    theta = {name: p.detach().clone() for name, p in counted.lower.theta().items()}
    parts = task.probe.parts
    with untouched(of_lower(counted.lower, theta=True) | of_images("the probe", task.probe)):
        found = method.hypergradient_on_probe(counted, task.probe)
    require_theta(counted.lower, theta)
    require_estimate(found, theta)
    require_finite(found, when="on the probe")
    flat = torch.cat([g.flatten() for g in found.gradient])
    states = states_of(found, counted.lower, task.probe)
    with torch.no_grad():
        images = [
            counted.lower.at(part.operator).layer(part.observation)(x)
            for part, x in zip(parts, states, strict=True)
        ]
    errors = (
        metrics.gradient_error(flat, reference.gradient),
        metrics.gradient_cosine(flat, reference.gradient),
    )
    return Estimate(
        *(errors if reference.trusted else (nan, nan)),
        gradient_error_estimate=found.error,
        state_residual=metrics.relative_residual(_flat(images), _flat(states)),
        layer_evals=of_the_batch(counted.layer_evals, parts),
        vjp_evals=of_the_batch(counted.vjp_evals, parts),
    )


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All entries, or the one tensor as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat([t.flatten() for t in tensors])


def _as_text(theta: Theta) -> str | None:
    if sum(value.numel() for value in theta.values()) > MOST_LEARNED:
        return None
    return json.dumps({name: value.flatten().tolist() for name, value in theta.items()})
