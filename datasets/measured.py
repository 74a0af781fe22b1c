"""Measured pairs from a file of the user's."""

from benchmark.imaging.measured import first_pairs, measured_pairs, split_pairs
from benchmark.plugins.dataset import ImageDataset, one_or_two


class Dataset(ImageDataset):
    """Images, what was measured of them and by which operator: nothing is simulated.

    Parameters
    ----------
    source : ``FILE.py`` or ``FILE.py(option=…)``, which defines a function that returns
        ``benchmark.imaging.measured.Measured``, or a list of them; its pairs are split at random
        into training and test pairs.
    train_source, test_source : two sources instead, of which the first pairs are taken.
    n_train, n_test : number of pairs; of one source in proportion, where there are fewer.
    """

    name = "Measured"
    parameters = {
        "source": [None],
        "train_source": [None],
        "test_source": [None],
        "n_train": [4],
        "n_test": [4],
    }

    def images(self, seed):
        sources = one_or_two(
            source=self.source, train_source=self.train_source, test_source=self.test_source
        )
        found = [measured_pairs(source) for source in sources]
        if len(found) == 1:
            return split_pairs(found[0], n_train=self.n_train, n_test=self.n_test, seed=seed)
        return first_pairs(found[0], self.n_train), first_pairs(found[1], self.n_test)
