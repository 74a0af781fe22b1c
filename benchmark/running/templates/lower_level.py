"""Smoothed total variation by gradient descent, as a lower level."""

import torch
from torch import nn


class Template(nn.Module):
    """T(x) = x − τ (Aᵀ(Ax − y) + λ ∇R(x)), R(x) = Σ √(‖∇x‖² + ε²) the smoothed total variation.

    θ, what is learned, is every parameter of the module: here log λ. ``physics`` is A, a linear
    operator of deepinv, ``lipschitz`` is ‖A‖²; ``image_shape``, (C, H, W), can be asked for too.
    x⁰ is Aᵀy and the reconstruction x, unless ``init(y)`` and ``reconstruct(x)`` are defined.
    """

    def __init__(self, physics, lipschitz, level=0.02, smoothing=0.1):
        super().__init__()
        self.physics, self.smoothing = physics, smoothing
        self.log_level = nn.Parameter(torch.tensor(level).log())
        # R has the Lipschitz constant 8/ε; λ may grow threefold
        self.stepsize = 1 / (lipschitz + 8 * 3 * level / smoothing)

    def step(self, x, y):
        """One layer, x (N, …) and y (N, …) left as they are, each sample by itself."""
        slope = self.log_level.exp() * self.slope(x)
        return x - self.stepsize * (self.physics.A_adjoint(self.physics.A(x) - y) + slope)

    def slope(self, x):
        """∇R(x), the divergence of the normalised gradient, circular at the edges."""
        steps = [x.roll(-1, dim) - x for dim in (-2, -1)]
        size = (sum(step.square() for step in steps) + self.smoothing**2).sqrt()
        return sum(
            (step / size).roll(1, dim) - step / size
            for step, dim in zip(steps, (-2, -1), strict=True)
        )
