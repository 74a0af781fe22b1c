"""Sets of images that do not fit into memory: in a file, from which each is read when asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

#: the variable of the environment that says up to how many MiB, in float64, a set of images is held
#: in memory, and the number where it does not
LIMIT, LIMIT_MIB = "BENCHMARK_IN_MEMORY_MIB", 1024


def most_bytes() -> int:
    """What a set of images may take in float64 to be held in memory; ValueError for no number."""
    text = os.environ.get(LIMIT, str(LIMIT_MIB))
    if not text.isdecimal():
        raise ValueError(f"{LIMIT} must be a number of MiB, got {text!r}")
    return int(text) * 2**20


def as_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, C) of bytes, or of floats in [0, 1], as (C, H, W) float64 in [0, 1]."""
    scale = 255 if image.dtype == np.uint8 else 1
    values = torch.from_numpy(np.array(image, dtype=np.float64) / scale)
    return values.permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class _Place:
    """Where an image lies in the file: its first byte, (H, W, C), and NumPy's name of its dtype."""

    offset: int
    shape: tuple[int, int, int]
    dtype: str


@final
class Stored(Sequence[Tensor]):
    """Images (C, H, W) in float64, each read anew when it is asked for.

    The file is in a ``PrivateFolder``, as the pixels came: a byte each, of bytes. It is gone with
    the last of what was made of it in the process that wrote it; another, sent this, reads the
    same file meanwhile.
    """

    def __init__(self, path: Path, places: Sequence[_Place], owner: object = None) -> None:
        self._path, self._places, self._owner = path, tuple(places), owner

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> Tensor:
        place = self._places[i]
        options = {"count": int(np.prod(place.shape)), "offset": place.offset}
        values = np.fromfile(self._path, dtype=place.dtype, **options)
        return as_tensor(values.reshape(place.shape))

    def shape_of(self, i: int) -> tuple[int, int, int]:
        """(C, H, W) of image ``i``, which is not read."""
        height, width, channels = self._places[i].shape
        return channels, height, width

    def chosen(self, order: Iterable[int]) -> Stored:
        """The images of these numbers, in their order, in the same file."""
        return Stored(self._path, [self._places[i] for i in order], self._owner)

    def __reduce__(self) -> tuple:
        return Stored, (self._path, self._places)


class PrivateFolder:
    """A folder that others may not read, removed with this object by the process that made it.

    It is where the system has its temporary ones (TMPDIR).
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="benchmark-images-"))
        self._end = weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:  # not one that was forked from it
        shutil.rmtree(path, ignore_errors=True)


def gathered(images: Iterable[np.ndarray]) -> list[Tensor] | Stored:
    """Images (H, W, C), as ``as_tensor`` takes them, as a set: a list where they take no more than
    ``most_bytes``, else in a file, of which one at a time is in memory.

    Raises OSError where the file cannot be written.
    """
    left, most, size = iter(images), most_bytes(), 0
    held: list[np.ndarray] = []
    for image in left:
        size += 8 * image.size
        held.append(np.array(image))  # not a view, which would keep all that it is a part of
        if size > most:
            return _written(chain(held, left))
    return [as_tensor(image) for image in held]


def _written(images: Iterable[np.ndarray]) -> Stored:
    folder, places, offset = PrivateFolder(), [], 0
    with (folder.path / "images").open("wb") as file:
        for image in images:
            file.write(np.ascontiguousarray(image).data)
            places.append(_Place(offset, image.shape, image.dtype.str))
            offset += image.nbytes
    return Stored(folder.path / "images", places, folder)
