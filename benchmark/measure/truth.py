"""What is true at a θ, whichever method reached it: in float64, computed once for each θ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmark.imaging import metrics
from benchmark.imaging.extra_metrics import Measured, Metric, measure_all, unmeasured
from benchmark.measure import exact_descent
from benchmark.measure.failure import DivergedError
from benchmark.measure.jacobian import jacobian_norm
from benchmark.measure.kept import MOST_NUMBERS, Kept, digest_of
from benchmark.measure.reference import (
    MAX_LAYERS,
    Reference,
    TrueEquilibrium,
    reference_hypergradient,
    true_equilibrium,
)
from benchmark.problems.bilevel import Batch, BilevelTask, mean_over, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem, set_theta

V = TypeVar("V")

#: the learned tensors by name
Theta = Mapping[str, Tensor]
#: relative residuals to which the equilibria behind F and the PSNR are solved: at first, and at
#: most, where the figures have not settled before
FIRST_TOL, EQUILIBRIUM_TOL = 1e-5, 1e-8
#: relative residual above which a state is no equilibrium to judge θ by
NO_EQUILIBRIUM = 1e-4
#: of F, relative, and in dB of each PSNR: what a decade more may move them by to be settled, ten
#: times what is then wrong with them
SETTLED = (3e-4, 1e-2)


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
class Judged:
    """Of θ alone: what is always measured, and the metrics that were asked for."""

    accuracy: Accuracy
    extra: Measured


class Truth:
    """What is true at a θ whichever method reached it, in float64; computed once for each θ.

    Each of it is a function of the task and θ alone, whatever was asked for before, so that a run
    that is resumed has the rows of one that is not.
    """

    def __init__(
        self, task: BilevelTask, metrics: Sequence[Metric] = (), *, enough: float = 0.0
    ) -> None:
        """``task`` in float64, on the device of the run; ``metrics`` of its test set; ``enough`` of
        the reference's own error, see ``reference_hypergradient``.
        """
        self.task, self.metrics, self.enough = task, metrics, enough
        self._shared, self._alone = _training_parts(task)
        self._judged: Kept[Judged] = Kept(len(task.test))
        size = sum(value.numel() for value in task.lower.theta().values())
        self._reference: Kept[Reference] = Kept(size)
        self._reached: Kept[dict[str, Tensor]] = Kept(size)
        self._norm: Kept[float] = Kept(1)
        #: x* of the probe: what F and the reference have in common, at the last θ
        self._on_probe: Kept[list[TrueEquilibrium]] = Kept(MOST_NUMBERS)
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
            self._reference,
            theta,
            lambda lower: reference_hypergradient(
                lower,
                self.task.probe,
                enough=self.enough,
                starts=[found.x for found in self._probe_at(lower)],
            ),
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

    def _probe_at(self, lower: LowerLevelProblem) -> list[TrueEquilibrium]:
        """x* of each part of the probe, by itself."""
        return self._on_probe.once(
            digest_of(lower.theta()),
            lambda: _equilibria(lower, self.task.probe.parts, tol=EQUILIBRIUM_TOL),
        )

    @torch.no_grad()
    def _judge(self, lower: LowerLevelProblem) -> Judged:
        """Each equilibrium is solved on, by a decade at a time, until the figures are settled: what
        they still moved by is ten times the error that is left.
        """
        shared = self._probe_at(lower) if self._shared else []
        parts, found, before, tol = (*self._alone, *self.task.test.parts), None, None, FIRST_TOL
        while True:
            found = _equilibria(lower, parts, tol=tol, before=found)
            residual = float(np.max([one.residual for one in (*shared, *found)]))  # NaN, not max()
            if not residual <= NO_EQUILIBRIUM:
                return Judged(Accuracy(equilibrium_residual=residual), unmeasured(self.metrics))
            figures = self._figures(lower, [one.x for one in (*shared, *found)])
            last = tol <= EQUILIBRIUM_TOL or residual > 10 * tol
            if last or (before is not None and figures.settled(before)):
                return self._found(lower, figures, residual)
            before, tol = figures, max(EQUILIBRIUM_TOL, tol / 10)

    def _figures(self, lower: LowerLevelProblem, states: Sequence[Tensor]) -> _Figures:
        """Of the equilibria of the training set's parts, then the test set's."""
        training = (*self._shared, *self._alone)
        losses = [
            (len(part), float(upper_loss(lower.at(part.operator), x, part)))
            for part, x in zip(training, states[: len(training)], strict=True)
        ]
        test = self.task.test.parts
        images = [
            lower.at(part.operator).reconstruct(x)
            for part, x in zip(test, states[len(training) :], strict=True)
        ]
        of_each = zip(images, test, strict=True)
        psnr = torch.cat([metrics.psnr_of_each(image, part.truth) for image, part in of_each])
        number = len(self.task.train)
        value = losses[0][1] if len(losses) == 1 else sum(n * loss for n, loss in losses) / number
        return _Figures(value, psnr.cpu().numpy(), images)

    def _found(self, lower: LowerLevelProblem, figures: _Figures, residual: float) -> Judged:
        test = self.task.test
        images = dict(zip((part.operator for part in test.parts), figures.images, strict=True))

        def judged(metric: Callable[[Tensor, Tensor], float]) -> float:
            return mean_over(lower, test, lambda _, part: metric(images[part.operator], part.truth))

        accuracy = Accuracy(
            value=figures.value,
            test_psnr=judged(metrics.psnr),
            test_psnr_images=figures.psnr,
            test_ssim=judged(metrics.ssim),
            equilibrium_residual=residual,
        )
        pairs = [(images[part.operator], part.truth) for part in test.parts]
        return Judged(accuracy, measure_all(self.metrics, pairs))


@dataclass(frozen=True)
class _Figures:
    """F, the PSNR of each test image, and these images."""

    value: float
    psnr: np.ndarray
    images: list[Tensor]

    def settled(self, before: _Figures) -> bool:
        """Whether they are ``before``'s, up to ``SETTLED`` of F and so many dB."""
        of_value, of_psnr = SETTLED
        near = abs(self.value - before.value) <= of_value * abs(self.value)
        moved = np.abs(self.psnr - before.psnr)  # of two infinite ones no number
        return near and bool(((moved <= of_psnr) | (self.psnr == before.psnr)).all())


def _equilibria(
    lower: LowerLevelProblem,
    parts: Sequence[Batch],
    *,
    tol: float,
    before: Sequence[TrueEquilibrium] | None = None,
) -> list[TrueEquilibrium]:
    """Of each of ``parts``, on from ``before``."""
    starts = [None] * len(parts) if before is None else [one.x for one in before]
    return [
        true_equilibrium(lower.at(part.operator), part.observation, tol=tol, x0=start)
        for part, start in zip(parts, starts, strict=True)
    ]


def _training_parts(task: BilevelTask) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    """The parts of the probe, and those of the other training images; none, and all of them, where
    the probe is not of the training set.
    """
    of_probe = {i for part in task.probe.parts for i in part.index or ()}
    everything = [i for part in task.train.parts for i in part.index or ()]
    if not of_probe or not of_probe <= set(everything) or len(everything) != len(task.train):
        return (), task.train.parts
    others = [k for k, i in enumerate(everything) if i not in of_probe]
    return task.probe.parts, task.train[others].parts if others else ()


def at_theta(lower: LowerLevelProblem, theta: Theta) -> LowerLevelProblem:
    """A copy of ``lower`` at ``theta``."""
    lower = copy.deepcopy(lower)
    set_theta(lower, theta)
    return lower
