"""A local mean that is stronger where there is more noise, as a denoiser."""

from torch import nn
from torch.nn.functional import avg_pool2d


class Template(nn.Module):
    """D(v, σ) = (v + w M v) / (1 + w), M a 3×3 mean and w = (σ/``contrast``)².

    Weights in a file of the same name that ends in .safetensors are loaded into the module.
    """

    def __init__(self, contrast=0.1):
        super().__init__()
        self.contrast = contrast

    def forward(self, v, sigma):
        """Images (N, C, H, W) and standard deviations (N,) to images (N, C, H, W)."""
        w = (sigma / self.contrast).square().view(-1, 1, 1, 1)
        return (v + w * avg_pool2d(v, 3, stride=1, padding=1, count_include_pad=False)) / (1 + w)
