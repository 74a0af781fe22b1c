"""Photographs of a folder, random crops of them and noisy images to measure denoisers with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def photographs_of(folder: Path) -> list[Image.Image]:
    """The images of a folder in the order of their names, in RGB. FileNotFoundError without any."""
    paths = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(
            f"expected a folder of images ({', '.join(SUFFIXES)}), got {folder}"
        )
    return [Image.open(path).convert("RGB") for path in paths]


def split(images: Sequence[Image.Image], held_out: int) -> tuple[list, list]:
    """(training, validation): ``held_out`` of the images, evenly spread, are the second part."""
    if not 0 < held_out < len(images):
        raise ValueError(
            f"validation must leave some of the {len(images)} images for training, got {held_out}"
        )
    chosen = {i * len(images) // held_out for i in range(held_out)}
    training = [image for i, image in enumerate(images) if i not in chosen]
    return training, [images[i] for i in sorted(chosen)]


def pyramid(
    images: Sequence[Image.Image], scales: Sequence[float], size: int
) -> list[list[Tensor]]:
    """For each image its copies reduced by ``scales`` (Lanczos), (3, H, W) in bytes.

    Copies with a side below ``size`` are left out. Raises ValueError where none is left.
    """
    copies = []
    for image in images:
        sides = ([round(side * scale) for side in image.size] for scale in scales)
        kept = [_bytes(image.resize(s, Image.Resampling.LANCZOS)) for s in sides if min(s) >= size]
        if not kept:
            raise ValueError(
                f"expected images of at least {size}×{size} pixels, "
                f"got {image.width}×{image.height}"
            )
        copies.append(kept)
    return copies


def random_crops(
    images: Sequence[Sequence[Tensor]], number: int, size: int, generator: torch.Generator
) -> Tensor:
    """``number`` crops (number, 3, size, size), float32 in [0, 1]: photograph, copy, place and
    one of the eight symmetries of the square at random.
    """

    def draw(upper: int) -> int:
        return int(torch.randint(upper, (), generator=generator))

    patches = []
    for _ in range(number):
        copies = images[draw(len(images))]
        image = copies[draw(len(copies))]
        top, left = (draw(side - size + 1) for side in image.shape[1:])
        patch = image[:, top : top + size, left : left + size]
        patch = patch.flip([axis for axis in (1, 2) if draw(2)])
        patches.append(patch.mT if draw(2) else patch)
    return torch.stack(patches).float() / 255


def centre(image: Image.Image, largest: int | None = None) -> Tensor:
    """The central part (1, 3, H, W) of an image, float32 in [0, 1], H and W multiples of 8.

    As large as the image allows, sides at most ``largest``.
    """
    pixels = _bytes(image)
    sides = [min(side, largest or side) // 8 * 8 for side in pixels.shape[1:]]
    top, left = ((s - t) // 2 for s, t in zip(pixels.shape[1:], sides, strict=True))
    return pixels[None, :, top : top + sides[0], left : left + sides[1]].float() / 255


def noisy(truth: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """x̄ + σn, n white and Gaussian, not clipped."""
    return truth + sigma * torch.randn(truth.shape, generator=generator)


def _bytes(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
