"""Images: crops, simulated ones, digests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.imaging.stored import Stored, gathered
from benchmark.options.checks import positive_integer
from benchmark.options.seeds import seed_of

T = TypeVar("T")
#: as many crops fit across each side of an image before it is reduced for them
ACROSS = 4


@dataclass(frozen=True)
class Cut:
    """Images, (n, C, H, W), a list of (C, H, W) or ``Stored``, and the photograph of each.

    Images with one name are of one photograph: what is found on them is not independent.
    """

    images: Tensor | list[Tensor] | Stored
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


class Named(Protocol):
    """Images by name, as a mapping has them; ``len`` is the most that there can be."""

    def __len__(self) -> int: ...

    def items(self) -> Iterable[tuple[str, Image.Image | np.ndarray]]:
        """All of them, which may be read only now."""


def crops(images: Named, *, number: int, size: object, seed: int) -> Cut:
    """``number`` crops that share no pixel, (number, C, H, W) float64 in [0, 1], drawn by ``seed``.

    The images, by name, of Pillow's or arrays (H, W, C) of bytes or floats in [0, 1] (complex ones,
    of two channels, in [−1, 1]), serve in turn, each as long as it has a crop left. They are first
    reduced (Lanczos) as far as each side stays ``ACROSS`` times that of a crop, so that a small
    crop still shows a part of a scene and not a texture. The crops of an image are cells of a grid,
    which the seed and the image's number place and shuffle: they do not depend on how many are
    asked for, nor on the other images. ``size`` : see ``sides_of``. One image at a time is in
    memory, and the crops as far as ``benchmark.imaging.stored.gathered`` holds them there.

    Raises ValueError where there are not so many, which says how many there are; where an image is
    smaller than the crop, the images differ in channels, or a number is not positive.
    """
    positive_integer("number of images", number)
    sides, most, counts = sides_of(size), -(-number // max(1, len(images))), {}
    found: list[Tensor] | Stored = []
    while len(found) < number:  # once more where an image has fewer than its share
        found = gathered(_first_cells(images, most, sides, seed, counts))
        if sum(counts.values()) < number:
            raise ValueError(
                f"{len(counts)} images hold {sum(counts.values())} crops of {sides[1]}×{sides[0]} "
                f"pixels that do not overlap, {number} are asked for"
            )
        in_turn = _in_turn(counts, most)
        while sum(min(count, most) for count in counts.values()) < number:
            most += 1
    names, order = zip(*in_turn[:number], strict=True)
    chosen = found.chosen(order) if isinstance(found, Stored) else [found[k] for k in order]
    channels = {shape_of(chosen, k)[0] for k in range(number)}
    if len(channels) > 1:
        raise ValueError(f"images of {sorted(channels)} channels in one set: say channels=1 or 3")
    return Cut(stacked(chosen), names)


def stacked(images: Tensor | list[Tensor] | Stored) -> Tensor | Stored:
    """Images of one shape (C, H, W) as (n, C, H, W), where they are in memory."""
    return torch.stack(images) if isinstance(images, list) else images


def shape_of(images: Sequence[Tensor] | Tensor | Stored, i: int) -> tuple[int, ...]:
    """(C, H, W) of image ``i``."""
    return images.shape_of(i) if isinstance(images, Stored) else tuple(images[i].shape)


def _first_cells(
    images: Named, most: int, sides: tuple[int, int], seed: int, counts: dict[str, int]
) -> Iterator[np.ndarray]:
    """Up to ``most`` cells of each image; ``counts`` becomes how many each has."""
    for i, (name, image) in enumerate(images.items()):
        cells = _cells(np.asarray(image), sides, seed_of(seed, "crops", i))
        counts[name] = len(cells)
        yield from cells[:most]


def _in_turn(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    """Each image's name with the number of its first cell of ``_first_cells``, then with the
    second, and so on.
    """
    start, of_each = 0, []
    for name, count in counts.items():
        end = start + min(count, most)
        of_each.append([(name, k) for k in range(start, end)])
        start = end
    return [pair for turn in zip_longest(*of_each) for pair in turn if pair is not None]


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


def simulated(*, number: int, size: object, seed: int) -> Tensor | Stored:
    """``number`` images (number, 3, H, W) in [0, 1] of overlapping coloured rectangles.

    ``size`` : see ``sides_of``. In a file where ``gathered`` puts them there.
    """
    positive_integer("number of images", number)
    sides = sides_of(size)
    generator = np.random.default_rng(seed)

    def image() -> np.ndarray:
        canvas = np.full((3, *sides), 0.5)
        for _ in range(6):
            top, left = (generator.integers(side) for side in sides)
            height, width = (generator.integers(2, side + 2) for side in sides)
            canvas[:, top : top + height, left : left + width] = generator.random((3, 1, 1))
        return np.moveaxis(canvas, 0, 2)

    return stacked(gathered(image() for _ in range(number)))


def digest(*tensors: Tensor | Pieces) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the shapes and values, in float32."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(str(tuple(tensor.shape)).encode())
        for piece in [tensor] if isinstance(tensor, Tensor) else tensor.pieces:
            sha.update(piece.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return sha.hexdigest()[:12]


@dataclass(frozen=True)
class Pieces:
    """A tensor that is not in memory, as its ``pieces`` along the first axis."""

    shape: tuple[int, ...]
    pieces: Iterable[Tensor]


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
