"""Plug-and-Play: forward-backward with a denoiser in place of the proximity operator."""

from __future__ import annotations

import math
from typing import final

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from benchmark.imaging.denoisers import make_denoiser
from benchmark.options.checks import (
    boolean,
    nonnegative_number,
    positive_integer,
    positive_number,
    strictly_between,
)
from benchmark.problems.jacobian_penalty import jacobian_penalty
from benchmark.problems.lower_level import LowerLevelProblem
from benchmark.problems.stepsize import bounded_stepsize
from benchmark.solve.fixed_point import Layer


@final
class PlugAndPlay(LowerLevelProblem):
    """Relaxed forward-backward on ½‖Ax−y‖² with a denoiser D_σ of strength λ.

        v = x − τ Aᵀ(Ax − y)
        T(x) = (1 − ρ) x + ρ (v + τλ D_σ(v)) / (1 + τλ)

    The equilibrium solves Aᵀ(Ax − y) + λ (x − D_σ(v)) = 0: λ weighs the denoiser against the data
    and moves the reconstruction; ρ does not. With λ → ∞ this is Plug-and-Play forward-backward,
    T = D_σ(x − τ Aᵀ(Ax − y)) (Venkatakrishnan, Bouman, Wohlberg, "Plug-and-play priors for model
    based reconstruction", 2013; Kamilov, Mansour, Wohlberg, 2017). With λ finite, the backward step
    is one fixed-point step, from v, for the proximity operator of τλ times the penalty of
    "regularisation by denoising", whose gradient is x − D_σ(x) (Romano, Elad, Milanfar, "The little
    engine that could", 2017, arXiv 1611.02862); equally, D_σ relaxed to (1 − α) Id + α D_σ with
    α = τλ/(1 + τλ) (Hurault, Chambolle, Leclaire, Papadakis, arXiv 2301.13731, 2023). Where D_σ is
    firmly nonexpansive, T is averaged for every τ in (0, 2/L); nothing more is proved in general,
    and the rate is measured: larger σ contract more. In denoising at τ = 1/L, v = y and T does not
    depend on x at all: take another stepsize there. The state is the image.

    With ``layers`` = K > 1, T is the composition of K such layers, each with a noise level of its
    own, as unrolled networks have them; it counts as one layer then, at K times the cost.

    θ: ``stepsize_logit`` (0-d), τ = (2/L)·sigmoid of it, in (0, 2/L), L = ‖A‖²;
    ``log_noise_level`` (layers,), σ in the units of the image; ``log_regularisation`` (0-d), λ, to
    be compared with L; and the denoiser's own weights where they are learned. The rest is frozen.

    Parameters
    ----------
    physics : A, a linear operator of deepinv.
    lipschitz : ‖A‖².
    image_shape : (C, H, W), of a shape that the denoiser takes.
    denoiser : ``"name"`` or ``"name(option=value, …)"`` of ``benchmark.imaging.denoisers``.
    stepsize : the initial τ in units of 1/L, in (0, 2).
    noise_level : the initial σ.
    regularisation : the initial λ.
    relaxation : ρ, in (0, 1].
    layers : K, as above.
    learn_stepsize, learn_noise_level, learn_regularisation, learn_denoiser : what θ holds.
    jacobian_weight : γ ≥ 0; γ times ``benchmark.problems.jacobian_penalty`` is added to F.

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: one A, one Aᵀ, one D.
    Raises ValueError for a parameter out of its range or images that the denoiser does not take,
    FileNotFoundError for weights that cannot be had.
    """

    strength = ("log_noise_level",)

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        denoiser: str = "small_drunet",
        stepsize: float = 1.0,
        noise_level: float = 0.1,
        regularisation: float = 1.0,
        relaxation: float = 1.0,
        layers: int = 1,
        learn_stepsize: bool = True,
        learn_noise_level: bool = True,
        learn_regularisation: bool = True,
        learn_denoiser: bool = False,
        jacobian_weight: float = 0.0,
    ) -> None:
        super().__init__()
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        positive_integer("layers", layers, most=1000)
        positive_number("noise_level", noise_level)
        positive_number("regularisation", regularisation)
        nonnegative_number("jacobian_weight", jacobian_weight)
        if relaxation != 1:
            strictly_between("relaxation, unless it is 1,", relaxation, low=0, high=1)
        for name, learned in (
            ("learn_stepsize", learn_stepsize),
            ("learn_noise_level", learn_noise_level),
            ("learn_regularisation", learn_regularisation),
            ("learn_denoiser", learn_denoiser),
        ):
            boolean(name, learned)
        self.physics = physics.requires_grad_(False)
        self.denoiser = make_denoiser(denoiser, image_shape).double()
        self.denoiser.requires_grad_(learn_denoiser)
        self.lipschitz = lipschitz
        self.relaxation = relaxation
        self.jacobian_weight, self.penalised = jacobian_weight, jacobian_weight > 0
        self.stepsize_logit = _parameter(math.log(stepsize / (2 - stepsize)), learn_stepsize)
        self.log_noise_level = _parameter([math.log(noise_level)] * layers, learn_noise_level)
        self.log_regularisation = _parameter(math.log(regularisation), learn_regularisation)

    def stepsize(self) -> Tensor:
        """τ, 0-d, in (0, 2/L)."""
        return bounded_stepsize(self.stepsize_logit, self.lipschitz)

    def init(self, y: Tensor) -> Tensor:
        """Aᵀy + (1 − m) G Aᵀy / G m with m = AᵀA1 and G a 9×9 mean.

        In inpainting, what was not observed starts at the mean of what was around it: a denoiser
        far from images like those it knows leads accelerated solvers astray. Where m = 1 it is Aᵀy.
        """
        back = self.physics.A_adjoint(y)
        seen = self.physics.A_adjoint(self.physics.A(torch.ones_like(back)))
        local, weight = (avg_pool2d(t, 9, stride=1, padding=4) for t in (back, seen))
        return back + (1 - seen) * local / weight.clamp_min(1e-3)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        tau = self.stepsize()
        # α = τλ/(1 + τλ), in a form that no λ overflows
        strength = torch.sigmoid(tau.log() + self.log_regularisation)
        for sigma in self.log_noise_level.exp():
            v = x - tau * self.physics.A_adjoint(self.physics.A(x) - y)
            # one σ per sample: deepinv's networks would round a 0-d one to float32
            z = v + strength * (self.denoiser(v, sigma.expand(len(v))) - v)
            x = x + self.relaxation * (z - x)
        return x

    def reconstruct(self, x: Tensor) -> Tensor:
        return x

    def penalty(self, T: Layer, x: Tensor) -> Tensor:
        return self.jacobian_weight * jacobian_penalty(T, x)


def _parameter(value: float | list[float], learned: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=learned)


FAMILY = PlugAndPlay
