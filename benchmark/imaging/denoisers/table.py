"""The denoisers by name, and what is said where one cannot be had."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from benchmark.options.brought import error_line
from benchmark.options.spec import Kind

ImageShape = tuple[int, int, int]

#: deepinv's published weights of the full-size network
DRUNET_FILE = "drunet_deepinv_color_finetune_22k.pth"


def make_denoiser(spec: str, image_shape: ImageShape) -> nn.Module:
    """The denoiser D(v, σ) that ``spec`` names for images (C, H, W), on the CPU.

    ``small_drunet``, ``drunet``, ``wavelet(levels=3)``: see the functions of this module for the
    options. ``deepinv.CLASS(…)`` is one of ``deepinv.models``, told the number of channels as
    ``in_channels`` and ``out_channels``. ``FILE.py(…)`` a module D(v, σ) of images (N, C, H, W) and
    levels (N,), or a function (image_shape, …) that makes one; where ``FILE.safetensors`` lies
    beside it, its weights are those.

    Raises ValueError for an unknown name or option, a shape that the denoiser does not take, or
    what is no denoiser; FileNotFoundError where weights are neither on the machine nor to be
    downloaded.
    """
    channels = {"in_channels": image_shape[0], "out_channels": image_shape[0]}
    chosen = DENOISER.choose(spec, given=("image_shape", *channels))
    made = DENOISER.call(chosen, spec, image_shape=image_shape, **channels)
    if not DENOISER.has(chosen):
        made = _checked(made, _weights_beside(chosen.func), image_shape, what=f"denoiser {spec!r}")
    return made


def _weights_beside(entry: Callable[..., object]) -> Path | None:
    path = Path(getattr(sys.modules[entry.__module__], "__file__", "") or "").with_suffix(
        ".safetensors"
    )
    return path if entry.__module__.startswith("brought_") and path.is_file() else None


@torch.no_grad()
def _checked(
    denoiser: object, weights: Path | None, image_shape: ImageShape, *, what: str
) -> nn.Module:
    """``denoiser`` with its weights; ValueError unless it maps images in float64 to such images."""
    if not isinstance(denoiser, nn.Module):
        raise ValueError(f"{what} is a {type(denoiser).__name__}, expected {DENOISER.form}")
    try:
        if weights is not None:
            denoiser.load_state_dict(load_file(weights))
        denoiser = denoiser.double().eval()
        v = torch.full((2, *image_shape), 0.5, dtype=torch.float64)
        v[1, :, 0] = 0.25
        z = denoiser(v, torch.full((2,), 0.1, dtype=torch.float64))
    except Exception as error:
        raise ValueError(
            f"{what} fails on two images {image_shape} in float64: {error_line(error)}"
        ) from error
    if z.shape != v.shape or z.dtype != v.dtype or not z.isfinite().all():
        raise ValueError(
            f"{what} maps images {tuple(v.shape)} in float64 to {tuple(z.shape)} in {z.dtype}, "
            f"finite: {bool(z.isfinite().all())}; expected finite images of that shape and dtype"
        )
    return denoiser


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
DENOISER: Kind[nn.Module] = Kind(
    "denoiser",
    DENOISERS,
    {"deepinv": ["deepinv.models"]},
    form="a torch.nn.Module (x, σ) ↦ x, or a function (image_shape) that makes one",
)


def _require_drunet_shape(name: str, image_shape: ImageShape) -> None:
    channels, height, width = image_shape
    if channels != 3 or height % 8 or width % 8:
        raise ValueError(
            f"the denoiser {name!r} takes colour images whose sides are multiples of 8, "
            f"got {channels} channel(s) of {height}×{width} pixels"
        )
