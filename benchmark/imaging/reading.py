"""Files of images as arrays: every bit that the file holds, upright, in a known range."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmark.options.checks import positive_number

#: values of one image, all channels: 90 megapixels in colour, 2 GiB as float64
MOST_VALUES = 2**28
#: EXIF's number of the tag that says how to turn an image
_ORIENTATION = 0x0112
#: what undoes an orientation of EXIF, for arrays (H, W, …)
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
#: the option of the dataset ``Images``, for messages
_SAY = "white=…, the value that means 1"
#: Rec. 601, as Pillow has it
_LUMINANCE = np.array([0.299, 0.587, 0.114])


def read_image(path: Path, *, white: float | None = None) -> np.ndarray:
    """The image in the file ``path``, upright, (H, W, C): bytes, or float64 in [0, 1].

    PNG and TIFF of 16 bits, floats, any number of channels (TIFF); of 8 bits, all that Pillow
    reads, the first image where a file holds several (TIFF: an error). What is transparent is
    black, as if seen before black; an alpha channel is not part of the image. ``white`` is the
    value that means 1: see ``in_unit_range``.

    Raises ValueError, for one of more than ``MOST_VALUES`` too, or what the reader raises (OSError,
    SyntaxError, …), with the reason.
    """
    _require_file(path)
    return _with_channel_axis(_tiff(path, white) if _is_tiff(path) else _other(path, white))


def from_pillow(image: Image.Image, *, white: float | None = None) -> np.ndarray:
    """An image of Pillow's as ``read_image`` has it, with the bits that Pillow has kept."""
    if image.mode[0] not in "IF":
        return _with_channel_axis(_bytes(image, white))
    if image.format in ("PPM", "JPEG2000") and white is None:
        white = 65535  # Pillow has scaled it to 16 bits, whatever its own depth
    levels = np.asarray(ImageOps.exif_transpose(image))
    return _with_channel_axis(in_unit_range(levels, white))


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) of the image in the file ``path``, from its header; raises as ``read_image`` does."""
    _require_file(path)
    if _is_tiff(path):
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            height, width = page.imagelength, page.imagewidth
            require_size((height, width, page.samplesperpixel))
            turned = _orientation(page) >= 5
    else:
        with Image.open(path) as image:
            width, height = image.size
            require_size((height, width, len(image.getbands())))
            # of a PNG without it in its header, all would be read to look for it at the end
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def require_size(shape: Sequence[int]) -> None:
    """Raise ValueError unless an image of ``shape``, as its header says, is one to be read."""
    if math.prod(shape) > MOST_VALUES:
        raise ValueError(
            f"an image of {'×'.join(map(str, shape))} values, expected at most {MOST_VALUES}"
        )


def in_unit_range(values: np.ndarray, white: float | None = None) -> np.ndarray:
    """``values`` as bytes, where they are, or as float64 in [0, 1].

    ``white`` is the value that means 1. Without it, bytes and integers of 16 bits are taken to fill
    their range, and floats to be in [0, 1] already. Raises ValueError where that cannot be: other
    integers, 16 bits of which fewer than 13 are used (images of 12 bits, most likely), values out
    of range or not finite. Warns where 16 bits of which 13 or 14 are used are taken as they are.

    Examples
    --------
    >>> in_unit_range(np.array([0, 4095], dtype=np.uint16), white=4095)
    array([0., 1.])
    >>> in_unit_range(np.array([0, 4095], dtype=np.uint16))
    Traceback (most recent call last):
    ValueError: integers of 16 bits up to 4095 alone, 4095 or 65535 may be white: say white=…
    >>> in_unit_range(np.array([0.0, 255.0]))
    Traceback (most recent call last):
    ValueError: values from 0 to 255, expected [0, 1]: say white=…, the value that means 1
    """
    if values.size == 0:
        raise ValueError(f"no values, in an array of shape {values.shape}")
    if values.dtype.kind not in "buif":
        raise ValueError(f"values of type {values.dtype}, expected real numbers")
    if white is None:
        if values.dtype == np.uint8:
            return values
        white = _implied_white(values)
    positive_number("white", white)
    scaled = values.astype(np.float64) / white
    if not np.isfinite(scaled).all():
        raise ValueError("values that are not finite")
    low, high = values.min(), values.max()
    if low < 0 or high > white:
        expected = f"[0, 1]: say {_SAY}" if white == 1 else f"[0, {white:g}]"
        raise ValueError(f"values from {low:g} to {high:g}, expected {expected}")
    return scaled


def _implied_white(values: np.ndarray) -> float:
    """The value that means 1, by the type of ``values`` and what is used of it."""
    if values.dtype.kind in "bf":
        return 1
    if values.dtype != np.uint16:
        raise ValueError(f"integers of type {values.dtype}, of unknown range: say {_SAY}")
    highest = int(values.max())
    if highest < 2**12:
        raise ValueError(
            f"integers of 16 bits up to {highest} alone, 4095 or 65535 may be white: say white=…"
        )
    if highest < 2**14:
        warnings.warn(
            f"integers of 16 bits up to {highest} alone are taken as 16 bits: say "
            f"white={2**14 - 1} where they are 14",
            UserWarning,
            stacklevel=4,
        )
    return 65535


def with_channels(image: np.ndarray, channels: int | None) -> np.ndarray:
    """``image`` (H, W, C) with as many channels as asked for; as it is where that is None.

    One channel becomes three equal ones, three become their luminance (Rec. 601, of the values as
    they are); two are a complex image, of imaginary part 0. ValueError for any other change.
    """
    found = image.shape[2]
    if channels is None or channels == found:
        return image
    if (found, channels) == (1, 3):
        return image.repeat(3, axis=2)
    if found == 3 and channels in (1, 2):
        scale = 255 if image.dtype == np.uint8 else 1
        image, found = ((image / scale) @ _LUMINANCE)[..., None].clip(0, 1), 1
    if (found, channels) == (1, 2):
        return np.concatenate([image, np.zeros_like(image)], axis=2)
    if found == channels:
        return image
    raise ValueError(f"{found} channels, expected {channels}")


def reason(error: Exception) -> str:
    """Why a file could not be read, in words."""
    # Pillow's own message for this one is the path again
    unknown = isinstance(error, UnidentifiedImageError)
    return "not readable: no image that Pillow knows" if unknown else f"not readable: {error}"


def _other(path: Path, white: float | None) -> np.ndarray:
    """Whatever is no TIFF."""
    with Image.open(path) as image:
        require_size((*image.size, len(image.getbands())))
        if image.format == "PNG" and _png_depth(path) == 16:
            return _deep_png(path, image, white)
        return from_pillow(image, white=white)


def _bytes(image: Image.Image, white: float | None) -> np.ndarray:
    """An image of at most 8 bits a channel: (H, W, 1) where it is grey, (H, W, 3) otherwise."""
    grey = image.mode in ("1", "L", "LA", "La")
    clear = image.has_transparency_data
    image = ImageOps.exif_transpose(image)
    if not clear:
        return in_unit_range(np.asarray(image.convert("L" if grey else "RGB")), white)
    rgba = np.asarray(image.convert("RGBA"))
    values, alpha = rgba[..., : 1 if grey else 3], rgba[..., 3:]
    if alpha.min() < 255:
        return in_unit_range(values * (alpha / 255), 255 if white is None else white)
    return in_unit_range(values, white)


def _with_channel_axis(image: np.ndarray) -> np.ndarray:
    return image[..., None] if image.ndim == 2 else image


def _png_depth(path: Path) -> int:
    with open(path, "rb") as file:
        return file.read(25)[24]


def _deep_png(path: Path, image: Image.Image, white: float | None) -> np.ndarray:
    """A PNG of 16 bits, of which Pillow drops the lower eight unless it is grey without alpha."""
    if "transparency" in image.info:
        raise ValueError("a PNG of 16 bits in which one colour stands for transparency")
    (tile,) = image.tile
    if tile.args == "I;16B":
        return from_pillow(image, white=white)
    if tile.args == "LA;16B":  # four bytes a pixel
        parts = _unpacked(path, "RGBA").astype(np.uint16)
        levels = parts[..., ::2] * 256 + parts[..., 1::2]
    else:  # the format of the other order of bytes takes the other byte of each
        high, low = (_unpacked(path, tile.args[:-1] + order) for order in "BL")
        levels = high.astype(np.uint16) * 256 + low
    found = _before_black(levels, white, 65535, with_alpha=levels.shape[2] in (2, 4))
    return _upright(found, image.getexif().get(_ORIENTATION, 1))


def _unpacked(path: Path, raw: str) -> np.ndarray:
    """The pixels of an image read as if stored in Pillow's raw format of that name."""
    with Image.open(path) as image:
        image.tile = [tile._replace(args=raw) for tile in image.tile]
        return np.array(image)


