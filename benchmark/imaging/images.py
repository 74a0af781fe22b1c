"""Images: photographs that ship with scikit-image, the user's folders, crops, digests."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from benchmark.options.checks import positive_integer

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


def folder_crops(
    folders: Sequence[Path], *, n_train: int, n_test: int, size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Crops for training and for testing, as ``crops`` makes them, from folders of images.

    ``folders`` is one folder, whose images ``seed`` splits in proportion to the numbers asked for,
    at least one each, or two: training and test. Files of any format that Pillow reads are looked
    for in sub-folders too, names that begin with a dot left out. The images of a folder are drawn
    without return until ``n_train`` or ``n_test`` have been found (or there are no more: then they
    serve in turn), and only these are read in full. A file that cannot be read, or is smaller than
    the crop, is named in a warning and skipped. Raises FileNotFoundError where a folder is not
    there, ValueError where too few images are left.
    """
    positive_integer("number of images", n_train)
    positive_integer("number of images", n_test)
    positive_integer("size", size)
    found = [_usable(Path(folder), size=size, seed=seed) for folder in folders]
    if len(found) == 1:
        (paths,) = found
        if len(paths) < 2:
            raise ValueError(
                f"{folders[0]} holds {len(paths)} image of at least {size}×{size} pixels: "
                "expected two or more, one to train and one to test on"
            )
        share = round(len(paths) * n_train / (n_train + n_test))
        cut = min(max(share, 1), len(paths) - 1)
        found = [paths[:cut], paths[cut:]]
    train, test = (
        crops(_read(paths, number=number), number=number, size=size, seed=seed)
        for paths, number in zip(found, (n_train, n_test), strict=True)
    )
    return train, test


def _usable(folder: Path, *, size: int, seed: int) -> list[Path]:
    """The images in ``folder`` of at least ``size`` × ``size`` pixels, in an order from ``seed``.

    Only their headers are read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: expected a folder of images")
    usable, skipped = [], []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        try:
            with Image.open(path) as image:
                shape = image.size
        except Exception as error:  # each of Pillow's formats fails in its own way
            skipped.append(f"{path.relative_to(folder)} ({_reason(error)})")
            continue
        if min(shape) < size:
            skipped.append(
                f"{path.relative_to(folder)} ({shape[0]}×{shape[1]} pixels, below {size}×{size})"
            )
        else:
            usable.append(path)
    _warn_skipped(skipped)
    if not usable:
        raise ValueError(
            f"{folder} holds no image of at least {size}×{size} pixels that Pillow can read "
            f"({len(skipped)} files were skipped)"
        )
    order = np.random.default_rng(seed).permutation(len(usable))
    return [usable[i] for i in order]


def _read(paths: Sequence[Path], *, number: int) -> list[Image.Image]:
    """The first ``number`` of the images that can be read to their end, upright and in RGB."""
    images, skipped = [], []
    for path in paths:
        if len(images) == number:
            break
        try:
            with Image.open(path) as image:
                images.append(_rgb(ImageOps.exif_transpose(image)))
        except Exception as error:  # a truncated file shows only here
            skipped.append(f"{path} ({_reason(error)})")
    _warn_skipped(skipped)
    if not images:
        raise ValueError(f"none of {len(paths)} images could be read to the end: {skipped[0]}, …")
    return images


def _rgb(image: Image.Image) -> Image.Image:
    """``image`` in 8-bit RGB; 16-bit grey levels are scaled, which Pillow would clip."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64) / 65535 * 255
        image = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point values of unknown range")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    # Pillow's own message for this one is the path again
    unknown = isinstance(error, UnidentifiedImageError)
    return "not readable: no image that Pillow knows" if unknown else f"not readable: {error}"


def _warn_skipped(skipped: Sequence[str]) -> None:
    if skipped:
        warnings.warn(
            f"{len(skipped)} files were skipped: {', '.join(skipped)}", UserWarning, stacklevel=4
        )


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
