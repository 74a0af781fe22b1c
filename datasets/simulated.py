"""Small simulated images, for tests of the benchmark itself."""

from benchmark.imaging.images import simulated
from benchmark.options.seeds import seed_of
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
            simulated(number=number, size=self.size, seed=seed_of(seed, split))
            for split, number in (("train", self.n_train), ("test", self.n_test))
        )
