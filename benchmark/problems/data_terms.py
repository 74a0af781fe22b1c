"""Data terms f(x) = Σ d(Ax; y), as deepinv's algorithms take them, with a bound of d''."""

from __future__ import annotations

from typing import Protocol, final

import torch
from deepinv.optim import L2, DataFidelity
from deepinv.optim.distance import Distance
from torch import Tensor

from benchmark.options.checks import positive_number


class DataTerm(Protocol):
    """What is asked of a data term beside what deepinv's algorithms ask."""

    def curvature(self, y: Tensor) -> Tensor:
        """At least |d''| wherever: (N, 1, …), one for each sample of ``y`` (N, …)."""


@final
class Squared(L2):
    """½‖Ax − y‖²."""

    def curvature(self, y: Tensor) -> Tensor:
        return y.new_ones(len(y), *[1] * (y.ndim - 1))


@final
class Poisson(DataFidelity):
    """The negative log-likelihood of counts y/γ with mean (Ax + b)/γ, times γ, whatever the gain γ:

        d(z; y) = z − y log(z + b) for z ≥ 0,  and below 0, but for a constant,
        d(z; y) = (1 − y/b) z + max(y, b)/(2b²) z²,

    y the observations of ``deepinv.PoissonNoise(gain=γ)``, b > 0 a background. Without b it has no
    Lipschitz gradient, and below 0, where no count has its mean, nothing would hold z; so it is
    convex with a continuous slope, |d''| ≤ max(y, b)/b², and its minimiser is at least −b. Negative
    observations count as 0.
    """

    def __init__(self, background: float) -> None:
        super().__init__()
        positive_number("background", background)
        self.background = float(background)
        self.d = _PoissonDistance(self.background)

    def curvature(self, y: Tensor) -> Tensor:
        largest = y.flatten(1).amax(1).clamp_min(self.background) / self.background**2
        return largest.reshape(-1, *[1] * (y.ndim - 1))


class _PoissonDistance(Distance):
    def __init__(self, background: float) -> None:
        super().__init__()
        self.background = background

    def fn(self, x: Tensor, y: Tensor, *args, **kwargs) -> Tensor:
        y, b = y.clamp_min(0), self.background
        above, below = x.clamp_min(0), x.clamp_max(0)
        bent = y.clamp_min(b) / b**2 * below.square() / 2
        return (x - y * torch.log(above + b) - y / b * below + bent).flatten(1).sum(1)

    def grad(self, x: Tensor, y: Tensor, *args, **kwargs) -> Tensor:
        y, b = y.clamp_min(0), self.background
        above, below = x.clamp_min(0), x.clamp_max(0)
        return 1 - y / (above + b) + y.clamp_min(b) / b**2 * below


DATA_TERMS = {"squared": lambda background: Squared(), "poisson": Poisson}
