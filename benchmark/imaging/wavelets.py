"""An orthonormal periodised wavelet transform of images, as a few matrix products."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from benchmark.imaging.shrinkage import keeps_derivatives
from benchmark.imaging.wavelet_levels import level_of
from benchmark.options.checks import positive_integer, text
from benchmark.solve.functions import Function

ORIENTATIONS = 3
#: so many numbers are transformed at a time: with their copies they stay in a core's cache
PLANES = 2**18


@final
class OrthonormalWavelet(nn.Module):
    """W on images (N, C, H, W): Mallat's pyramid, Wᵀ = W⁻¹ to rounding.

    One level maps x to A x Bᵀ, A and B the one-dimensional transforms of the columns and of the
    rows, whose matrices are torchwavelets' transform of the identity; the coefficients are those
    of ``DWT2D(levels, wavelet, mode="periodization")``. Products with dense matrices, or with their
    bands where sides are long, do more arithmetic than its convolutions, in far fewer and larger
    operations. W is its own inverse's transpose: derivatives of any order, forward or backward,
    are transforms again, and nothing is saved for them.

    Parameters
    ----------
    wavelet : an orthogonal wavelet known to PyWavelets: haar, db2 …, sym2 …, coif1 ….
    levels : number of scales.
    size : (H, W), multiples of 2^levels.

    Raises ValueError where ``size`` does not divide or the wavelet is unknown or not orthogonal.
    """

    def __init__(self, wavelet: str, levels: int, size: tuple[int, int]) -> None:
        super().__init__()
        text("wavelet", wavelet)
        positive_integer("levels", levels, most=20)
        if any(side % 2**levels for side in size):
            raise ValueError(
                f"an image of {size[0]}×{size[1]} pixels cannot be decomposed over {levels} dyadic "
                f"scales: both sides must be multiples of 2^{levels} = {2**levels}"
            )
        self.levels = levels
        self.stages = nn.ModuleList(
            nn.ModuleList(level_of(wavelet, side >> depth) for side in size)
            for depth in range(levels)
        )
        bands = torch.arange(levels * ORIENTATIONS).view(levels, ORIENTATIONS, 1, 1)
        sides = [(size[0] >> depth, size[1] >> depth) for depth in range(1, levels + 1)]
        number = [one.expand(-1, *side)[None, None] for one, side in zip(bands, sides, strict=True)]
        approximation = bands.new_full((1, 1, *sides[-1]), bands.numel())
        self.register_buffer("band", self.arrange(approximation, number)[0, 0])

    def pyramid(self, x: Tensor) -> Tensor:
        """Wx (N, C, H, W), Mallat's pyramid in place: the coarse coefficients in the corner."""
        return self.transformed(x, inverse=False)

    def image(self, pyramid: Tensor) -> Tensor:
        """Wᵀ of what ``pyramid`` returns: its inverse."""
        return self.transformed(pyramid, inverse=True)

    def transformed(self, x: Tensor, *, inverse: bool) -> Tensor:
        """Wx, or Wᵀx, of pyramids and images."""
        one = _Orthonormal.apply if keeps_derivatives() else _Orthonormal.forward
        return one(x, self, inverse)

    def analysis(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Wx: the approximation (N, C, h, w), and the details (N, C, 3, h', w'), finest first.

        The three orientations are those of horizontal, vertical and diagonal edges.
        """
        return self.split(self.pyramid(x))

    def synthesis(self, x: Tensor, details: list[Tensor]) -> Tensor:
        """Wᵀ of what ``analysis`` returns: its inverse."""
        return self.image(self.arrange(x, details))

    def over_bands(self, details: Tensor, approximation: Tensor) -> Tensor:
        """One number a band, at each of its coefficients in the pyramid: (G, H, W).

        details : (levels, 3, G), finest first; approximation : (G,).
        """
        values = torch.cat([details.flatten(0, 1), approximation[None]]).mT
        return values.index_select(1, self.band.flatten()).unflatten(1, self.band.shape)

    def over_orientations(self, pyramid: Tensor) -> Tensor:
        """Σ over the three orientations of a position, at each of them; 0 at the approximation."""
        one = _OverOrientations.apply if keeps_derivatives() else _OverOrientations.forward
        return one(pyramid, self.levels)

    def arrange(self, x: Tensor, details: list[Tensor]) -> Tensor:
        """What ``analysis`` returns as one tensor (N, C, H, W): the pyramid in place, coarse first.

        ``split`` is the inverse; neither computes anything.
        """
        for level in reversed(range(self.levels)):
            x = _quadrants(x, details[level])
        return x

    def split(self, pyramid: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The approximation and the details that ``arrange`` has put into ``pyramid``."""
        details = []
        for _ in range(self.levels):
            pyramid, detail = _bands(pyramid)
            details.append(detail)
        return pyramid, details


def _bands(c: Tensor) -> tuple[Tensor, Tensor]:
    """One level's approximation (N, C, h, w) and details (N, C, 3, h, w) from (N, C, 2h, 2w)."""
    h, w = c.shape[-2] // 2, c.shape[-1] // 2
    # copied once: slices, in a product with the transpose, would each be padded with zeros
    quadrants = c.unflatten(-2, (2, h)).unflatten(-1, (2, w)).permute(0, 1, 4, 2, 3, 5)
    x, details = quadrants.flatten(2, 3).split([1, 3], dim=2)
    return x.squeeze(2), details


def _quadrants(x: Tensor, details: Tensor) -> Tensor:
    """The inverse of ``_bands``."""
    quadrants = torch.cat([x.unsqueeze(2), details], dim=2).unflatten(2, (2, 2))
    return quadrants.permute(0, 1, 3, 4, 2, 5).flatten(4).flatten(2, 3)


@final
class _Orthonormal(Function):
    """W, or its inverse: each is the other's transpose, so that nothing is saved for products."""

    @staticmethod
    def forward(x: Tensor, transform: OrthonormalWavelet, inverse: bool) -> Tensor:
        number, channels, height, width = x.shape
        # rows first: an axis is then one product for all planes; more of them leave the cache
        # (reshape for flatten: torch's older way to vectorise, is_grads_batched, knows no flatten)
        planes = x.reshape(number * channels, height, width).transpose(0, 1)
        planes = planes.split(max(1, PLANES // (height * width)), dim=1)
        one = _image if inverse else _pyramid
        found = [one(some, transform.stages) for some in planes]
        result = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        result = result.transpose(0, 1).reshape(x.shape)
        return result.contiguous() if inverse else result

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.transform, ctx.inverse = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transform.transformed(gradient, inverse=not ctx.inverse), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_: None) -> Tensor:
        return ctx.transform.transformed(tangent, inverse=ctx.inverse)

    @staticmethod
    def vmap(info, in_dims, x: Tensor, transform: OrthonormalWavelet, inverse: bool):
        x = x.movedim(in_dims[0], 0)
        found = _Orthonormal.apply(x.flatten(0, 1), transform, inverse)
        return found.unflatten(0, x.shape[:2]), 0


def _pyramid(x: Tensor, stages: nn.ModuleList) -> Tensor:
    """Wx of planes (H, P, W), and laid out like them."""
    x = _both(x, stages[0], inverse=False)
    for depth in range(1, len(stages)):
        corner = _corner(x, depth)
        corner.copy_(_both(corner, stages[depth], inverse=False))
    return x


def _image(x: Tensor, stages: nn.ModuleList) -> Tensor:
    """The inverse of ``_pyramid``."""
    x = x.clone() if len(stages) > 1 else x
    for depth in reversed(range(1, len(stages))):
        corner = _corner(x, depth)
        corner.copy_(_both(corner, stages[depth], inverse=True))
    return _both(x, stages[0], inverse=True)


def _both(x: Tensor, stage: nn.ModuleList, *, inverse: bool) -> Tensor:
    """One level along both axes of planes (h, P, w)."""
    height, planes, width = x.shape
    columns, rows = stage
    x = columns.columns(x.reshape(height, planes * width), inverse=inverse)
    x = rows.rows(x.reshape(height * planes, width), inverse=inverse)
    return x.view(height, planes, width)


def _corner(x: Tensor, depth: int) -> Tensor:
    return x[: x.shape[0] >> depth, :, : x.shape[2] >> depth]


@final
class _OverOrientations(Function):
    """The sum over orientations written at each of them: symmetric, its own derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, levels: int) -> Tensor:
        found = torch.zeros_like(x)
        for depth in range(levels):
            h, w = x.shape[-2] >> depth + 1, x.shape[-1] >> depth + 1
            low, high = (slice(h), slice(w)), (slice(h, 2 * h), slice(w, 2 * w))
            bands = [(..., high[0], low[1]), (..., low[0], high[1]), (..., high[0], high[1])]
            total = x[bands[0]] + x[bands[1]] + x[bands[2]]
            for band in bands:
                found[band] = total
        return found

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, ctx.levels = inputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        one = _OverOrientations.apply if keeps_derivatives() else _OverOrientations.forward
        return one(gradient, ctx.levels), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        return _OverOrientations.apply(tangent, ctx.levels)
