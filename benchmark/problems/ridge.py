"""Ridge regularisers, convex or weakly so: learned filters, and profiles on what they respond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from pathlib import Path
from typing import final

import numpy as np
import torch
from deepinv.physics import Denoising, LinearPhysics
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from benchmark.options.checks import boolean, positive_integer, positive_number, strictly_between
from benchmark.problems.lower_level import Known, LowerLevelProblem
from benchmark.problems.wavelet import parameter

#: the grid of frequencies on which the filters are normalised
_GRID = 256
#: with zeros outside the image ‖W‖² can exceed its value on the grid, by 0.4 % in trained models
_BORDER = 1.01
#: the arrays of a file of weights, as the authors' code names them, in the order of ``theta``
_FILTERS = (
    "regularizer.filters.0.parametrizations.weight.original",
    "regularizer.filters.1.weight",
    "regularizer.filters.2.weight",
)


@dataclass(frozen=True)
class _Norm:
    """Λ of ``filters``, which are held so that no other tensors can be taken for them."""

    filters: tuple[Tensor, ...]
    versions: tuple[tuple[torch.dtype, int], ...]
    value: Tensor


@final
class RidgeRegulariser(LowerLevelProblem):
    """½‖Ax−y‖² + e^(α−2s) R(e^s x), R(x) = Σ_k e^(−2c_k) Σ_p φ(e^(c_k) (Wx)_k[p]).

        φ(t) = e^(−β) h(e^β t) − w h(t),  h(t) = t²/2 for |t| ≤ 1, |t| − ½ beyond

    w is 0 (convex) or 1 (weakly convex). W is a composition of three layers of filters with zeros
    outside the image, the first without their means, over √Λ, Λ the largest squared modulus of its
    transfer function, through which θ acts too; each channel of an image by itself.

        T(x) = x − τ (Aᵀ(Ax − y) + e^(α−s) Wᵀz),  z_k = e^(−c_k) φ'(e^(c_k+s) (Wx)_k)

    τ = ``stepsize``/L, L = ‖A‖² + 1.01 e^α max(e^β − w, w): where a model is sharp, most responses
    are beyond the quadratic part, and longer steps would do. J is symmetric, and I − J positive
    definite where the objective is strongly convex: in denoising for w = 0, and for w = 1 where
    e^α‖W‖² < 1. Goujon, Neumayer, Bohra, Ducotterd, Unser, "A neural-network-based convex
    regularizer for inverse problems" (2023); the same without Bohra, "Learning weakly convex
    regularizers for convergent image-reconstruction algorithms" (2024); in the form of Hertrich et
    al., "Learning regularization functionals for inverse problems: a comparative study" (2025),
    arXiv 2510.01755, whose minimisers and hypergradients the tests hold this to.

    θ: ``log_strength`` α and ``log_scale`` s (0-d), ``log_widths`` c (K, 1, 1), ``log_sharpness`` β
    (0-d), and the three layers of ``filters``.

    Parameters
    ----------
    physics : A, a linear operator of deepinv between real images.
    lipschitz : ‖A‖².
    weakly_convex : whether w is 1.
    channels, size : of the three layers of filters, whose sides are ``size``, odd.
    strength, width, sharpness : the initial e^α, e^(−c), e^β; s is 0.
    learn_strength : whether θ holds α.
    seed : of the filters that learning starts from, which are normal.
    weights : instead of all that, a file .npz of a trained model, its arrays named as in the code
        of arXiv 2510.01755.
    stepsize : τ in units of 1/L, in (0, 2).

    Made in float64; ``.to(dtype=…)`` gives another precision. Cost of a step: one A, one Aᵀ, one W,
    one Wᵀ. Raises ValueError for a parameter out of its range or weights of another kind,
    FileNotFoundError for weights that are not there.
    """

    strength = ("log_strength",)
    splits = True

    def __init__(
        self,
        physics: LinearPhysics,
        lipschitz: float,
        *,
        weakly_convex: bool = False,
        channels: Sequence[int] = (4, 8, 64),
        size: int = 5,
        strength: float = 1.0,
        width: float = 0.05,
        sharpness: float = 30.0,
        learn_strength: bool = True,
        seed: int = 0,
        weights: str | None = None,
        stepsize: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("weakly_convex", weakly_convex), ("learn_strength", learn_strength)):
            boolean(name, value)
        for name, value in (("strength", strength), ("width", width), ("sharpness", sharpness)):
            positive_number(name, value)
        strictly_between("stepsize (in units of 1/L)", stepsize, low=0, high=2)
        self.physics = physics.requires_grad_(False)
        self.data_lipschitz, self.units = lipschitz, stepsize
        self.weak = float(weakly_convex)
        self.log_strength = parameter(math.log(strength))
        self.log_scale = parameter(0.0)
        self.log_sharpness = parameter(math.log(sharpness))
        self.filters = nn.ParameterList(_drawn(channels, size, seed))
        self.log_widths = parameter(-math.log(width), len(self.filters[-1]), 1, 1)
        if weights is not None:
            self._load(weights)
        self.log_strength.requires_grad_(learn_strength)
        self._known_norm: _Norm | None = None

    @property
    def known(self) -> Known:
        convex = self.weak == 0 and isinstance(self.physics, Denoising)
        return Known(unique=convex, contraction=convex, symmetric=True)

    def init(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y)

    def gradient_step(self, x: Tensor, y: Tensor) -> Tensor:
        sharpest = torch.maximum(self.log_sharpness.exp() - self.weak, torch.tensor(self.weak))
        lipschitz = self.data_lipschitz + _BORDER * self.log_strength.exp() * sharpest
        data = self.physics.A_adjoint(self.physics.A(x) - y)
        return x - self.units / lipschitz * (data + self.slope(x))

    def proximity(self, v: Tensor) -> Tensor:
        """v: there is nothing but the gradient step."""
        return v.view_as(v)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return self.gradient_step(x, y)

    def reconstruct(self, x: Tensor) -> Tensor:
        return x

    def slope(self, x: Tensor) -> Tensor:
        """The gradient of the regulariser at images x (N, C, H, W)."""
        layers, norm = self._layers(), self.norm().sqrt()
        t = (self.log_widths + self.log_scale).exp() / norm * _response(layers, x)
        z = (self.log_sharpness.exp() * t).clamp(-1, 1) - self.weak * t.clamp(-1, 1)
        back = _transposed(layers, (-self.log_widths).exp() * z).view_as(x)
        return (self.log_strength - self.log_scale).exp() / norm * back

    def energy(self, x: Tensor, y: Tensor) -> Tensor:
        """The objective (N,) at images x (N, C, H, W)."""
        t = (self.log_widths + self.log_scale).exp() * _response(self._layers(), x)
        t = t / self.norm().sqrt()
        sharp = self.log_sharpness.exp()
        profile = _huber(sharp * t) / sharp - self.weak * _huber(t)
        each = ((-2 * self.log_widths).exp() * profile).unflatten(0, (len(x), -1)).flatten(1).sum(1)
        data = (self.physics.A(x) - y).flatten(1).square().sum(1) / 2
        return data + (self.log_strength - 2 * self.log_scale).exp() * each

    def norm(self) -> Tensor:
        """Λ, 0-d: from the response of AᵀA to an impulse. Where gradients are disabled, what was
        found before for the same filters.
        """
        if torch.is_grad_enabled():
            return _largest_response(self._layers())
        filters = tuple(self.filters)
        versions = tuple((f.dtype, f._version) for f in filters)
        known = self._known_norm
        same = known and known.versions == versions and all(map(is_, known.filters, filters))
        if not same:
            known = _Norm(filters, versions, _largest_response(self._layers()))
            self._known_norm = known
        return known.value

    def _layers(self) -> list[Tensor]:
        first, *others = self.filters
        return [first - first.mean((1, 2, 3), keepdim=True), *others]

    @torch.no_grad()
    def _load(self, path: str) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"weights {path!r}: there is no such file")
        with np.load(path) as arrays:
            found = {name: torch.from_numpy(arrays[name]).double() for name in arrays.files}
        names = (*_FILTERS, "alpha", "scale", "regularizer.beta", "regularizer.scaling")
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"weights {path!r} lack {', '.join(missing)}")
        self.filters = nn.ParameterList(found[name] for name in _FILTERS)
        self.log_strength.copy_(found["alpha"])
        self.log_scale.copy_(found["scale"])
        self.log_sharpness.copy_(found["regularizer.beta"])
        self.log_widths = nn.Parameter(found["regularizer.scaling"][0])


def _drawn(channels: Sequence[int], size: int, seed: int) -> list[Tensor]:
    """Normal filters (out, in, size, size) for each layer, one channel going in."""
    positive_integer("size", size)
    if size % 2 == 0 or len(channels) != 3:
        raise ValueError(
            f"expected filters of an odd size in three layers, got size={size}, channels={channels}"
        )
    for number in channels:
        positive_integer("channels", number)
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(channels, (1, *channels), strict=False)
    draw = {"generator": generator, "dtype": torch.float64}
    return [torch.randn(out, into, size, size, **draw) for out, into in shapes]


def _response(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """The filters on each channel of x (N, C, H, W) by itself: (NC, K, H, W)."""
    v = x.flatten(0, 1)[:, None]
    for kernel in layers:
        v = conv2d(v, kernel, padding=kernel.shape[-1] // 2)
    return v


def _transposed(layers: Sequence[Tensor], z: Tensor) -> Tensor:
    """(NC, K, H, W) → (NC, 1, H, W)."""
    for kernel in reversed(layers):
        z = conv_transpose2d(z, kernel, padding=kernel.shape[-1] // 2)
    return z


def _largest_response(layers: Sequence[Tensor]) -> Tensor:
    """max_f Σ_k |Ŵ_k(f)|² of the filters, on a grid of frequencies."""
    reach = sum(kernel.shape[-1] - 1 for kernel in layers)
    impulse = layers[0].new_zeros(1, 1, 2 * reach + 1, 2 * reach + 1)
    impulse[..., reach, reach] = 1
    twice = _transposed(layers, _response(layers, impulse))
    return torch.fft.rfft2(twice, s=(_GRID, _GRID)).abs().amax()


def _huber(t: Tensor) -> Tensor:
    """t²/2 up to 1, |t| − ½ beyond."""
    size = t.abs()
    inside = size.clamp_max(1)
    return inside * (size - inside / 2)


FAMILY = RidgeRegulariser
