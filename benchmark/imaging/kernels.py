"""Blur kernels that were measured, from files: MATLAB's, NumPy's, or images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.imaging.reading import read_image, with_channels
from benchmark.options.checks import nonnegative_integer


def measured_kernel(file: str, number: int) -> Tensor:
    """Kernel ``number``, from 0, of ``file``: (h, w), no entry negative, of sum 1, float64.

    A file .mat holds arrays (h, w), or cells of such, as Levin09.mat of Levin et al. does; .npy and
    .npz arrays (h, w) or (N, h, w); anything else is read as an image. Raises ValueError where it
    holds no such kernel, OSError where it cannot be read.
    """
    path = Path(str(file)).expanduser()
    nonnegative_integer("number", number)
    if not path.is_file():
        raise ValueError(f"there is no file {path}: expected blur kernels")
    kernels = _READERS.get(path.suffix.lower(), _image)(path)
    if number >= len(kernels):
        raise ValueError(
            f"{path} holds {len(kernels)} kernels, expected number below, got {number}"
        )
    kernel = np.asarray(kernels[number], dtype=np.float64)
    if kernel.ndim != 2 or not np.isfinite(kernel).all() or kernel.min() < 0 or not kernel.any():
        raise ValueError(
            f"{path}: kernel {number} of shape {kernel.shape}: expected (h, w), no entry negative, "
            "and not all zero"
        )
    return torch.from_numpy(kernel / kernel.sum())


def _matlab(path: Path) -> list[np.ndarray]:
    from scipy.io import loadmat

    try:
        found = loadmat(path)
    except NotImplementedError:  # version 7.3 is HDF5
        return _matlab_hdf5(path)
    except Exception as error:  # whatever is damaged shows in its own way
        raise ValueError(f"{path} is no MATLAB file that can be read: {error}") from error
    arrays = [value for name, value in found.items() if not name.startswith("__")]
    return [
        kernel for array in arrays for kernel in (array.flat if array.dtype == "O" else [array])
    ]


def _matlab_hdf5(path: Path) -> list[np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise ValueError(f"{path} needs the package h5py: {error}") from error
    with h5py.File(path, "r") as file:
        arrays = [value for value in file.values() if isinstance(value, h5py.Dataset)]
        nodes = [
            node
            for array in arrays
            for node in ([file[r] for r in array[()].flat] if array.dtype == "O" else [array])
        ]
        return [np.asarray(node).T for node in nodes]  # stored by columns


def _stack(path: Path) -> Sequence[np.ndarray]:
    loaded = np.load(path, allow_pickle=False)
    arrays = loaded.values() if path.suffix.lower() == ".npz" else [loaded]
    return [kernel for array in arrays for kernel in (array if array.ndim == 3 else [array])]


def _image(path: Path) -> list[np.ndarray]:
    return [with_channels(read_image(path), 1)[..., 0]]


_READERS = {".mat": _matlab, ".npy": _stack, ".npz": _stack}
