"""The sets of the literature, which ``benchopt prepare`` downloads."""

from benchopt import config

from benchmark.imaging.downloads import images_of, prepare
from benchmark.imaging.sources import drawn, folder
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of DIV2K_train, DIV2K_valid, BSDS500_train, CBSD68, Set3C, Set5, Set14,
    Urban100, Kodak24 or McMaster.

    Parameters
    ----------
    train_from, test_from : the collections; where they are the same, its images are split.

    ``benchopt prepare`` downloads what is not there yet, by deepinv's loaders with their checksums
    (Set3C has none), CBSD68 with the help of the package ``datasets``; images placed by hand, or
    linked, in the folder that the message names serve as well.
    """

    name = "Downloads"
    parameters = {
        **ImageDataset.parameters,
        "n_test": [3],
        "train_from": ["CBSD68"],
        "test_from": ["Set3C"],
    }
    prepare_cache_ignore = ("base_seed", "degradation", "size", "n_train", "n_test")

    def prepare(self):
        for name in dict.fromkeys((self.train_from, self.test_from)):
            prepare(name, config.get_data_path())

    def images(self, seed):
        names = dict.fromkeys((self.train_from, self.test_from))
        return drawn(
            [folder(images_of(name, config.get_data_path())) for name in names],
            n_train=self.n_train,
            n_test=self.n_test,
            size=self.size,
            seed=seed,
        )
