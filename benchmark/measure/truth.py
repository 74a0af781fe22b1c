"""What is true at a θ, whichever method reached it: in float64, computed once for each θ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmark.imaging import metrics
from benchmark.imaging.extra_metrics import (
    Measured,
    Metric,
    mean_of_measured,
    measure_all,
    unmeasured,
)
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
from benchmark.problems.bilevel import Batch, BilevelTask, StreamedBatch, upper_loss
from benchmark.problems.lower_level import LowerLevelProblem, set_theta

V = TypeVar("V")

#: the learned tensors by name
Theta = Mapping[str, Tensor]
#: relative residuals to which the equilibria behind F and the PSNR are solved: at first, and at
#: most, where the figures have not settled before
FIRST_TOL, EQUILIBRIUM_TOL = 1e-4, 1e-8
#: relative residual above which a state is no equilibrium to judge θ by
NO_EQUILIBRIUM = 1e-4
#: of the losses of the training images, relative to F, and in dB of each PSNR: what a decade more
#: may move them by to be settled, ten times what is then wrong with them
SETTLED = (3e-4, 1e-2)


@dataclass(frozen=True)
class Accuracy:
    """Of θ alone, the same for every method, in float64 at the true equilibrium.

    value : F(θ) on the training set; test_psnr : dB; test_ssim : in [0, 1]; equilibrium_residual :
    the largest relative one, from 1e-5 on by the layer in the dtype of the run; test_psnr_images :
    of each test image, dB. Empty, the row's status ``diverged``, where there is no equilibrium.
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
    """What is true at a θ, computed once: a function of the task and θ alone, so that a run that is
    resumed has the rows of one that is not.
    """

    def __init__(
        self,
        task: BilevelTask,
        metrics: Sequence[Metric] = (),
        *,
        enough: float = 0.0,
        descends: BilevelTask | None = None,
    ) -> None:
        """``task`` in float64, on the device of the run; ``metrics`` of its test set; ``enough`` of
        the reference's own error, see ``reference_hypergradient``; ``descends`` : the task as exact
        gradients descend on it, in the dtype of the run; None: ``task``.
        """
        self.task, self.metrics, self.enough = task, metrics, enough
        self.descends = descends or task
        #: of residuals that are larger than its rounding, of the rate and of the norm
        self.judged_in = self.descends.probe.parts[0].truth.dtype
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
                judged_in=self.judged_in,
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
                found = exact_descent.reached_by_exact_gradients(self.descends)
                if self.kept_in is not None:
                    exact_descent.write(self.kept_in, found)
            return {n: value.to(self.task.device, torch.float64) for n, value in found.items()}

        return self._reached.once(b"", compute)

    def norm(self) -> float:
        """‖J‖ on the probe at the θ where all methods start (``benchmark.measure.jacobian``)."""
        return self._once(
            self._norm,
            self.start,
            lambda lower: jacobian_norm(lower, self.task.probe, judged_in=self.judged_in),
        )

    def _once(self, known: Kept[V], theta: Theta, compute: Callable[[LowerLevelProblem], V]) -> V:
        return known.once(digest_of(theta), lambda: compute(at_theta(self.task.lower, theta)))

    def _probe_at(self, lower: LowerLevelProblem) -> list[TrueEquilibrium]:
        """x* of each part of the probe, by itself."""
        return self._on_probe.once(
            digest_of(lower.theta()),
            lambda: [
                true_equilibrium(lower.at(part.operator), part.observation, tol=EQUILIBRIUM_TOL)
                for part in self.task.probe.parts
            ],
        )

    @torch.no_grad()
    def _judge(self, lower: LowerLevelProblem) -> Judged:
        judged: list[_Share] = []
        for group in self._groups(lower):
            figures, residual = _settled(lower, group, self.judged_in)
            if figures is None:
                return Judged(Accuracy(equilibrium_residual=residual), unmeasured(self.metrics))
            judged.append(_share(group, figures, residual, self.metrics))
        return _together(judged)

    def _groups(self, lower: LowerLevelProblem) -> Iterator[_Group]:
        """All that is in memory, then each part of what is not, by itself."""
        known = self._probe_at(lower) if self._shared else []
        held: dict[str, Sequence[Batch]] = {"train": self._alone, "test": self.task.test.parts}
        read = {
            name: held.pop(name)
            for name in ("train", "test")
            if isinstance(getattr(self.task, name), StreamedBatch)
        }
        training = (*self._shared, *held.get("train", ()))
        if training:
            yield _Group(training, (), known)
        if "test" in held:
            yield _Group((), tuple(held["test"]))
        for part in read.get("train", ()):
            yield _Group((part,), ())
        for part in read.get("test", ()):
            yield _Group((), (part,))


