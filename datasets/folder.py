"""Any images of the user's."""

from benchmark.imaging.sources import drawn, folder
from benchmark.plugins.dataset import ImageDataset, one_or_two


class Dataset(ImageDataset):
    """Colour crops of the images in a folder, of any size and any format that can be read.

    Parameters
    ----------
    path : a folder whose images are split at random into training and test images.
    train_path, test_path : two folders instead, one of each.

    What cannot be read, or is smaller than the crops, is named in a warning and left out. For other
    sources, other numbers of channels and whole images: the dataset ``Images``.
    """

    name = "Folder"
    parameters = {
        **ImageDataset.parameters,
        "path": [None],
        "train_path": [None],
        "test_path": [None],
    }

    def images(self, seed):
        folders = one_or_two(path=self.path, train_path=self.train_path, test_path=self.test_path)
        return drawn(
            [folder(path) for path in folders],
            n_train=self.n_train,
            n_test=self.n_test,
            size=self.size,
            seed=seed,
        )
