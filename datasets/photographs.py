"""Photographs that ship with scikit-image: nothing is downloaded."""

from benchmark.imaging.images import crops, photographs
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of photographs; training and test crops come from different photographs."""

    name = "Photographs"
    requirements = ["pip::scikit-image"]

    def images(self, seed):
        return tuple(
            crops(photographs(split), number=number, size=self.size, seed=seed)
            for split, number in (("train", self.n_train), ("test", self.n_test))
        )
