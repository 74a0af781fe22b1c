"""Photographs that ship with packages: nothing is downloaded."""

from benchmark.imaging.images import crops
from benchmark.imaging.photographs import serving
from benchmark.options.seeds import seed_of
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of natural scenes; training and test crops come from different photographs.

    The crops share no pixel. Of 128×128 pixels there are 72 to train on and 119 to test on; asking
    for more is a reason to skip, which says how many there are. Which photographs, whose they are
    and their licences: ``benchmark/imaging/photographs.py``.

    Parameters (beside those of all datasets)
    ----------
    train_on : the name of the photograph that all training crops are cut from, of whichever split;
        None: those of the training split in turn.
    """

    name = "Photographs"
    requirements = ["pip::scikit-image", "pip::scikit-learn", "pip::sporco", "pip::matplotlib"]

    parameters = {**ImageDataset.parameters, "size": [32], "train_on": [None]}

    def images(self, seed):
        parts = serving(self.train_on, train=self.n_train, test=self.n_test)
        numbers = {"train": self.n_train, "test": self.n_test}
        return tuple(
            crops(parts[split], number=number, size=self.size, seed=seed_of(seed, split))
            for split, number in numbers.items()
        )
