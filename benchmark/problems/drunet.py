"""Plug-and-Play whose denoiser is learned with the layer it sits in."""

from __future__ import annotations

from deepinv.physics import LinearPhysics

from benchmark.problems.pnp import PlugAndPlay


def learned_drunet(
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
    learn_stepsize: bool = False,
    learn_noise_level: bool = False,
    learn_regularisation: bool = False,
    jacobian_weight: float = 0.0,
) -> PlugAndPlay:
    """The layer of ``PlugAndPlay``, θ the weights of its denoiser and what else is asked for.

    Nothing keeps learned weights contracting but ``jacobian_weight``, which makes the mean square
    of J's singular values a part of F: ``contraction`` is to be watched, and learning rates are
    those of networks (say 1e-4 with Adam), not of log-weights. ``denoiser`` gives the weights
    to start from: ``small_drunet`` the shipped ones, ``small_drunet(trained=False)`` weights of
    chance, from which D is near the identity and the layer near no contraction. Parameters and
    errors: as for ``PlugAndPlay``.
    """
    return PlugAndPlay(
        physics,
        lipschitz,
        image_shape,
        denoiser=denoiser,
        stepsize=stepsize,
        noise_level=noise_level,
        regularisation=regularisation,
        relaxation=relaxation,
        layers=layers,
        learn_stepsize=learn_stepsize,
        learn_noise_level=learn_noise_level,
        learn_regularisation=learn_regularisation,
        learn_denoiser=True,
        jacobian_weight=jacobian_weight,
    )


FAMILY = learned_drunet
