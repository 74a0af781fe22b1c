"""Arrays and items of datasets as images (H, W, C): which axis is which, which file holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.imaging.reading import from_pillow, in_unit_range

#: what an axis may be called: number, channel, height, width
_AXES = frozenset("NCHW")
#: as many channels, and an axis of that length is one of channels
_USUAL_CHANNELS = (1, 3)
#: bytes of an array that is read as a whole
MOST_STORED = 2**33
#: keys under which items of a dataset hold their image
_IMAGE_KEYS = ("image", "img", "x", "pixel_values")


def axes_of(shape: Sequence[int], *, several: bool, axes: str | None = None) -> str:
    """What the axes of an array of ``shape`` are, in letters of "NCHW", or the ``axes`` given.

    several : whether the array holds several images, and not one.

    Without ``axes``, HW and NHW are grey, and channels are the one axis, first or last, of length 1
    or 3. Raises ValueError where that is not clear or ``axes`` does not fit.

    Examples
    --------
    >>> axes_of((8, 64, 64, 3), several=True), axes_of((8, 64, 64), several=True)
    ('NHWC', 'NHW')
    >>> axes_of((5, 64, 64), several=False)
    Traceback (most recent call last):
    ValueError: an array of shape (5, 64, 64): say what its axes are, as axes='CHW'
    """
    letters = "NCHW" if several else "CHW"
    if axes is not None:
        allowed = set(axes) <= set(letters) and set(axes) >= set(letters) - {"C"}
        if not (allowed and len(axes) == len(set(axes)) == len(shape)):
            raise ValueError(
                f"axes={axes!r} for an array of shape {tuple(shape)}: expected each of "
                f"{letters} once, C where there is one"
            )
        return axes
    first = int(several)
    if len(shape) == first + 2:
        return letters.replace("C", "")
    if len(shape) == first + 3:
        ends = [shape[first] in _USUAL_CHANNELS, shape[-1] in _USUAL_CHANNELS]
        if ends == [True, False]:
            return letters
        if ends == [False, True]:
            return letters.replace("C", "") + "C"
    raise ValueError(
        f"an array of shape {tuple(shape)}: say what its axes are, as axes={letters!r}"
    )


def channels_last(array: np.ndarray, axes: str) -> np.ndarray:
    """``array`` with its axes, named ``axes``, in the order (N, H, W, C), N where there is one."""
    if "C" not in axes:
        array, axes = array[..., None], axes + "C"
    wanted = [letter for letter in "NHWC" if letter in axes]
    return np.transpose(array, [axes.index(letter) for letter in wanted])


def one_image(array: np.ndarray, axes: str, white: float | None) -> np.ndarray:
    """An image (H, W, C) in the unit range from an array whose axes are named ``axes``.

    A complex one, of one channel, becomes two real channels in [−1, 1], its absolute value at most
    ``white``, 1 unless given. Raises ValueError as ``in_unit_range`` does.
    """
    image = channels_last(array, axes)
    if image.dtype.kind != "c":
        return in_unit_range(image, white)
    if image.shape[2] != 1:
        raise ValueError(f"complex values in {image.shape[2]} channels, expected one")
    in_unit_range(np.abs(image), 1 if white is None else white)
    return np.concatenate([image.real, image.imag], axis=2, dtype=np.float64) / (white or 1)


def image_of(item: object, *, axes: str | None = None, white: float | None = None) -> np.ndarray:
    """The image (H, W, C) that an item of a dataset holds: bytes, or float64 in [0, 1].

    Complex values become two channels: see ``one_image``.

    An image of Pillow's, a tensor (C, H, W) or (H, W), an array as ``axes_of`` reads it; or the
    first of several, as of an image and its label; or what a mapping holds under "image", "img",
    "x" or "pixel_values". Raises ValueError for anything else, and as ``in_unit_range`` does.
    """
    if isinstance(item, Mapping):
        keys = [key for key in _IMAGE_KEYS if key in item]
        if not keys:
            raise ValueError(
                f"an item with {', '.join(map(str, item)) or 'nothing'} in it: expected one of "
                f"{', '.join(_IMAGE_KEYS)}"
            )
        item = item[keys[0]]
    elif isinstance(item, tuple | list) and len(item):
        item = item[0]
    if isinstance(item, Image.Image):
        return from_pillow(item, white=white)
    if isinstance(item, torch.Tensor):
        axes = {2: "HW", 3: "CHW"}.get(item.ndim) if axes is None else axes
        item = item.detach().cpu().numpy()
    if not isinstance(item, np.ndarray):
        raise ValueError(f"an item of type {type(item).__name__}: expected an image or an array")
    return one_image(item, axes_of(item.shape, several=False, axes=axes), white)


def stored_array(path: Path, key: str | None) -> tuple[tuple[int, ...], Callable[..., np.ndarray]]:
    """The shape of the array in a file .npy, .npz, .h5 or .hdf5, and how to read ``array[index]``.

    ``key`` names one of several arrays in a file. Raises ValueError where it is needed, no such
    array is there, or the package that reads the file is not.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return array.shape, lambda index: np.array(array[index])
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            name = _key(list(file), key, path)
            stored = file.zip.getinfo(f"{name}.npy").file_size
            if stored > MOST_STORED:
                raise ValueError(
                    f"{path}: {name} holds {stored} bytes, and .npz is read as a whole: expected "
                    f"at most {MOST_STORED}; .npy and HDF5 are read image by image"
                )
            found = file[name]
        return found.shape, lambda index: found[index]
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path} needs the package h5py: {error}") from error
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda n, node: names.append(n) if isinstance(node, h5py.Dataset) else None)
        name = _key(names, key, path)
        shape = file[name].shape

    def read(index: object) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][index])

    return shape, read


def _key(names: Sequence[str], key: str | None, path: Path) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key not in names:
        raise ValueError(
            f"{path} holds {', '.join(names) or 'no array'}: expected key to name one of them, "
            f"got {key!r}"
        )
    return key
