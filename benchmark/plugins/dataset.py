"""The base class of the dataset plugins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from benchopt import BaseDataset
from torch import Tensor

from benchmark.options.checks import check_all
from benchmark.plugins.rules import RULES


class ImageDataset(BaseDataset, ABC):
    """Training and test images, and how they are degraded.

    Parameters
    ----------
    degradation : "name" or "name(option=value, …)": see ``benchmark/imaging/degradations.py``.
    size : side of the square images, pixels.
    n_train, n_test : number of images.

    Images, masks and noise follow benchopt's ``--seed`` and differ between repetitions.
    """

    parameters = {
        "degradation": ["inpainting(keep=0.5,sigma=0.05)"],
        "size": [64],
        "n_train": [4],
        "n_test": [4],
    }

    @abstractmethod
    def images(self, seed: int) -> tuple[Tensor, Tensor]:
        """Training and test images, (n_train, 3, size, size) and (n_test, 3, size, size) in [0, 1].

        ValueError and OSError say why they cannot be had.
        """

    @final
    def get_data(self) -> dict[str, object]:
        """What ``Objective`` takes. Images that cannot be had are a reason to skip, not a crash."""
        seed = self.get_seed(use_repetition=True)
        try:
            check_all(self._parameters, RULES)
            train, test = self.images(seed)
        except (ValueError, OSError) as error:
            return {"unavailable": f"{self.name}: {error}"}
        return {"train": train, "test": test, "degradation": self.degradation, "seed": seed}
