"""Small simulated images, for tests of the benchmark itself."""

from benchmark.imaging.images import simulated
from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Overlapping coloured rectangles."""

    name = "Simulated"
    parameters = {
        "degradation": ["denoising(sigma=0.1)"],
        "size": [16],
        "n_train": [2],
        "n_test": [2],
    }

    def images(self, seed):
        return tuple(
            simulated(number=number, size=self.size, seed=seed + split)
            for split, number in enumerate((self.n_train, self.n_test))
        )
