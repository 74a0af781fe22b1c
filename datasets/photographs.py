"""Photographs that ship with packages: nothing is downloaded."""

from benchmark.imaging.images import crops
from benchmark.imaging.photographs import photographs
from benchmark.options.seeds import seed_of
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of natural scenes; training and test crops come from different photographs.

    The crops share no pixel. Of 128×128 pixels there are 72 to train on and 119 to test on; asking
    for more is a reason to skip, which says how many there are. Which photographs, whose they are
    and their licences: ``benchmark/imaging/photographs.py``.
    """

    name = "Photographs"
    requirements = ["pip::scikit-image", "pip::scikit-learn", "pip::sporco", "pip::matplotlib"]

    def images(self, seed):
        return tuple(
            crops(
                photographs(split, number), number=number, size=self.size, seed=seed_of(seed, split)
            )
            for split, number in (("train", self.n_train), ("test", self.n_test))
        )