@dataclass(frozen=True)
class _Group:
    """Parts of the training and of the test set that are judged together; ``known`` : equilibria of
    the first.
    """

    training: tuple[Batch, ...]
    test: tuple[Batch, ...]
    known: Sequence[TrueEquilibrium] = ()


@dataclass(frozen=True)
class _Figures:
    """Of a group: the loss of each training part, with its number of images; the losses of its
    images, and then the PSNR of those of each test part; the test images.
    """

    losses: list[tuple[int, float]]
    of_each: list[np.ndarray]
    images: list[Tensor]

    @property
    def psnr(self) -> np.ndarray:
        """Of each test image."""
        return np.concatenate([np.empty(0), *self.of_each[len(self.losses) :]])

    def unsettled(self, before: _Figures) -> list[np.ndarray]:
        """Which images have moved by more than ``SETTLED``; of training ones their mean counts."""
        number, (of_value, of_psnr) = len(self.losses), SETTLED
        # of two infinite ones the difference is no number
        moved = [
            np.where(now == then, 0, np.abs(now - then))
            for now, then in zip(self.of_each, before.of_each, strict=True)
        ]
        most = of_value * abs(_mean(self.losses))
        enough = np.mean(np.concatenate([np.zeros(1), *moved[:number]])) <= most
        bounds = [np.inf if enough else most] * number + [of_psnr] * len(self.images)
        return [~(of <= bound) for of, bound in zip(moved, bounds, strict=True)]


@dataclass(frozen=True)
class _Share:
    """What a group gives to ``Judged``: means, each with the number of its images, and the PSNR of
    each test image.
    """

    losses: list[tuple[int, float]]
    ssim: list[tuple[int, float]]
    psnr: np.ndarray
    residual: float
    extra: Measured


def _settled(
    lower: LowerLevelProblem, group: _Group, judged_in: torch.dtype
) -> tuple[_Figures | None, float]:
    """The figures, None where there is no equilibrium, and the largest residual: each solved on, by
    a decade at a time, until the figures of its image are settled.
    """
    parts, given = (*group.training, *group.test), len(group.known)
    open_ = [np.full(len(part), k >= given) for k, part in enumerate(parts)]
    found: list[TrueEquilibrium | None] = [*group.known, *[None] * (len(parts) - given)]
    before, tol = None, FIRST_TOL
    while True:
        each = zip(parts, found, open_, strict=True)
        found = [
            _solved_on(lower, part, one, of, tol=tol, judged_in=judged_in) for part, one, of in each
        ]
        residual = float(np.max([one.residual for one in found]))  # NaN, not max()
        if not residual <= NO_EQUILIBRIUM:
            return None, residual
        figures = _figures(lower, group, [one.x for one in found])
        if before is not None:
            moved = figures.unsettled(before)
            open_ = [of & still for of, still in zip(open_, moved, strict=True)]
        if tol <= EQUILIBRIUM_TOL or not any(of.any() for of in open_):
            return figures, residual
        before, tol = figures, max(EQUILIBRIUM_TOL, tol / 10)