def _require_file(path: Path) -> None:
    """Of a pipe or a device, reading would never end."""
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")


def _is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _tiff(path: Path, white: float | None) -> np.ndarray:
    """A TIFF: by Pillow where its channels are bytes, with all its bits by tifffile otherwise."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        require_size((page.imagelength, page.imagewidth, page.samplesperpixel))
        if len(file.pages) > 1:
            raise ValueError(f"a TIFF of {len(file.pages)} pages, expected one")
        # Pillow fills the range of bytes with fewer bits, and drops channels that are no colours
        plain = page.bitspersample in (1, 2, 4, 8) and page.sampleformat == 1
        coloured = tifffile.EXTRASAMPLE.UNSPECIFIED not in page.extrasamples
        if plain and coloured and page.samplesperpixel <= 4:
            # by its name, Pillow would map grey bytes into memory and leave them as they lie
            with open(path, "rb") as opened, Image.open(opened) as image:
                return _bytes(image, white)
        whole = page.sampleformat == 1
        full = 2**page.bitspersample - 1 if whole else 1
        if white is None and whole and 8 < page.bitspersample < 16:
            white = full
        try:
            levels = page.asarray()
        except (
            ValueError,
            NotImplementedError,
        ):  # packed or compressed in a way that it leaves to another package
            return _grey_of_16_bits(path, white)
    if "S" in page.axes:
        levels = np.moveaxis(levels, page.axes.index("S"), -1)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        levels = (full if white is None else white) - levels
    kinds = tuple(page.extrasamples)
    if kinds == (tifffile.EXTRASAMPLE.ASSOCALPHA,):  # its colours are before black already
        levels, kinds = levels[..., :-1], ()
    alpha = kinds == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    return _upright(_before_black(levels, white, full, with_alpha=alpha), _orientation(page))


def _grey_of_16_bits(path: Path, white: float | None) -> np.ndarray:
    with Image.open(path) as image:
        if not image.mode.startswith("I;16"):
            raise ValueError(f"a compressed TIFF of mode {image.mode} that only imagecodecs reads")
        return in_unit_range(np.asarray(image), white)  # Pillow has turned it


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _before_black(
    levels: np.ndarray, white: float | None, opaque: float, *, with_alpha: bool
) -> np.ndarray:
    """``levels`` (H, W, C) in the unit range; its last channel is alpha where it has one."""
    if not with_alpha:
        return in_unit_range(levels, white)
    return in_unit_range(levels[..., :-1], white) * (levels[..., -1:] / opaque)


def _upright(levels: np.ndarray, orientation: int) -> np.ndarray:
    turn = _UPRIGHT.get(orientation)
    return levels if turn is None else np.ascontiguousarray(turn(levels))
