"""What a method carries over, for each training image, from one outer step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import final

import torch
from torch import Tensor

from benchmark.problems.bilevel import Batch


@final
class Carried:
    """Tensors by name and image: states, adjoints, directions; counters, and the largest of
    numbers, by name.
    """

    def __init__(
        self,
        kept: dict[tuple[str, int], Tensor] | None = None,
        counts: dict[str, int] | None = None,
        worst: dict[str, float] | None = None,
    ) -> None:
        self._kept = {} if kept is None else kept
        self._counts = {} if counts is None else counts
        #: by name, the largest of what was noted
        self.worst = {} if worst is None else worst

    @property
    def empty(self) -> bool:
        """Whether nothing is carried, and nothing was counted."""
        return not (self._kept or self._counts)

    def get(self, name: str, batch: Batch, default: Tensor | None) -> Tensor | None:
        """What ``put`` kept for the images of ``batch`` (N, …); ``default`` unless all have it."""
        rows = [self._kept.get((name, i)) for i in batch.index or ()]
        if not rows or any(row is None for row in rows):
            return default
        kept = torch.stack(rows)
        return kept if default is None else kept.to(default.dtype)

    def put(self, name: str, batch: Batch, value: Tensor) -> None:
        """Keep ``value`` (N, …), without its graph, for the images of ``batch``."""
        for i, row in zip(batch.index or (), value.detach(), strict=False):
            self._kept[name, i] = row

    def mean(self, name: str) -> Tensor:
        """The mean of ``name`` over all images that have it, of which there must be one."""
        return torch.stack([row for (kept, _), row in self._kept.items() if kept == name]).mean(0)

    def count(self, name: str) -> int:
        """How often this was asked for ``name`` before: 0, 1, 2, …"""
        asked = self._counts.get(name, 0)
        self._counts[name] = asked + 1
        return asked

    def note(self, name: str, value: float) -> None:
        """Remember ``value`` if it is the largest so far; what is no number is none."""
        if value > self.worst.get(name, -inf):
            self.worst[name] = value

    def counts(self) -> dict[str, int]:
        """What ``count`` has counted so far."""
        return dict(self._counts)

    def recount(self, counts: dict[str, int]) -> None:
        """Go on counting from what ``counts`` has said."""
        self._counts = dict(counts)

    def copy(self) -> Carried:
        """One that can be changed without changing this one."""
        return Carried(dict(self._kept), dict(self._counts), dict(self.worst))

    def state(self) -> dict[str, object]:
        """Its tensors and counters, by name; ``of_state`` is the inverse."""
        return {
            "kept": dict(self._kept),
            "counts": dict(self._counts),
            "worst": dict(self.worst),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, dict], device: torch.device) -> Carried:
        """What had that ``state``, its tensors on ``device``."""
        kept = {key: value.to(device) for key, value in state["kept"].items()}
        return cls(kept, dict(state["counts"]), dict(state["worst"]))
