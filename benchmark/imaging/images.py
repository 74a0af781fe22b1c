"""Images: crops, simulated ones, digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.options.checks import positive_integer
from benchmark.options.seeds import seed_of

T = TypeVar("T")
#: as many crops fit across each side of an image before it is reduced for them
ACROSS = 4


@dataclass(frozen=True)
class Cut:
    """Images, (n, C, H, W) or a list of (C, H, W), and the photograph that each was cut from.

    Images with one name are of one photograph: what is found on them is not independent.
    """

    images: Tensor | list[Tensor]
    photographs: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.photographs):
            raise ValueError(
                f"{len(self.photographs)} names of photographs for {len(self.images)} images"
            )


def shuffled(number: int, *, seed: int) -> list[int]:
    """0, 1, …, ``number`` − 1 in an order by ``seed``."""
    return np.random.default_rng(seed_of(seed, "order")).permutation(number).tolist()


def parted(order: Sequence[T], *, n_train: int, n_test: int) -> tuple[Sequence[T], Sequence[T]]:
    """``order`` in two parts, in the proportion of the numbers, at least one each.

    The one part begins at the front, the other at the back: where there are enough of both, how
    many are taken of the one does not change the first of the other.
    """
    share = round(len(order) * n_train / (n_train + n_test))
    cut = min(max(share, 1), len(order) - 1)
    return order[:cut], order[cut:][::-1]


def sides_of(size: object) -> tuple[int, int]:
    """(H, W) from a side, two sides, or text: "48x80". Raises ValueError for anything else.

    Examples
    --------
    >>> sides_of(64), sides_of([48, 80]), sides_of("48x80"), sides_of("[48, 80]")
    ((64, 64), (48, 80), (48, 80), (48, 80))
    """
    if isinstance(size, str) and (sides := re.fullmatch(r"\[?(\d+)(?:x|, *)(\d+)\]?", size)):
        size = [int(side) for side in sides.groups()]
    if not isinstance(size, list | tuple):
        size = (size, size)
    if len(size) != 2:
        raise ValueError(f"size must be a side, [height, width] or 'heightxwidth', got {size!r}")
    for side in size:
        positive_integer("size", side)
    return int(size[0]), int(size[1])


def crops(
    images: Mapping[str, Image.Image | np.ndarray], *, number: int, size: object, seed: int
) -> Cut:
    """``number`` crops that share no pixel, (number, C, H, W) float64 in [0, 1], drawn by ``seed``.

    The images, by name, of Pillow's or arrays (H, W, C) of bytes or floats in [0, 1] (complex ones,
    of two channels, in [−1, 1]), serve in turn, each as long as it has a crop left. They are first
    reduced (Lanczos) as far as each side stays ``ACROSS`` times that of a crop, so that a small
    crop still shows a part of a scene and not a texture. The crops of an image are cells of a grid,
    which the seed and the image's number place and shuffle: they do not depend on how many are
    asked for, nor on the other images. ``size`` : see ``sides_of``.

    Raises ValueError where there are not so many, which says how many there are; where an image is
    smaller than the crop, the images differ in channels, or a number is not positive.
    """
    positive_integer("number of images", number)
    sides = sides_of(size)
    cells = {
        name: _cells(np.asarray(image), sides, seed_of(seed, "crops", i))
        for i, (name, image) in enumerate(images.items())
    }
    turns = zip_longest(*([(name, cell) for cell in found] for name, found in cells.items()))
    in_turn = [pair for turn in turns for pair in turn if pair is not None]
    if len(in_turn) < number:
        raise ValueError(
            f"{len(cells)} images hold {len(in_turn)} crops of {sides[1]}×{sides[0]} pixels that "
            f"do not overlap, {number} are asked for"
        )
    names, patches = zip(*in_turn[:number], strict=True)
    counts = {patch.shape[2] for patch in patches}
    if len(counts) > 1:
        raise ValueError(f"images of {sorted(counts)} channels in one set: say channels=1 or 3")
    return Cut(torch.stack([as_tensor(patch) for patch in patches]), names)


def _cells(image: np.ndarray, sides: tuple[int, int], seed: int) -> list[np.ndarray]:
    """The cells (h, w, C) of a grid on ``image``, placed and in an order by ``seed``."""
    image = _reduced(image, *sides)
    generator = np.random.default_rng(seed)
    spare = [length % side for length, side in zip(image.shape[:2], sides, strict=True)]
    offsets = [int(generator.integers(pixels + 1)) for pixels in spare]
    corners = [
        (top, left)
        for top in range(offsets[0], image.shape[0] - sides[0] + 1, sides[0])
        for left in range(offsets[1], image.shape[1] - sides[1] + 1, sides[1])
    ]
    return [
        image[top : top + sides[0], left : left + sides[1]]
        for top, left in (corners[i] for i in generator.permutation(len(corners)))
    ]


def as_tensor(image: np.ndarray) -> Tensor:
    """An image (H, W, C) of bytes, or of floats in [0, 1], as (C, H, W) float64 in [0, 1]."""
    scale = 255 if image.dtype == np.uint8 else 1
    values = torch.from_numpy(np.array(image, dtype=np.float64) / scale)
    return values.permute(2, 0, 1).contiguous()


def _reduced(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``image`` (H, W, C), one side ``ACROSS`` times the crop's if both were larger than that."""
    sides = image.shape[:2]
    if sides[0] < height or sides[1] < width:
        raise ValueError(
            f"an image of {sides[1]}×{sides[0]} pixels cannot give a crop of {width}×{height}"
        )
    # the side that is reached first; of two, the shorter
    wanted, side = max(
        ((ACROSS * height, sides[0]), (ACROSS * width, sides[1])),
        key=lambda pair: pair[0] / pair[1],
    )
    if side <= wanted:
        return image
    scaled = [
        max(ACROSS * least, round(length * wanted / side))
        for least, length in ((width, sides[1]), (height, sides[0]))
    ]
    channels = [
        np.asarray(Image.fromarray(channel).resize(scaled, Image.Resampling.LANCZOS))
        for channel in np.moveaxis(_for_pillow(image), 2, 0)
    ]
    # Lanczos overshoots; of bytes, Pillow has clipped what does
    whole = np.stack(channels, axis=2)
    return whole if image.dtype == np.uint8 else whole.clip(image.min(), image.max())


