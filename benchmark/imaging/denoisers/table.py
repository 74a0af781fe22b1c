"""The denoisers by name, and what is said where one cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmark.options.spec import build

ImageShape = tuple[int, int, int]

#: deepinv's published weights of the full-size network
DRUNET_FILE = "drunet_deepinv_color_finetune_22k.pth"


def make_denoiser(spec: str, image_shape: ImageShape) -> nn.Module:
    """The denoiser that ``spec`` names for images (C, H, W), on the CPU.

    ``small_drunet``, ``drunet``, ``wavelet(levels=3)``: see the functions of this module for the
    options. Raises ValueError for an unknown name or option or a shape that the denoiser does not
    take, FileNotFoundError where weights are neither on the machine nor to be downloaded.
    """
    return build(spec, DENOISERS, kind="denoiser", image_shape=image_shape)


def small_drunet(image_shape: ImageShape, trained: bool = True, seed: int = 0) -> nn.Module:
    """The network that ships with the package; untrained, with weights drawn from ``seed``."""
    from benchmark.imaging.denoisers import small_drunet as module

    _require_drunet_shape("small_drunet", image_shape)
    if trained:
        return module.trained()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return module.SmallDRUNet()


def drunet(image_shape: ImageShape) -> nn.Module:
    """deepinv's DRUNet with its published weights, 32.6 million, downloaded on first use.

    Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (2021).
    """
    from deepinv.models import DRUNet
    from deepinv.models.utils import get_weights_url

    _require_drunet_shape("drunet", image_shape)
    try:
        return DRUNet(pretrained="download").eval()
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise FileNotFoundError(
            f"the weights of the denoiser 'drunet' could not be loaded ({error}): place the file "
            f"{get_weights_url('drunet', DRUNET_FILE)} in {folder} as {DRUNET_FILE}, or use the "
            "denoiser 'small_drunet', which needs no download"
        ) from error


def wavelet(image_shape: ImageShape, wavelet: str = "db4", levels: int = 3) -> nn.Module:
    """Soft-thresholding of orthonormal wavelet coefficients at σ: firmly nonexpansive, proved."""
    # here, for it imports the wavelets of benchmark.problems, which imports this table
    from benchmark.imaging.denoisers.wavelet import WaveletShrinkage

    return WaveletShrinkage(wavelet, levels, image_shape[1:])


DENOISERS: dict[str, Callable[..., nn.Module]] = {
    "small_drunet": small_drunet,
    "drunet": drunet,
    "wavelet": wavelet,
}


def _require_drunet_shape(name: str, image_shape: ImageShape) -> None:
    channels, height, width = image_shape
    if channels != 3 or height % 8 or width % 8:
        raise ValueError(
            f"the denoiser {name!r} takes colour images whose sides are multiples of 8, "
            f"got {channels} channel(s) of {height}×{width} pixels"
        )
