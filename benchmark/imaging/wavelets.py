"""An orthonormal periodised wavelet transform of images, as a few matrix products."""

from __future__ import annotations

import warnings
from typing import final

import torch
from torch import Tensor, nn
from torchwavelets import DWT1D

from benchmark.options.checks import positive_integer, text

ORIENTATIONS = 3


@final
class OrthonormalWavelet(nn.Module):
    """W on images (N, C, H, W): Mallat's pyramid, Wᵀ = W⁻¹ to rounding.

    One level maps x to A x Bᵀ, A and B the one-dimensional transforms of the columns and of the
    rows, whose matrices are torchwavelets' transform of the identity; the coefficients are those
    of ``DWT2D(levels, wavelet, mode="periodization")``. Dense products do more arithmetic than
    its convolutions, O(HW(H + W)) a level, in far fewer and larger operations: at the sizes of this
    benchmark (64 to 256 pixels) they take a fraction of the time, forward and backward.

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
        for level in range(levels):
            for name, side in zip(("columns", "rows"), size, strict=True):
                self.register_buffer(f"{name}_{level}", _matrix(wavelet, side >> level))

    def _matrices(self, level: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"columns_{level}"), self.get_buffer(f"rows_{level}")

    def analysis(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Wx: the approximation (N, C, h, w), and the details (N, C, 3, h', w'), finest first.

        The three orientations are those of horizontal, vertical and diagonal edges.
        """
        details = []
        for level in range(self.levels):
            columns, rows = self._matrices(level)
            x, detail = _bands(columns @ x @ rows.mT)
            details.append(detail)
        return x, details

    def synthesis(self, x: Tensor, details: list[Tensor]) -> Tensor:
        """Wᵀ of what ``analysis`` returns: its inverse."""
        for level in reversed(range(self.levels)):
            columns, rows = self._matrices(level)
            x = columns.mT @ _quadrants(x, details[level]) @ rows
        return x

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


def _matrix(wavelet: str, side: int) -> Tensor:
    """One level of the transform of ``side`` samples, (side, side), the low-pass rows first."""
    eye = torch.eye(side, dtype=torch.float64)
    with warnings.catch_warnings():
        # it warns of filters longer than the signal: periodised, they are orthonormal all the same
        warnings.filterwarnings("ignore", message="Level value of", category=UserWarning)
        low, (high,) = DWT1D(1, wavelet, mode="periodization")(eye[:, None])
    matrix = torch.cat([low[:, 0], high[:, 0]], dim=1).T.contiguous()
    if not torch.allclose(matrix @ matrix.T, eye, atol=1e-9):
        raise ValueError(
            f"wavelet {wavelet!r} is not orthogonal: the proximity operator is closed only for an "
            "orthonormal transform; expected one of the families haar, db, sym, coif"
        )
    return matrix