def _for_pillow(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def simulated(*, number: int, size: object, seed: int) -> Tensor:
    """``number`` images (number, 3, H, W) in [0, 1] of overlapping coloured rectangles.

    ``size`` : see ``sides_of``.
    """
    positive_integer("number of images", number)
    sides = sides_of(size)
    generator = np.random.default_rng(seed)
    canvas = np.full((number, 3, *sides), 0.5)
    for image in canvas:
        for _ in range(6):
            top, left = (generator.integers(side) for side in sides)
            height, width = (generator.integers(2, side + 2) for side in sides)
            image[:, top : top + height, left : left + width] = generator.random((3, 1, 1))
    return torch.from_numpy(canvas)


def digest(*tensors: Tensor) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the shapes and values, in float32."""
    sha = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
        sha.update(str(array.shape).encode() + array.tobytes())
    return sha.hexdigest()[:12]


def shown(images: Tensor) -> Tensor:
    """What is seen of images (…, C, H, W): of complex ones, C = 2, the magnitude (…, 1, H, W).

    Two channels are the real and the imaginary part, as deepinv's operators for MRI have them.
    """
    return images.norm(dim=-3, keepdim=True) if images.shape[-3] == 2 else images


def to_uint8(image: Tensor) -> np.ndarray:
    """One image (C, H, W), clipped to [0, 1], as an array (H, W, 3) of bytes for display.

    Of more than three channels the first alone is shown, in grey.
    """
    visible = shown(image)
    visible = visible if len(visible) in (1, 3) else visible[:1]
    scaled = (visible.detach().clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)
    return scaled.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
