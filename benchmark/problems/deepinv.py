"""One iteration of an algorithm of deepinv, with one of its priors, as a layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from deepinv.optim import RED, L1Prior, L12Prior, PnP, Prior, Tikhonov, WaveletPrior
from deepinv.optim import optim_iterators as iterators
from deepinv.physics import LinearPhysics
from torch import Tensor

from benchmark.imaging.denoisers import make_denoiser
from benchmark.options.checks import boolean, one_of, positive_number, strictly_between
from benchmark.problems.data_terms import DATA_TERMS
from benchmark.problems.lower_level import Known, LowerLevelProblem
from benchmark.problems.stepsize import bounded_stepsize
from benchmark.problems.wavelet import parameter


@dataclass(frozen=True)
class _Algorithm:
    """iterator : deepinv's; tensors : in its state, the image first; data, prior : whether it takes
    the "gradient" or the "prox" of either.
    """

    iterator: Callable[..., torch.nn.Module]
    tensors: int
    data: str
    prior: str


_ALGORITHMS: Mapping[str, _Algorithm] = {
    "GD": _Algorithm(iterators.GDIteration, 1, "gradient", "gradient"),
    "PGD": _Algorithm(iterators.PGDIteration, 1, "gradient", "prox"),
    "HQS": _Algorithm(iterators.HQSIteration, 1, "prox", "prox"),
    "ADMM": _Algorithm(iterators.ADMMIteration, 2, "prox", "prox"),
    "DRS": _Algorithm(iterators.DRSIteration, 2, "prox", "prox"),
    "PDCP": _Algorithm(iterators.CPIteration, 3, "prox", "prox"),
}


class _Wavelets(WaveletPrior):
    """deepinv's, its threshold γ alone, which the iterations hand over as (N, 1, 1, 1)."""

    def prox(self, x: Tensor, *args, gamma: Tensor | float = 1.0, **options) -> Tensor:
        return super().prox(x, ths=1.0, gamma=torch.as_tensor(gamma).flatten())


@dataclass(frozen=True)
class _Prior:
    """make : deepinv's prior, from a denoiser where it ``denoises``; has : what can be taken of it;
    weighted : whether λ acts.
    """

    make: Callable[..., Prior]
    has: tuple[str, ...]
    weighted: bool = True
    denoises: bool = False


_PRIORS: Mapping[str, _Prior] = {
    "tikhonov": _Prior(Tikhonov, ("gradient", "prox")),
    "l1": _Prior(L1Prior, ("prox",)),
    "l12": _Prior(lambda: L12Prior(l2_axis=1), ("prox",)),
    "wavelet": _Prior(lambda: _Wavelets(level=2, wv="haar"), ("prox",)),
    "red": _Prior(RED, ("gradient",), denoises=True),
    "pnp": _Prior(PnP, ("prox",), weighted=False, denoises=True),
}


