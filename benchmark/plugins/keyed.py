"""What benchopt's cache knows of plugins beside their own files and parameters.

A row is taken from the cache only where the same would come out: the key also holds the digest of
the files behind each plugin, and that of the images. It can only add misses.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from inspect import getfile

from torch import Tensor

from benchmark.imaging.images import Cut, Pieces
from benchmark.imaging.images import digest as digest_of_images
from benchmark.imaging.measured import Measured
from benchmark.imaging.stored import Stored
from benchmark.measure.provenance import digest, named, sources


def behind(*plugins) -> dict[str, str]:
    """The files of plugins of benchopt, what they import and what their parameters name, each with
    its digest.
    """
    # benchopt says where it has loaded a plugin from; a class made elsewhere has its module's file
    own = [getattr(p, "_module_filename", None) or getfile(type(p)) for p in plugins]
    return sources([*own, *(f for p in plugins for f in named(p._parameters.values()))])


class Keyed:
    """A plugin whose key holds the digest of the files behind it."""

    # benchopt's hooks: the state is part of the key, and what goes to other processes
    def _get_state(self) -> dict[str, object]:
        return {"sources": digest(behind(self))}

    def __setstate__(self, state: dict[str, object]) -> None:
        pass


class KeyedDataset(Keyed):
    """With the folders and files that its parameters name, wherever the run was started."""

    _state: dict[str, object] | None = None

    def _get_state(self) -> dict[str, object]:
        texts = {k: v for k, v in self._parameters.items() if isinstance(v, str)}
        paths = {name: os.path.expanduser(text) for name, text in texts.items()}
        there = {name: os.path.realpath(p) for name, p in paths.items() if os.path.exists(p)}
        return self._state or {**super()._get_state(), "paths": there}

    def __setstate__(self, state: dict[str, object]) -> None:
        self._state = state


class KeyedObjective(Keyed):
    """With the images of its dataset in its repetition.

    A worker, which benchopt tells of neither before it runs, has them from who sent the objective.
    """

    _state: dict[str, object] | None = None

    def _get_state(self) -> dict[str, object]:
        if self._dataset is None or self._run_context is None:
            return self._state or super()._get_state()
        return {**super()._get_state(), "images": _images(self._dataset, self._run_context)}

    def __setstate__(self, state: dict[str, object]) -> None:
        self._state = state

    def __copy__(self) -> KeyedObjective:
        """benchopt's copy for each repetition, which forgets the dataset, with it."""
        load, arguments, state = self.__reduce__()
        copied = load(*arguments)
        copied.__setstate__(state)
        copied._dataset = self._dataset
        return copied


def _images(dataset, context) -> str | None:
    """The digest of what ``dataset`` gives in ``context``; computed once for each repetition.

    The data stay loaded, as benchopt does it, for the run that comes next.
    """
    known = vars(dataset).setdefault("_digests", {})
    key = context.base_seed, context.repetition
    if key not in known:
        dataset._run_context = context
        data = dataset._get_data()
        known[key] = digest_of_images(*_tensors(data.get("train")), *_tensors(data.get("test")))
    return known[key]


def _tensors(images: object) -> Iterator[Tensor | Pieces]:
    """Those of a set of images, of whichever form of ``benchmark.plugins.task.ImageSet``."""
    if isinstance(images, Tensor):
        yield images
    elif isinstance(images, Stored):
        yield Pieces((len(images),), images)
    elif isinstance(images, Cut):
        yield from _tensors(images.images)
    elif isinstance(images, Measured):
        yield from (images.truth, images.observation)
    elif isinstance(images, Iterable):
        for part in images:
            yield from _tensors(part)
