"""What is known at values of θ, by a digest of each, and no more of it than fits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, final

from torch import Tensor

V = TypeVar("V")

#: numbers that the gradients of all θ that are kept may hold: 256 MiB of float64
MOST_NUMBERS = 2**25
#: θ that are kept, however small
MOST_KEPT = 256


def digest_of(theta: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of names, shapes and values, read in float64."""
    found = hashlib.sha256()
    for name, value in theta.items():
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.detach().double().cpu().numpy().tobytes())
    return found.digest()


@final
class Kept(Generic[V]):
    """Values by a digest of θ: the first, where all methods start, and those last asked for.

    size : the numbers that a value holds; with it grows what is forgotten.
    """

    def __init__(self, size: int) -> None:
        self.most = max(2, min(MOST_KEPT, MOST_NUMBERS // max(1, size)))
        self._values: dict[bytes, V] = {}

    def once(self, key: bytes, compute: Callable[[], V]) -> V:
        """The value of ``key``, computed where it is not known."""
        if key not in self._values:
            self.put(key, compute())
        elif key != next(iter(self._values)):
            self._values[key] = self._values.pop(key)  # the last asked for
        return self._values[key]

    def put(self, key: bytes, value: V) -> None:
        """Keep ``value``, unless one is known; forget the one not asked for longest."""
        self._values.setdefault(key, value)
        if len(self._values) > self.most:
            _, oldest, *_ = self._values
            del self._values[oldest]

    def __iter__(self):
        return iter(self._values)

    def __getitem__(self, key: bytes) -> V:
        return self._values[key]