@final
class DeepinvAlgorithm(LowerLevelProblem):
    """f(x) + λ g(x) by one iteration of deepinv's ``algorithm`` with its prior g; f is ½‖Ax−y‖².

    ``algorithm`` : GD, PGD, HQS, ADMM, DRS or PDCP (Chambolle and Pock, on the prox of the data
    term); ``prior`` : tikhonov ½‖x‖², l1 ‖x‖₁, l12 (the colours of a pixel coupled), wavelet (Haar,
    two levels, deepinv's own, which needs ptwt), red (the gradient is x − D(x)) or pnp (D in the
    place of the prox; λ does not act). Schemes of one problem have the same x* and ∇F whatever
    their steps, but for HQS, which minimises over a splitting that τ keeps apart; they differ in
    the rate at which they get there. An inexact prox is no layer: that of deepinv's TV, which
    iterates until the batch has converged, and that of the data term where the operator has no
    closed one.

    The state (N, kC, H, W) is the algorithm's k tensors on one another, the image first: k is 1 for
    GD, PGD and HQS, 2 for ADMM and DRS, 3 for PDCP. θ: ``log_regularisation`` λ (0-d);
    ``log_noise_level`` (0-d), of D; where it is learned, ``stepsize_logit`` (0-d), τ in (0, 2/L).

    Parameters
    ----------
    physics : A, a linear operator of deepinv between real images.
    lipschitz : ‖A‖².
    image_shape : (C, H, W).
    data, background : f, "squared", or "poisson" for Poisson noise, GD and PGD alone: see
        ``benchmark.problems.data_terms``; L is then ‖A‖² max y/b², y the sample's observation.
    regularisation : the initial λ.
    denoiser, noise_level : D, a name of ``benchmark.imaging.denoisers``, and its initial level.
    stepsize : the initial τ in units of 1/L, in (0, 2); L is ‖A‖², of GD ‖A‖² + λ.
    learn_stepsize : whether θ holds τ.

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: what the algorithm
    takes of A and of g. Raises ValueError for a name that is not known, an algorithm that takes
    what the prior or the operator does not have, a parameter out of its range.
    """

    strength = ("log_regularisation", "log_noise_level")

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        image_shape: tuple[int, int, int],
        *,
        algorithm: str = "PGD",
        prior: str = "tikhonov",
        data: str = "squared",
        background: float = 0.1,
        regularisation: float = 0.1,
        denoiser: str = "small_drunet",
        noise_level: float = 0.1,
        stepsize: float = 1.0,
        learn_stepsize: bool = False,
    ) -> None:
        super().__init__()
        one_of("algorithm", algorithm, _ALGORITHMS)
        one_of("prior", prior, _PRIORS)
        one_of("data", data, DATA_TERMS)
        positive_number("regularisation", regularisation)
        positive_number("noise_level", noise_level)
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        boolean("learn_stepsize", learn_stepsize)
        self.algorithm, self.kind = algorithm, prior
        self.steps, self.what = _ALGORITHMS[algorithm], _PRIORS[prior]
        _require_available(algorithm, prior, physics, data=data)
        self.physics = physics.requires_grad_(False)
        self.lipschitz, self.channels = lipschitz, image_shape[0]
        made = [make_denoiser(denoiser, image_shape)] if self.what.denoises else []
        self.prior = self.what.make(*made).double().requires_grad_(False)
        self.data = DATA_TERMS[data](background)
        self.iterator = self.steps.iterator(has_cost=False)
        self.log_regularisation = parameter(math.log(regularisation))
        self.log_regularisation.requires_grad_(self.what.weighted)
        self.log_noise_level = parameter(math.log(noise_level))
        self.log_noise_level.requires_grad_(self.what.denoises)
        self.stepsize_logit = parameter(math.log(stepsize / (2 - stepsize)))
        self.stepsize_logit.requires_grad_(learn_stepsize)

    @property
    def known(self) -> Known:
        strongly = self.kind == "tikhonov"
        return Known(unique=strongly, contraction=strongly and self.algorithm in ("GD", "PGD"))

    def init(self, y: Tensor) -> Tensor:
        x = self.physics.A_adjoint(y)
        # an image, the image ahead of it, a dual; the second is a dual where there are two
        others = {1: [], 2: [torch.zeros_like(x)], 3: [x, torch.zeros_like(x)]}
        return torch.cat([x, *others[self.steps.tensors]], dim=1)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        weight, noise = self.log_regularisation.exp(), self.log_noise_level.exp()
        bound = self.lipschitz * self.data.curvature(y)
        ours = bound + (weight if self.algorithm == "GD" else 0.0)
        tau = bounded_stepsize(self.stepsize_logit, ours)
        options = {
            "lambda": weight,
            "g_param": noise.expand(len(x)),
            "stepsize": tau,
            "stepsize_dual": 1 / tau,
            "beta": 1.0,
        }
        state = {"est": x.split(self.channels, dim=1), "cost": None}
        found = self.iterator(state, self.data, self.prior, options, y, self.physics)["est"]
        return torch.cat(found[: self.steps.tensors], dim=1)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x[:, : self.channels]


def _require_available(algorithm: str, prior: str, physics: LinearPhysics, *, data: str) -> None:
    """Raise ValueError where ``algorithm`` takes what the prior or the operator does not have."""
    steps, has = _ALGORITHMS[algorithm], _PRIORS[prior].has
    if steps.prior not in has:
        fitting = [name for name, other in _ALGORITHMS.items() if other.prior in has]
        raise ValueError(
            f"{algorithm} takes the {steps.prior} of the prior, and {prior} has only its "
            f"{has[0]}: expected one of {', '.join(fitting)}"
        )
    if steps.data == "prox" and data != "squared":
        raise ValueError(
            f"{algorithm} takes the prox of the data term, which {data} has not in closed form: "
            "expected GD or PGD"
        )
    if steps.data == "prox" and type(physics).prox_l2 is LinearPhysics.prox_l2:
        raise ValueError(
            f"{algorithm} takes the prox of the data term, which {type(physics).__name__} has "
            "not in closed form: expected GD or PGD"
        )


FAMILY = DeepinvAlgorithm
