"""What is measured of a method and of the θ it has reached: each family of columns by one function.

Nothing here changes the method or the task. A column that could not be measured is NaN.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from benchmark.gradients.result import Hypergradient
from benchmark.imaging import metrics
from benchmark.imaging.extra_metrics import Measured, Metric, measure_all, unmeasured
from benchmark.imaging.images import to_uint8
from benchmark.measure import exact_descent
from benchmark.measure.cost import Cost, cost, of_the_batch
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
from benchmark.measure.jacobian import jacobian_norm
from benchmark.measure.kept import Kept, digest_of
from benchmark.measure.reference import (
    MAX_LAYERS,
    Reference,
    reference_hypergradient,
    true_equilibrium,
)
from benchmark.problems.bilevel import Batch, BilevelTask, Images, mean_over, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem, set_theta

V = TypeVar("V")

#: the learned tensors by name
Theta = Mapping[str, Tensor]
#: entries of θ up to which a row holds them all
MOST_LEARNED = 256
#: relative residual to which the equilibria behind F and the PSNR are solved
EQUILIBRIUM_TOL = 1e-8
#: relative residual above which a state is no equilibrium to judge θ by
NO_EQUILIBRIUM = 1e-4


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
class Accuracy:
    """Of θ alone, the same for every method, in float64 at the true equilibrium.

    value : F(θ) on the training set; test_psnr : dB; test_ssim : in [0, 1]; equilibrium_residual :
    the larger relative residual of the two equilibria; test_psnr_images : of each test image, dB.
    Where there is no equilibrium to be found they are empty, and the row's status ``diverged``.
    """

    value: float = nan
    test_psnr: float = nan
    test_ssim: float = nan
    equilibrium_residual: float = nan
    test_psnr_images: np.ndarray | None = None


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


@dataclass(frozen=True)
class Judged:
    """Of θ alone: what is always measured, and the metrics that were asked for."""

    accuracy: Accuracy
    extra: Measured


class Truth:
    """What is true at a θ whichever method reached it, in float64; computed once for each θ."""

    def __init__(self, task: BilevelTask, metrics: Sequence[Metric] = ()) -> None:
        """``task`` in float64, on the device of the run; ``metrics`` of its test set."""
        self.task, self.metrics = task, metrics
        self._judged: Kept[Judged] = Kept(len(task.test))
        size = sum(value.numel() for value in task.lower.theta().values())
        self._reference: Kept[Reference] = Kept(size)
        self._reached: Kept[dict[str, Tensor]] = Kept(size)
        self._norm: Kept[float] = Kept(1)
        self._computed: dict[str, Kept] = {
            "judged": self._judged,
            "reference": self._reference,
            "reached": self._reached,
            "norm": self._norm,
        }
        #: where θ that exact gradients reach is kept, if anywhere, for other runs of the same task
        self.kept_in: Path | None = None

    def known(self) -> set[tuple[str, bytes]]:
        """Names of what has been computed so far."""
        return {(kind, key) for kind, of in self._computed.items() for key in of}

    def taught(self, names: set[tuple[str, bytes]]) -> dict[tuple[str, bytes], object]:
        """What goes by these names, for the ``learn`` of another."""
        return {(kind, key): self._computed[kind][key] for kind, key in names}

    def learn(self, found: Mapping[tuple[str, bytes], object]) -> None:
        """Take over what another has computed for the same task."""
        for (kind, key), value in found.items():
            self._computed[kind].put(key, value)

    def accuracy(self, theta: Theta) -> Accuracy:
        """F on the training set and the metrics on the test set, both at the true equilibrium.

        Raises DivergedError where it cannot be found.
        """
        found = self._once(self._judged, theta, self._judge).accuracy
        if not found.equilibrium_residual <= NO_EQUILIBRIUM:
            raise DivergedError(
                "the layer has no equilibrium within reach: relative residual "
                f"{found.equilibrium_residual:.1e} after {2 * MAX_LAYERS} layers and more, "
                f"expected at most {NO_EQUILIBRIUM:g}"
            )
        return found

    def extra(self, theta: Theta) -> Measured:
        """``metrics`` on the test set at the true equilibrium; empty where ``accuracy`` raises."""
        return self._once(self._judged, theta, self._judge).extra

    def reference(self, theta: Theta) -> Reference:
        """The reference hypergradient on the probe."""
        return self._once(
            self._reference, theta, lambda lower: reference_hypergradient(lower, self.task.probe)
        )

    @property
    def start(self) -> Theta:
        """θ where all methods start."""
        return {name: p.detach() for name, p in self.task.lower.theta().items()}

    def reached(self) -> Theta:
        """θ that exact gradients reach from there (``benchmark.measure.exact_descent``).

        Raises DivergedError where there are none.
        """

        def compute() -> dict[str, Tensor]:
            found = None if self.kept_in is None else exact_descent.read(self.kept_in)
            if found is None:
                found = exact_descent.reached_by_exact_gradients(self.task)
                if self.kept_in is not None:
                    exact_descent.write(self.kept_in, found)
            return {name: value.to(self.task.device) for name, value in found.items()}

        return self._reached.once(b"", compute)

    def norm(self) -> float:
        """‖J‖ on the probe at the θ where all methods start (``benchmark.measure.jacobian``)."""
        return self._once(
            self._norm, self.start, lambda lower: jacobian_norm(lower, self.task.probe)
        )

    def _once(self, known: Kept[V], theta: Theta, compute: Callable[[LowerLevelProblem], V]) -> V:
        return known.once(digest_of(theta), lambda: compute(at_theta(self.task.lower, theta)))

    @torch.no_grad()
    def _judge(self, lower: LowerLevelProblem) -> Judged:
        train, test = (
            {
                part.operator: true_equilibrium(
                    lower.at(part.operator), part.observation, tol=EQUILIBRIUM_TOL
                )
                for part in batch.parts
            }
            for batch in (self.task.train, self.task.test)
        )
        residuals = [found.residual for found in (*train.values(), *test.values())]
        residual = float(np.max(residuals))  # not max(), which can hide what is no number
        if not residual <= NO_EQUILIBRIUM:
            return Judged(Accuracy(equilibrium_residual=residual), unmeasured(self.metrics))
        images = {k: lower.at(k).reconstruct(found.x) for k, found in test.items()}

        def loss(at: LowerLevelProblem, part: Batch) -> float:
            return float(upper_loss(at, train[part.operator].x, part))

        def judged(metric: Callable[[Tensor, Tensor], float]) -> float:
            return mean_over(
                lower, self.task.test, lambda _, part: metric(images[part.operator], part.truth)
            )

        each = [
            metrics.psnr_of_each(images[part.operator], part.truth) for part in self.task.test.parts
        ]
        accuracy = Accuracy(
            value=mean_over(lower, self.task.train, loss),
            test_psnr=judged(metrics.psnr),
            test_psnr_images=torch.cat(each).cpu().numpy(),
            test_ssim=judged(metrics.ssim),
            equilibrium_residual=residual,
        )
        pairs = [(images[part.operator], part.truth) for part in self.task.test.parts]
        return Judged(accuracy, measure_all(self.metrics, pairs))


def evaluate(
    method: Deploys,
    theta: Theta,
    *,
    truth: Truth,
    task: BilevelTask,
    training: Outcome,
    last: bool,
) -> dict[str, object]:
    """All columns of a row: those above, ``status``, ``message``, and ``learned``: θ itself where
    it is small, as JSON: for each parameter the list of its entries (else empty).

    ``truth`` is that of ``task``. Costs and pictures are taken in the ``last`` row of a run alone.
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
                measure(lambda: cost(method.hypergradient_on_probe, task, counted))
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


def at_theta(lower: LowerLevelProblem, theta: Theta) -> LowerLevelProblem:
    """A copy of ``lower`` at ``theta``."""
    lower = copy.deepcopy(lower)
    set_theta(lower, theta)
    return lower
