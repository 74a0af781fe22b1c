"""Smooth random images."""

import torch
from torch.nn.functional import avg_pool2d

from benchmark.plugins.dataset import ImageDataset


class Dataset(ImageDataset):
    """Means of 5×5 pixels of white noise, stretched to [0, 1]."""

    name = "Template"

    def images(self, seed):
        """Training and test images, (n_train, C, H, W) and (n_test, C, H, W), in [0, 1]."""
        generator = torch.Generator().manual_seed(seed)

        def draw(number):
            noise = torch.rand(number, 3, self.size + 4, self.size + 4, generator=generator)
            smooth = avg_pool2d(noise.double(), 5, stride=1)
            low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
            return (smooth - low) / (high - low)

        return draw(self.n_train), draw(self.n_test)
