"""Any images of the user's."""

from pathlib import Path

from benchmark.imaging.images import folder_crops
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Colour crops of the images in a folder, of any size and any format that Pillow reads.

    Parameters
    ----------
    path : a folder whose images are split at random into training and test images.
    train_path, test_path : two folders instead, one of each.

    What cannot be read, or is smaller than the crops, is named in a warning and left out.
    """

    name = "Folder"
    parameters = {
        **ImageDataset.parameters,
        "path": [None],
        "train_path": [None],
        "test_path": [None],
    }

    def images(self, seed):
        paths = (self.path, self.train_path, self.test_path)
        one, two = self.path is not None, None not in paths[1:]
        if one == two or (one and paths[1:] != (None, None)):
            raise ValueError(
                "expected either path or both train_path and test_path, got "
                f"path={self.path!r}, train_path={self.train_path!r}, test_path={self.test_path!r}"
            )
        folders = [Path(p).expanduser() for p in ([self.path] if one else paths[1:])]
        return folder_crops(
            folders, n_train=self.n_train, n_test=self.n_test, size=self.size, seed=seed
        )
