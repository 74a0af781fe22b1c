"""Small simulated images, for tests of the benchmark itself."""

from benchopt import BaseDataset

from benchmark.checks import positive_integer
from benchmark.images import simulated


class Dataset(BaseDataset):
    """Overlapping coloured rectangles; the parameters are those of ``Photographs``."""

    name = "Simulated"
    parameters = {
        "degradation": ["denoising(sigma=0.1)"],
        "size": [16],
        "n_train": [2],
        "n_test": [2],
    }

    def get_data(self):
        positive_integer("n_train", self.n_train)
        positive_integer("n_test", self.n_test)
        seed = self.get_seed(use_repetition=True)
        return {
            "train": simulated(number=self.n_train, size=self.size, seed=seed),
            "test": simulated(number=self.n_test, size=self.size, seed=seed + 1),
            "degradation": self.degradation,
            "seed": seed,
        }
