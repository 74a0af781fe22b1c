"""Layers whose equilibrium and hypergradient are known by other means than the methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmark.gradients.equilibrium_loss import EquilibriumLoss
from benchmark.problems.bilevel import Batch
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.solve.fixed_point import Layer


@dataclass(frozen=True)
class AffineLayer:
    """T(x) = Mx + Bθ + y per sample, x of shape (N, *shape), M not symmetric, ‖M‖₂ = κ.

    x* = (I − M)⁻¹(Bθ + y), and for ℓ = ½‖x − target‖²: ∇ = Σ_i Bᵀ(I − Mᵀ)⁻¹(x*_i − target_i).
    """

    theta: Tensor
    matrix: Tensor
    injection: Tensor
    y: Tensor
    target: Tensor

    @classmethod
    def make(
        cls, *, kappa: float, shape: tuple[int, ...] = (2, 3, 4), samples: int = 3, seed: int = 0
    ) -> AffineLayer:
        generator = torch.Generator().manual_seed(seed)

        def random(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64)

        n = torch.Size(shape).numel()
        # a symmetric part with eigenvalues of both signs up to κ/2, and a rotation of size κ/2
        q = torch.linalg.qr(random(n, n))[0]
        symmetric = q @ torch.diag(torch.linspace(-1, 1, n, dtype=torch.float64)) @ q.T
        skew = random(n, n)
        skew = skew - skew.T
        matrix = symmetric + skew / torch.linalg.matrix_norm(skew, 2)
        matrix *= kappa / torch.linalg.matrix_norm(matrix, 2)
        theta = random(5).requires_grad_()
        return cls(theta, matrix, random(n, 5), random(samples, *shape), random(samples, *shape))

    def layer(self) -> Layer:
        return self(self.y)

    def __call__(self, y: Tensor) -> Layer:
        def T(x: Tensor) -> Tensor:
            moved = x.flatten(1) @ self.matrix.T + self.injection @ self.theta
            return moved.view_as(x) + y

        return T

    def loss(self, x: Tensor) -> Tensor:
        return 0.5 * ((x - self.target) ** 2).sum()

    def equilibrium(self) -> Tensor:
        right = self.injection @ self.theta.detach() + self.y.flatten(1)
        eye = torch.eye(len(self.matrix), dtype=torch.float64)
        return torch.linalg.solve(eye - self.matrix, right.T).T.view_as(self.y)

    def gradient(self, *, terms: int | None = None) -> Tensor:
        """The exact hypergradient, or that of the first ``terms`` of the Neumann series."""
        g = (self.equilibrium() - self.target).flatten(1).T
        mt = self.matrix.T
        if terms is None:
            w = torch.linalg.solve(torch.eye(len(mt), dtype=torch.float64) - mt, g)
        else:
            w, power = torch.zeros_like(g), g
            for _ in range(terms):
                w, power = w + power, mt @ power
        return (self.injection.T @ w).sum(1)

    def loss_gradient(self) -> Tensor:
        """∇ₓℓ at the equilibrium, of the shape of ``y``."""
        return self.equilibrium() - self.target

    def problem(self) -> LayerProblem:
        """The same layer as a lower level, θ a leaf of its own."""
        return LayerProblem(self.theta, lambda theta, x, y: replace(self, theta=theta)(y)(x))

    def batch(self, *, index: tuple[int, ...] | None = None) -> Batch:
        """The targets as true images: F is then 2/numel times ``loss``."""
        return Batch(self.target, self.y, index)

    def scale(self) -> float:
        """What ``gradient`` is to be multiplied by to be that of F."""
        return 2 / self.y.numel()


class LayerProblem(LowerLevelProblem):
    """T(x; y) = layer(θ, x, y), one tensor θ; the state is the image, x⁰ = 0."""

    def __init__(self, theta: Tensor, layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(theta.detach().clone())
        self.written = layer

    def init(self, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.written(self.weight, x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x


def soft_threshold_layer(y: Tensor, log_weight: Tensor, *, tau: float, rotation: Tensor) -> Layer:
    """T(x) = Qᵀ soft(Q(x − τ(x − y)), τe^θ): denoising, Q orthonormal; contraction |1 − τ|."""

    def T(x: Tensor) -> Tensor:
        d = (x - tau * (x - y)) @ rotation.T
        threshold = tau * log_weight.exp()
        return (d.sign() * torch.relu(d.abs() - threshold)) @ rotation

    return T


def tanh_layer(theta: Tensor, matrix: Tensor, y: Tensor) -> Layer:
    """T(x) = tanh(Mx + θ·y): smooth, nonlinear, not a gradient step; contraction ‖M‖₂ < 1."""

    def T(x: Tensor) -> Tensor:
        return torch.tanh(x @ matrix.T + theta * y)

    return T


def central_difference(
    f: Callable[[], float], theta: Sequence[Tensor], direction: Sequence[Tensor], *, step: float
) -> float:
    """(f(θ + hv) − f(θ − hv)) / 2h along the direction v; θ is restored."""

    def moved(h: float) -> float:
        with torch.no_grad():
            for p, v in zip(theta, direction, strict=True):
                p.add_(v, alpha=h)
        value = f()
        with torch.no_grad():
            for p, v in zip(theta, direction, strict=True):
                p.sub_(v, alpha=h)
        return value

    return (moved(step) - moved(-step)) / (2 * step)


def relative_error(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


class Halving(nn.Module):
    """T(x) = x/2 + θ, one number: x* = 2θ; with ℓ = x²/2, w = 2x and ∇F = 2x*."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones((), dtype=dtype))
        self.register_buffer("rate", torch.tensor(0.5, dtype=dtype))
        self.register_buffer("times", torch.tensor(1))

    def forward(self, x):
        return self.times * self.rate * x + self.theta

    def problem(self) -> EquilibriumLoss:
        return EquilibriumLoss.of_callables(self, lambda x: x.square().sum() / 2, [self.theta])


@dataclass(frozen=True)
class ByHand:
    """Denoising, where all is known in wavelet coefficients d: x* = soft(d, λ), λ = e^θ."""

    observed: Tensor
    wanted: Tensor
    approximation_error: Tensor

    @classmethod
    def of(cls, batch) -> ByHand:
        (low, observed), (low_wanted, wanted) = haar(batch.observation), haar(batch.truth)
        return cls(observed, wanted, ((low - low_wanted) ** 2).flatten(1).sum(1))

    def errors(self, details: Tensor) -> Tensor:
        """The mean squared error of each image; the transform is orthonormal."""
        squares = ((details - self.wanted) ** 2).flatten(1).sum(1) + self.approximation_error
        return squares / details[0].numel() * 3 / 4

    def equilibrium(self, theta: Tensor) -> Tensor:
        return soft(self.observed, theta.exp())

    def unrolled(self, theta: Tensor, *, layers: int, tau: float) -> Tensor:
        d = self.observed
        for _ in range(layers):
            d = soft(d - tau * (d - self.observed), tau * theta.exp())
        return d


def haar(image: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform: approximation, details (N, 3, C, H/2, W/2)."""
    a, b, c, d = (image[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    details = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], dim=1)
    return (a + b + c + d) / 2, details / 2


def soft(d: Tensor, threshold: Tensor) -> Tensor:
    threshold = threshold.view(3, 1, 1, 1)
    return d.sign() * (d.abs() - threshold).clamp_min(0)
