"""Images: photographs that ship with scikit-image, crops of them, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.checks import positive_integer

#: colour photographs in scikit-image's own data folder, no download; the splits share none
PHOTOGRAPHS = {
    "train": ("chelsea.png", "coffee.png", "motorcycle_left.png", "ihc.png"),
    "test": ("astronaut.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg"),
}


def photographs(split: str) -> list[Image.Image]:
    """The photographs of a split, "train" or "test", whole and in RGB."""
    folder = files("skimage") / "data"
    missing = [name for name in PHOTOGRAPHS[split] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"scikit-image's data folder {folder} lacks {', '.join(missing)}: "
            "expected the photographs that ship with scikit-image 0.26"
        )
    return [Image.open(folder / name).convert("RGB") for name in PHOTOGRAPHS[split]]


def crops(images: Sequence[Image.Image], *, number: int, size: int, seed: int) -> Tensor:
    """``number`` square colour crops, (number, 3, size, size) float64 in [0, 1], drawn by ``seed``.

    The images serve in turn. Each is first reduced (Lanczos) until its shorter side is twice
    ``size``, unless it is smaller already, so that a small crop still shows a scene and not a
    texture. Raises ValueError where an image is smaller than the crop, or a number is not positive.
    """
    positive_integer("number of images", number)
    positive_integer("size", size)
    generator = np.random.default_rng(seed)
    patches = []
    for i in range(number):
        image = images[i % len(images)]
        shorter = min(image.size)
        if shorter < size:
            raise ValueError(f"an image of {image.size} pixels cannot give a crop of {size}×{size}")
        if shorter > 2 * size:
            scaled = [max(2 * size, round(side * 2 * size / shorter)) for side in image.size]
            image = image.resize(scaled, Image.Resampling.LANCZOS)
        left, top = (int(generator.integers(side - size + 1)) for side in image.size)
        patch = image.crop((left, top, left + size, top + size))
        patches.append(torch.from_numpy(np.array(patch, dtype=np.float64) / 255))
    return torch.stack(patches).permute(0, 3, 1, 2).contiguous()


def simulated(*, number: int, size: int, seed: int) -> Tensor:
    """``number`` images (number, 3, size, size) in [0, 1] of overlapping coloured rectangles."""
    positive_integer("number of images", number)
    positive_integer("size", size)
    generator = np.random.default_rng(seed)
    canvas = np.full((number, 3, size, size), 0.5)
    for image in canvas:
        for _ in range(6):
            top, left = generator.integers(size, size=2)
            height, width = generator.integers(2, size + 2, size=2)
            image[:, top : top + height, left : left + width] = generator.random((3, 1, 1))
    return torch.from_numpy(canvas)


def digest(*tensors: Tensor) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the shapes and values, in float32."""
    sha = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
        sha.update(str(array.shape).encode() + array.tobytes())
    return sha.hexdigest()[:12]


def to_uint8(image: Tensor) -> np.ndarray:
    """One image (C, H, W), clipped to [0, 1], as an array (H, W, 3) of bytes for display."""
    scaled = (image.detach().clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)
    return scaled.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
