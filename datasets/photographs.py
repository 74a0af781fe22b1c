"""Photographs that ship with scikit-image: nothing is downloaded."""

from benchopt import BaseDataset

from benchmark.checks import positive_integer
from benchmark.images import crops, photographs


class Dataset(BaseDataset):
    """Colour crops of photographs; training and test crops come from different photographs.

    Parameters
    ----------
    degradation : "name" or "name(option=value, …)": see ``benchmark/degradations.py``.
    size : side of the crops, pixels.
    n_train, n_test : number of crops.

    Crops, masks and noise follow benchopt's ``--seed`` and differ between repetitions.
    """

    name = "Photographs"
    parameters = {
        "degradation": ["inpainting(keep=0.5,sigma=0.05)"],
        "size": [64],
        "n_train": [4],
        "n_test": [4],
    }
    requirements = ["pip::scikit-image"]

    def get_data(self):
        positive_integer("n_train", self.n_train)
        positive_integer("n_test", self.n_test)
        seed = self.get_seed(use_repetition=True)
        train, test = (
            crops(photographs(split), number=number, size=self.size, seed=seed)
            for split, number in (("train", self.n_train), ("test", self.n_test))
        )
        return {"train": train, "test": test, "degradation": self.degradation, "seed": seed}