def _solved_on(
    lower: LowerLevelProblem,
    part: Batch,
    before: TrueEquilibrium | None,
    chosen: np.ndarray,
    *,
    tol: float,
    judged_in: torch.dtype,
) -> TrueEquilibrium:
    """The equilibria of the ``chosen`` images of ``part``, on from ``before``, and those of the
    others as they were.
    """
    here, y = lower.at(part.operator), part.observation
    if before is None:
        return true_equilibrium(here, y, tol=tol, judged_in=judged_in)
    if not chosen.any():
        return before
    rows = torch.from_numpy(chosen).to(y.device)
    start, first = before.x[rows], before.first[rows]
    found = true_equilibrium(here, y[rows], tol=tol, x0=start, first=first, judged_in=judged_in)
    x, residuals = before.x.clone(), before.residuals.clone()
    x[rows], residuals[rows] = found.x, found.residuals
    return TrueEquilibrium(x, residuals, before.first)


def _figures(lower: LowerLevelProblem, group: _Group, states: Sequence[Tensor]) -> _Figures:
    """At the equilibria of the training parts, then of the test parts."""
    losses, of_each, images = [], [], []
    for number, (part, x) in enumerate(zip((*group.training, *group.test), states, strict=True)):
        here = lower.at(part.operator)
        image = here.reconstruct(x)
        if number < len(group.training):
            losses.append((len(part), float(upper_loss(here, x, part))))
            of_each.append(part.loss.of_each(image, part.truth))
        else:
            images.append(image)
            of_each.append(metrics.psnr_of_each(image, part.truth))
    return _Figures(losses, [each.cpu().numpy() for each in of_each], images)


def _share(group: _Group, figures: _Figures, residual: float, asked: Sequence[Metric]) -> _Share:
    pairs = [(x, part.truth) for x, part in zip(figures.images, group.test, strict=True)]
    return _Share(
        losses=figures.losses,
        ssim=[(len(x), metrics.ssim(x, truth)) for x, truth in pairs],
        psnr=figures.psnr,
        residual=residual,
        extra=measure_all(asked, pairs) if pairs else unmeasured(asked),
    )


def _together(shares: Sequence[_Share]) -> Judged:
    psnr = np.concatenate([share.psnr for share in shares])
    accuracy = Accuracy(
        value=_mean([loss for share in shares for loss in share.losses]),
        test_psnr=float(psnr.mean()) if len(psnr) else nan,
        test_ssim=_mean([ssim for share in shares for ssim in share.ssim]),
        equilibrium_residual=max(share.residual for share in shares),
        test_psnr_images=psnr,
    )
    weights = [len(share.psnr) for share in shares]
    return Judged(accuracy, mean_of_measured([share.extra for share in shares], weights))


def _mean(values: Sequence[tuple[int, float]]) -> float:
    """Over images, of means over so many of them; NaN where there is none."""
    if len(values) <= 1:
        return values[0][1] if values else nan
    return sum(n * value for n, value in values) / sum(n for n, _ in values)


def _training_parts(task: BilevelTask) -> tuple[Sequence[Batch], Sequence[Batch]]:
    """The parts of the probe, and those of the other training images; none, and all of them, where
    the probe is not of the training set.
    """
    probe, everything = set(task.probe.index or ()), task.train.index or ()
    if not probe or not probe <= set(everything) or len(everything) != len(task.train):
        return (), task.train.parts
    others = [k for k, i in enumerate(everything) if i not in probe]
    if not others:
        return task.probe.parts, ()
    read = isinstance(task.train, StreamedBatch)
    return task.probe.parts, (task.train.only(others) if read else task.train[others]).parts


def at_theta(lower: LowerLevelProblem, theta: Theta) -> LowerLevelProblem:
    """A copy of ``lower`` at ``theta``."""
    lower = copy.deepcopy(lower)
    set_theta(lower, theta)
    return lower
