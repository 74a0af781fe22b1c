"""Images from anywhere: folders, files, arrays, datasets of libraries, a file of the user's."""

from benchmark.imaging.sources import drawn, pictures
from benchmark.options.checks import optional, positive_integer, positive_number
from benchmark.plugins.dataset import ImageDataset, one_or_two


class Dataset(ImageDataset):
    """Crops of images, or whole images, from sources that ``benchmark/imaging/sources.py`` reads.

    Parameters
    ----------
    source : a list of files, a folder, a pattern ("photos/*.png"), an array (.npy, .npz, .h5,
        .hdf5), ``array(path='x.h5',key='images',axes='NHWC')``, ``deepinv.NAME(option=…)``,
        ``torchvision.NAME(…)``, ``hugging_face(path=…)``, or ``FILE.py(option=…)``, which defines
        a function that returns images, or a torch dataset. Its images are split at random into
        training and test images.
    train_source, test_source : two sources instead, one of each.
    channels : 1, 3 or as many as the images have; None: as they are.
    white : the value that means 1, where the images do not say it (12 bits, integers of 32, floats
        beyond 1).
    size : side of the crops, [height, width] or "heightxwidth"; "whole": the images themselves, of
        sizes of their own.
    multiple_of : the sides of whole images are cut to multiples of it.

    What cannot be read, or is smaller than the crops, is named in a warning and left out.
    """

    name = "Images"
    parameters = {
        **ImageDataset.parameters,
        "source": [None],
        "train_source": [None],
        "test_source": [None],
        "channels": [None],
        "white": [None],
        "multiple_of": [1],
    }

    def images(self, seed):
        optional(positive_integer)("channels", self.channels)
        optional(positive_number)("white", self.white)
        sources = one_or_two(
            source=self.source, train_source=self.train_source, test_source=self.test_source
        )
        return drawn(
            [pictures(source) for source in sources],
            n_train=self.n_train,
            n_test=self.n_test,
            size=self.size,
            seed=seed,
            channels=self.channels,
            white=self.white,
            multiple_of=self.multiple_of,
        )
