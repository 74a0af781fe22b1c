"""What a run has come to, on disk, without pickle: safetensors files, whole or not there at all.

Beside a file that is replaced each time (``write``) there is one that grows (``append``), for what
does not change any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from benchmark.options.whole import whole

#: the key of what JSON has no word for
TENSOR, ARRAY, TUPLE, ITEMS = "⟨tensor⟩", "⟨array⟩", "⟨tuple⟩", "⟨items⟩"
#: bytes of the length that is before each part of a file that grows
SIZE = 8


def write(path: Path, tree: object) -> None:
    """Put ``tree`` into the file at ``path``; what was there stays whole until the new file is.

    tree : dicts, lists and tuples, nested, of tensors, NumPy arrays of numbers, numbers, texts,
    flags and None. Raises TypeError for anything else, OSError where it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(tree, tensors))
    with whole(path) as unfinished:
        save_file(tensors, unfinished, metadata={"tree": text})


def read(path: Path) -> object:
    """The tree that ``write`` put there, tensors on the CPU, bit for bit.

    Raises FileNotFoundError where there is none, ValueError where it is not such a file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _tree(json.loads(file.metadata()["tree"]), tensors)
    except Exception as error:
        raise ValueError(f"{path} is no checkpoint: {type(error).__name__}: {error}") from error


def append(path: Path, tree: object, *, at: int) -> int:
    """Put ``tree`` behind the first ``at`` bytes of the file at ``path``, in place of the others,
    and return where it ends. ``tree`` and errors are as in ``write``. Cost: that of ``tree`` alone.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(tree, tensors)).encode()
    parts = (text, save(tensors))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.truncate(at)
        file.seek(at)
        for part in parts:
            file.write(len(part).to_bytes(SIZE, "little") + part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def appended(path: Path, *, until: int) -> Iterator[object]:
    """The trees in the first ``until`` bytes of the file at ``path``, one by one.

    Raises ValueError where there are not so many bytes, or they hold something else.
    """
    if not path.is_file() or path.stat().st_size < until:
        raise ValueError(f"{path} is shorter than {until} bytes")
    with path.open("rb") as file:
        while file.tell() < until:
            try:
                text, tensors = (file.read(int.from_bytes(file.read(SIZE), "little")) for _ in "12")
                tree = _tree(json.loads(text), load(tensors))
            except Exception as error:
                raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
            yield tree


def _plain(value: object, tensors: dict[str, Tensor]) -> object:
    """``value`` in what JSON has, its tensors put into ``tensors`` under numbers."""
    if isinstance(value, Tensor | np.ndarray):
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
        name = str(len(tensors))
        tensors[name] = tensor.detach().cpu().contiguous().clone()
        return {TENSOR if isinstance(value, Tensor) else ARRAY: name}
    if isinstance(value, dict):
        return {ITEMS: [[_plain(k, tensors), _plain(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {TUPLE: [_plain(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_plain(v, tensors) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint holds no {type(value).__name__}, got {value!r}")


def _tree(plain: object, tensors: dict[str, Tensor]) -> object:
    """The inverse of ``_plain``."""
    if isinstance(plain, list):
        return [_tree(v, tensors) for v in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == TENSOR:
        return tensors[value]
    if kind == ARRAY:
        return tensors[value].numpy()
    if kind == TUPLE:
        return tuple(_tree(v, tensors) for v in value)
    return {_tree(k, tensors): _tree(v, tensors) for k, v in value}
