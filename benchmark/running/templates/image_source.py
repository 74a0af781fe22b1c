"""Smooth random images, as a source of images."""

import torch
from torch.nn.functional import avg_pool2d


def template(number=16):
    """Images (N, C, H, W) in [0, 1].

    A list or a torch dataset of images of any sizes will do: tensors (C, H, W), arrays (H, W, C) or
    images of Pillow's, or pairs of which the first is one.
    """
    generator = torch.Generator().manual_seed(0)
    return avg_pool2d(torch.rand(number, 1, 100, 100, generator=generator), 5, stride=1)
