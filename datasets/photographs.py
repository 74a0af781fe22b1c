"""Photographs that ship with scikit-image: nothing is downloaded."""

from benchmark.imaging.images import PHOTOGRAPHS, Cut, crops, photographs
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of photographs; training and test crops come from different photographs."""

    name = "Photographs"
    requirements = ["pip::scikit-image"]

    def images(self, seed):
        made = []
        for split, number in (("train", self.n_train), ("test", self.n_test)):
            names = PHOTOGRAPHS[split]
            cut = crops(photographs(split), number=number, size=self.size, seed=seed)
            made.append(Cut(cut, tuple(names[i % len(names)] for i in range(number))))
        return tuple(made)
