"""The base class of the dataset plugins."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import final

from benchopt import BaseDataset

from benchmark.options.brought import error_line
from benchmark.options.checks import check_all
from benchmark.plugins.keyed import KeyedDataset
from benchmark.plugins.rules import RULES
from benchmark.plugins.task import ImageSet, require_apart, require_range


class ImageDataset(KeyedDataset, BaseDataset, ABC):
    """Training and test images, and how they are degraded.

    Parameters
    ----------
    degradation : "name" or "name(option=value, …)": see ``benchmark/imaging/degradations.py``.
    size : side of the images in pixels, or [height, width], or "heightxwidth".
    n_train, n_test : number of images.

    Images, masks and noise follow benchopt's ``--seed`` and differ between repetitions.
    """

    parameters = {
        "degradation": ["inpainting(keep=0.5,sigma=0.05)"],
        "size": [64],
        "n_train": [4],
        "n_test": [4],
    }

    @final
    def save_parameters(self, **parameters: object) -> None:
        """benchopt's hook at creation: lists become text, for the columns of the results."""
        lists = {k: str(list(v)) for k, v in parameters.items() if isinstance(v, list | tuple)}
        super().save_parameters(**parameters | lists)

    @abstractmethod
    def images(self, seed: int) -> tuple[ImageSet, ImageSet]:
        """Training and test images, each one of

        - a tensor (n, C, H, W) in [0, 1], or a list of (C, H, W), of any sizes, each a photograph
          of its own; or ``benchmark.imaging.images.Cut``: images and the photograph of each;
        - ``benchmark.imaging.measured.Measured``, or a list of them: images, what was measured of
          them and the operator that did. Such a dataset has no parameter ``degradation``, and
          nothing is simulated.

        ValueError and OSError say why they cannot be had.
        """

    @final
    def get_data(self) -> dict[str, object]:
        """What ``Objective`` takes. Images that cannot be had are a reason to skip, not a crash."""
        seed = self.get_seed(use_repetition=True)
        try:
            check_all(self._parameters, RULES)
            train, test = self.images(seed)
            require_range(train, "training")
            require_range(test, "test")
            require_apart(train, test)
        except (ValueError, OSError) as error:
            return {"unavailable": f"{self.name}: {error}"}
        except Exception as error:  # of a file of the user's: the other datasets go on
            file = inspect.getsourcefile(type(self))
            return {"unavailable": f"{self.name} ({file}): {error_line(error)}"}
        degradation = getattr(self, "degradation", None)
        return {"train": train, "test": test, "degradation": degradation, "seed": seed}


def one_or_two(**options: object) -> list[object]:
    """The first of three options, or both the others: whichever are given, and no more.

    Raises ValueError, with the names.
    """
    (one, found), *two = options.items()
    given = [value for _, value in two]
    if (found is None) == (None in given) or (found is not None and given != [None, None]):
        got = ", ".join(f"{name}={value!r}" for name, value in options.items())
        names = " and ".join(name for name, _ in two)
        raise ValueError(f"expected either {one} or both {names}, got {got}")
    return given if found is None else [found]
