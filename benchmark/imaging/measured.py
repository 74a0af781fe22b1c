"""Measured pairs: images, what was measured of them and by which operator; nothing is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.imaging.degradations import checked_physics
from benchmark.imaging.images import parted, shown, shuffled
from benchmark.options.brought import error_line
from benchmark.options.spec import Kind

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

#: of the largest absolute value of an image, PSNR's peak, with room for rounding
PEAK = 1 + 1e-6


@dataclass(frozen=True)
class Measured:
    """True images x̄ (N, C, H, W), what was measured of them, y (N, …), and the operator A, y ≈ A x̄.

    Real tensors of one length; |x̄| ≤ 1, the peak of PSNR; ``physics`` a ``LinearPhysics`` of
    deepinv, whose noise model is not used. Complex images are real ones of two channels, and so are
    measurements, as deepinv's operators for MRI have them. Images of other sizes, or measured by
    another operator, are another object.
    """

    truth: Tensor
    observation: Tensor
    physics: LinearPhysics

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, chosen: Sequence[int]) -> Measured:
        """The pairs of these numbers, and the same operator."""
        rows = torch.as_tensor(chosen, dtype=torch.int64)
        return Measured(self.truth[rows], self.observation[rows], self.physics)

    def checked(self) -> Measured:
        """The same in float64, on the CPU; ValueError unless it is what it should be."""
        for name, values in (("truth", self.truth), ("observation", self.observation)):
            if not isinstance(values, Tensor):
                raise ValueError(f"{name} is a {type(values).__name__}, expected a tensor")
            if values.is_complex():
                raise ValueError(f"{name} is complex, expected two real channels for each")
            if not bool(values.isfinite().all()):
                raise ValueError(f"{name} holds values that are not finite")
        truth, observation = (t.detach().cpu().double() for t in (self.truth, self.observation))
        if truth.ndim != 4 or len(truth) == 0 or len(observation) != len(truth):
            raise ValueError(
                f"truth {tuple(truth.shape)} and observation {tuple(observation.shape)}: expected "
                "(N, C, H, W) and (N, …), N at least 1"
            )
        peak = float(shown(truth).abs().max())
        if peak > PEAK:
            raise ValueError(
                f"truth has values up to {peak:g} in absolute value, expected at most 1: divide "
                "truth and observation by it"
            )
        physics = checked_physics(self.physics, truth[:1], what="physics")
        expected = tuple(physics.A(truth[:1]).shape[1:])
        if observation.shape[1:] != expected:
            raise ValueError(
                f"observations of shape {tuple(observation.shape[1:])}, expected {expected}, "
                "as A of the images has it"
            )
        return Measured(truth, observation, physics)


PAIRS: Kind = Kind(
    "measurement",
    {},
    form="a function that returns benchmark.imaging.measured.Measured, or a list of them",
)


def measured_pairs(source: object) -> list[Measured]:
    """The pairs that ``FILE.py(option=…)`` (in ``measurements/``, ``NAME``) returns, checked.

    Raises ValueError, naming the file, where it does not return what it should.
    """
    found = PAIRS.build(str(source))
    parts = list(found) if isinstance(found, list | tuple) else [found]
    if not parts or not all(isinstance(part, Measured) for part in parts):
        kinds = ", ".join(sorted({type(part).__name__ for part in parts})) or "nothing"
        raise ValueError(f"{PAIRS.name} {source!r} returned {kinds}, expected {PAIRS.form}")
    return checked_pairs(parts, what=f"{PAIRS.name} {source!r}")


def checked_pairs(parts: Sequence[Measured], *, what: str) -> list[Measured]:
    """``parts``, checked; ValueError, naming ``what`` and which of them, where one is wrong."""
    checked = []
    for i, part in enumerate(parts):
        try:
            checked.append(part.checked())
        except Exception as error:
            where = f"{what}, pairs {i}" if len(parts) > 1 else what
            said = str(error) if isinstance(error, ValueError) else error_line(error)
            raise ValueError(f"{where}: {said}") from error
    return checked


def split_pairs(
    parts: Sequence[Measured], *, n_train: int, n_test: int, seed: int
) -> tuple[list[Measured], list[Measured]]:
    """``n_train`` pairs to train and ``n_test`` to test on, drawn by ``seed``, no pair in both.

    Where there are fewer, in proportion, at least one each; see ``parted``. Raises ValueError for
    fewer than two.
    """
    pairs = [(k, i) for k, part in enumerate(parts) for i in range(len(part))]
    if len(pairs) < 2:
        raise ValueError(
            f"{len(pairs)} pair: expected two or more, one to train and one to test on"
        )
    order = [pairs[j] for j in shuffled(len(pairs), seed=seed)]
    train, test = parted(order, n_train=n_train, n_test=n_test)
    return _chosen(parts, train[:n_train]), _chosen(parts, test[:n_test])


def first_pairs(parts: Sequence[Measured], number: int) -> list[Measured]:
    """The first ``number`` of the pairs, or all where there are fewer."""
    pairs = [(k, i) for k, part in enumerate(parts) for i in range(len(part))]
    return _chosen(parts, pairs[:number])


def _chosen(parts: Sequence[Measured], pairs: Sequence[tuple[int, int]]) -> list[Measured]:
    rows = {k: [i for j, i in pairs if j == k] for k in range(len(parts))}
    return [parts[k][chosen] for k, chosen in rows.items() if chosen]
