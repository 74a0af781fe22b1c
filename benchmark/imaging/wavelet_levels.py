"""One level of an orthonormal wavelet transform along one axis: a dense or a banded matrix."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torchwavelets import DWT1D

#: from so many samples on, the product with the band alone is the faster one (`tools/layers.py`)
BANDED = 128
#: low-pass rows, and as many high-pass ones, in a block of the band
BLOCK = 8
#: entries of the matrix below it are rounding
FILTER_ROUNDING = 1e-14


def level_of(wavelet: str, side: int) -> Level:
    """The level of ``side`` samples; ValueError where the wavelet is not orthogonal."""
    matrix = _matrix(wavelet, side)
    whole = side % (2 * BLOCK) == 0
    return Banded(matrix) if whole and side >= BANDED else Dense(matrix)


class Level(nn.Module):
    """An orthogonal matrix M (s, s), the low-pass rows first, applied along either axis."""

    @abstractmethod
    def columns(self, x: Tensor, *, inverse: bool) -> Tensor:
        """Mx, or Mᵀx, for x (s, n)."""

    @abstractmethod
    def rows(self, x: Tensor, *, inverse: bool) -> Tensor:
        """xMᵀ, or xM, for x (n, s)."""


@final
class Dense(Level):
    """s² multiplications a column, in one product of matrices."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def columns(self, x: Tensor, *, inverse: bool) -> Tensor:
        return (self.matrix.mT if inverse else self.matrix) @ x

    def rows(self, x: Tensor, *, inverse: bool) -> Tensor:
        return x @ (self.matrix if inverse else self.matrix.mT)


@final
class Banded(Level):
    """The band of M alone, s(f + 2·BLOCK) multiplications a column, f the length of the filters.

    M, of a side that is a multiple of 2·BLOCK, is periodic: its rows 0 to BLOCK − 1 of the low-pass
    half and of the high-pass one, moved along by 2·BLOCK samples, are the others. So Mx is one
    matrix times overlapping windows of x; and Mᵀx is two, one for each half of x.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        low, high = matrix.split(len(matrix) // 2)
        parts = {
            "forth": torch.cat([low[:BLOCK], high[:BLOCK]]),
            "back_low": low.mT[: 2 * BLOCK],
            "back_high": high.mT[: 2 * BLOCK],
        }
        self.start = {}
        for name, part in parts.items():
            self.start[name], columns = _window(part)
            self.register_buffer(name, part[:, columns])

    def columns(self, x: Tensor, *, inverse: bool) -> Tensor:
        if inverse:
            low, high = x.chunk(2)
            return (self._moved("back_low", low) + self._moved("back_high", high)).view_as(x)
        halves = self._moved("forth", x).unflatten(1, (2, BLOCK))
        return halves.transpose(0, 1).reshape(x.shape)

    def rows(self, x: Tensor, *, inverse: bool) -> Tensor:
        # the transpose of what columns does, block by block
        if inverse:
            low, high = x.chunk(2, dim=1)
            back = self._moved("back_low", low, axis=1) + self._moved("back_high", high, axis=1)
            return back.transpose(0, 1).reshape(x.shape)
        halves = self._moved("forth", x, axis=1).unflatten(2, (2, BLOCK))
        return halves.permute(1, 2, 0, 3).reshape(x.shape)

    def _moved(self, name: str, x: Tensor, *, axis: int = 0) -> Tensor:
        """The block of ``name`` times each window of x: (windows, 2·BLOCK, n), or transposed."""
        block, side = self.get_buffer(name), x.shape[axis]
        number = side // (2 * BLOCK if name == "forth" else BLOCK)
        step, width = side // number, block.shape[1]
        x = _periodic(x, axis, self.start[name] % side, (number - 1) * step + width)
        windows = x.unfold(axis, width, step)
        if axis == 0:
            return block.expand(number, -1, -1) @ windows.transpose(1, 2)
        return windows.transpose(0, 1) @ block.mT.expand(number, -1, -1)


def _window(part: Tensor) -> tuple[int, Tensor]:
    """Where the columns of ``part`` that are not zero begin, and all of them, periodically."""
    side = part.shape[1]
    filled = part.abs().amax(0).gt(FILTER_ROUNDING).nonzero().flatten()
    gaps = torch.diff(filled, append=filled[:1] + side)
    longest = int(gaps.argmax())
    start = int(filled[(longest + 1) % len(filled)])
    return start, (start + torch.arange(side - int(gaps[longest]) + 1)) % side


def _periodic(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """``length`` samples of the periodic signal ``x`` from ``start`` on, contiguous."""
    side, pieces = x.shape[axis], []
    while length > 0:
        pieces.append(x.narrow(axis, start, min(side - start, length)))
        length -= side - start
        start = 0
    return torch.cat(pieces, axis)


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
