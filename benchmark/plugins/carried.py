"""What a method carries over, for each training image, from one outer step to the next."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from benchmark.problems.bilevel import Batch
from benchmark.solve.vectors import expand


@final
class Files:
    """Tensors in files of a folder, each written once, its name the number of the file.

    What is replaced is removed, but for what was there when ``settled`` was called last: that is
    what a checkpoint names.
    """

    def __init__(self, folder: Path, owner: object = None) -> None:
        self.folder, self._owner = folder, owner
        self._next, self._settled, self._replaced = 0, 0, []
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, value: Tensor) -> Path:
        """The file that holds ``value``."""
        path = self.folder / f"{self._next}.npy"
        self._next += 1
        np.save(path, value.detach().cpu().resolve_conj().numpy(), allow_pickle=False)
        return path

    def replaced(self, path: Path) -> None:
        """``path`` is asked for no more."""
        if int(path.stem) < self._settled:
            self._replaced.append(path)
        else:
            path.unlink(missing_ok=True)

    def settled(self) -> None:
        """What is there is what a checkpoint names."""
        for path in self._replaced:
            path.unlink(missing_ok=True)
        self._settled, self._replaced = self._next, []

    def take_up(self, names: set[str]) -> None:
        """Go on with the files of these names alone, which a checkpoint names."""
        for path in self.folder.iterdir():
            if path.name not in names:
                path.unlink()
        self._next = 1 + max((int(Path(name).stem) for name in names), default=-1)
        self.settled()


def _read(value: Tensor | Path) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.load(value, allow_pickle=False))


@final
class Carried:
    """Tensors by name and image: states, adjoints, directions; counters, and the largest of
    numbers, by name. With ``files`` the tensors are there, and not in memory.
    """

    def __init__(
        self,
        kept: dict[tuple[str, int], Tensor | Path] | None = None,
        counts: dict[str, int] | None = None,
        worst: dict[str, float] | None = None,
        sizes: dict[tuple[str, int], int] | None = None,
        *,
        files: Files | None = None,
    ) -> None:
        self.files = files
        self._kept = {} if kept is None else kept
        #: of what is of a mean over a batch, the images in that
        self._sizes = {} if sizes is None else sizes
        self._counts = {} if counts is None else counts
        #: by name, the largest of what was noted
        self.worst = {} if worst is None else worst

    @property
    def empty(self) -> bool:
        """Whether nothing is carried, and nothing was counted."""
        return not (self._kept or self._counts)

    def get(self, name: str, batch: Batch, default: Tensor | None) -> Tensor | None:
        """What ``put`` kept for the images of ``batch`` (N, …), of a mean over N where it was of
        one; ``default`` unless all have it.
        """
        rows = [self._kept.get((name, i)) for i in batch.index or ()]
        if not rows or any(row is None for row in rows):
            return default
        kept = torch.stack([_read(row) for row in rows]).to(batch.truth.device)
        scales = [self._sizes.get((name, i), len(batch)) / len(batch) for i in batch.index]
        if set(scales) != {1.0}:
            kept = kept * expand(torch.tensor(scales).to(kept.device, kept.real.dtype), kept)
        return kept if default is None else kept.to(default.dtype)

    def put(self, name: str, batch: Batch, value: Tensor, *, of_mean: bool = False) -> None:
        """Keep ``value`` (N, …), without its graph, for the images of ``batch``; ``of_mean``: it
        has the 1/N of a mean over them, as an adjoint has.
        """
        for i, row in zip(batch.index or (), value.detach(), strict=False):
            before = self._kept.get((name, i))
            self._kept[name, i] = row if self.files is None else self.files.write(row)
            if self.files is not None and isinstance(before, Path):
                self.files.replaced(before)
            if of_mean:
                self._sizes[name, i] = len(batch)

    def mean(self, name: str) -> Tensor:
        """The mean of ``name`` over all images that have it, of which there must be one."""
        rows = [row for (kept, _), row in self._kept.items() if kept == name]
        if all(isinstance(row, Tensor) for row in rows):
            return torch.stack(rows).mean(0)
        return sum(map(_read, rows)) / len(rows)

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
        """One that can be changed without changing this one: what it is given stays in memory."""
        return Carried(dict(self._kept), dict(self._counts), dict(self.worst), dict(self._sizes))

    def state(self) -> dict[str, object]:
        """Its tensors, or their files' names, and its counters; ``of_state`` is the inverse."""
        return {
            "kept": {k: v if isinstance(v, Tensor) else v.name for k, v in self._kept.items()},
            "counts": dict(self._counts),
            "worst": dict(self.worst),
            "sizes": dict(self._sizes),
        }

    @classmethod
    def of_state(
        cls,
        state: Mapping[str, dict],
        device: torch.device,
        *,
        folder: Path | None = None,
        files: Files | None = None,
    ) -> Carried:
        """What had that ``state``, its tensors on ``device`` or in files of ``folder``; what comes
        goes to ``files``, if there are any.
        """
        if files is not None:
            files.take_up({value for value in state["kept"].values() if isinstance(value, str)})
        kept = {
            key: folder / value if isinstance(value, str) else value.to(device)
            for key, value in state["kept"].items()
        }
        others = (dict(state[name]) for name in ("counts", "worst", "sizes"))
        return cls(kept, *others, files=files)
