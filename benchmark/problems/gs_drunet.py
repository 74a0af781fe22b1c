"""A gradient-step denoiser: a learned network whose equilibria minimise an explicit function."""

from __future__ import annotations

import math
from typing import final

import torch
from deepinv.models.GSPnP import GSPnP
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from benchmark.imaging.denoisers import make_denoiser
from benchmark.options.checks import boolean, positive_number, strictly_between
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.problems.wavelet import parameter


@final
class GradientStep(LowerLevelProblem):
    """½‖Ax−y‖² + λ g_σ(x), g_σ(x) = ½‖x − N_σ(x)‖², N a denoising network.

        T(x) = x − τ (Aᵀ(Ax − y) + λ∇g_σ(x))

    Every equilibrium is a stationary point of that function, and J = I − τ∇² of it is symmetric,
    whatever the weights; nothing is said of its norm, for ∇g has no known Lipschitz constant, and
    the function need not be convex. N − here the shipped DRUNet, which was trained to denoise
    itself − has ReLUs, with which ∇g would jump: each becomes a softplus, log(1 + e^βt)/β. Id − ∇g
    is the gradient-step denoiser of Hurault, Leclaire, Papadakis, "Gradient step denoiser for
    convergent plug-and-play" (2022), arXiv 2110.03220, and Cohen, Blau, Freedman, Rivlin, "It has
    potential" (2021), arXiv 2106.04096. Of deepinv's ``GSPnP`` g is used, not ∇g, which it rounds
    to float32 and detaches. The state is the image.

    θ: ``log_regularisation`` λ and ``log_noise_level`` σ, in the units of the image (0-d); the
    weights of ``prior``.

    Parameters
    ----------
    physics : A, a linear operator of deepinv between real images.
    lipschitz : ‖A‖².
    image_shape : (C, H, W), of a shape that the network takes.
    denoiser : N, a name of ``benchmark.imaging.denoisers``.
    regularisation, noise_level : the initial λ and σ.
    sharpness : β.
    curvature : what ‖∇²g‖ is taken to be at most.
    stepsize : τ in units of 1/(‖A‖² + λ ``curvature``), in (0, 2).
    learn_regularisation, learn_noise_level, learn_denoiser : what θ holds.

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: one A, one Aᵀ, one N
    and one product with its Jacobian. Raises ValueError for a parameter out of its range or images
    that the network does not take, FileNotFoundError for weights that cannot be had.
    """

    strength = ("log_regularisation",)
    splits = True

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        denoiser: str = "small_drunet",
        regularisation: float = 3.0,
        noise_level: float = 0.2,
        sharpness: float = 100.0,
        curvature: float = 1.0,
        stepsize: float = 1.0,
        learn_regularisation: bool = True,
        learn_noise_level: bool = True,
        learn_denoiser: bool = True,
    ) -> None:
        super().__init__()
        positive_number("regularisation", regularisation)
        positive_number("noise_level", noise_level)
        positive_number("sharpness", sharpness)
        positive_number("curvature", curvature)
        strictly_between("stepsize", stepsize, low=0, high=2)
        for name, learned in (
            ("learn_regularisation", learn_regularisation),
            ("learn_noise_level", learn_noise_level),
            ("learn_denoiser", learn_denoiser),
        ):
            boolean(name, learned)
        self.physics = physics.requires_grad_(False)
        network = make_denoiser(denoiser, image_shape).double()
        _smoothen(network, sharpness)
        self.prior = GSPnP(network).requires_grad_(learn_denoiser)
        self.data_lipschitz, self.curvature, self.units = lipschitz, curvature, stepsize
        self.log_regularisation = parameter(math.log(regularisation))
        self.log_regularisation.requires_grad_(learn_regularisation)
        self.log_noise_level = parameter(math.log(noise_level))
        self.log_noise_level.requires_grad_(learn_noise_level)

    def init(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)

    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        weight = self.log_regularisation.exp()
        tau = self.units / (self.data_lipschitz + weight * self.curvature)
        data = self.physics.A_adjoint(self.physics.A(x) - y)
        return x - tau * (data + weight * self.slope(x))

    def proximity(self, v: Tensor) -> Tensor:
        """v: there is nothing but the gradient step."""
        return v.view_as(v)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.gradient_step(x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x

    def potential(self, x: Tensor) -> Tensor:
        """g_σ (N,) at images x (N, C, H, W)."""
        return self.prior.potential(x, self.log_noise_level.exp().expand(len(x)))

    def slope(self, x: Tensor) -> Tensor:
        """∇g_σ at images x (N, C, H, W), with a graph where gradients are enabled."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.potential(at).sum(), at, create_graph=wanted)
        return slope

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The objective (N,) at images x (N, C, H, W)."""
        data = (self.physics.A(x) - y).flatten(1).square().sum(1) / 2
        return data + self.log_regularisation.exp() * self.potential(x)


def _smoothen(network: nn.Module, sharpness: float) -> None:
    """Put a softplus in the place of every ReLU of ``network``."""
    for name, part in network.named_children():
        if isinstance(part, nn.ReLU):
            setattr(network, name, nn.Softplus(beta=sharpness))
        else:
            _smoothen(part, sharpness)


FAMILY = GradientStep
