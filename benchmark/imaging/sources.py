"""Where images come from: folders, files, arrays, datasets of libraries or of a user's file."""

from __future__ import annotations

import ast
import glob
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmark.imaging.arrays import axes_of, image_of, one_image, stored_array
from benchmark.imaging.images import Cut, crops, digest, parted, shuffled, sides_of
from benchmark.imaging.reading import (
    read_image,
    reason,
    require_size,
    upright_size,
    with_channels,
)
from benchmark.imaging.stored import as_tensor, gathered
from benchmark.options.checks import positive_integer
from benchmark.options.seeds import seed_of
from benchmark.options.spec import Kind

#: the size of images that are not cropped
WHOLE = "whole"


@dataclass(frozen=True)
class Pictures:
    """A set of images, read one by one.

    where : what they are, for messages; names : of each. ``read(i, white)`` gives number i, (H, W,
    C) as ``read_image`` does; ``size(i)`` its (H, W), where that costs less than reading it. Both
    raise anything, with a reason, where it cannot be read. files : where each lies, links followed,
    where they are files.
    """

    where: str
    names: Sequence[str]
    read: Callable[[int, float | None], np.ndarray]
    size: Callable[[int], tuple[int, int]] | None = None
    files: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.names)


def folder(path: str) -> Pictures:
    """The files of a folder and its sub-folders, linked ones too; no name begins with a dot.

    They are of any format that Pillow or tifffile reads. Raises FileNotFoundError.
    """
    root = Path(str(path)).expanduser()
    if not str(path).strip() or not root.is_dir():  # no name is not where one happens to be
        raise FileNotFoundError(f"there is no folder {path!s}: expected a folder of images")
    found = sorted(_walk(root, {os.path.realpath(root)}))
    return _of_files(str(root), found, [str(file.relative_to(root)) for file in found])


def files(paths: Sequence[str] | str) -> Pictures:
    """Images by their files: a list of paths, or a pattern as in "photos/*.png", in its order."""
    if isinstance(paths, str):
        found = sorted(glob.glob(str(Path(paths).expanduser()), recursive=True))
        return _of_files(paths, [Path(f) for f in found], found)
    listed = [Path(str(path)).expanduser() for path in paths]
    return _of_files(f"the list of {len(listed)} files", listed, [str(file) for file in listed])


def array(path: str, key: str | None = None, axes: str | None = None) -> Pictures:
    """The images in an array: a file .npy, .npz, .h5 or .hdf5.

    key : which array, where the file holds several.
    axes : what its axes are, as "NHWC"; see ``benchmark.imaging.arrays.axes_of``.
    """
    file = Path(str(path)).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: expected an array of images")
    shape, read = stored_array(file, key)
    return _of_array(str(file), shape, read, axes)


def hugging_face(path: str, split: str = "train", column: str = "image") -> Pictures:
    """A column of a dataset of Hugging Face's: its name there, or a folder that it was saved to."""
    try:
        from datasets import load_dataset, load_from_disk
    except ImportError as error:
        raise ValueError(f"{path!r} needs Hugging Face's package datasets: {error}") from error
    where = Path(path).expanduser()
    loaded = load_from_disk(str(where)) if where.is_dir() else load_dataset(path, split=split)
    if hasattr(loaded, "keys"):
        loaded = loaded[split]
    return _of_items(f"{path} ({split})", loaded.select_columns(column), key=column)


IMAGES: Kind = Kind(
    "image source",
    {"folder": folder, "files": files, "array": array, "hugging_face": hugging_face},
    {"deepinv": ["deepinv.datasets"], "torchvision": ["torchvision.datasets"]},
    form="a function that returns images: a tensor (N, C, H, W), an array, or a list or a torch "
    "dataset of images",
)
#: files that hold arrays
_ARRAYS = (".npy", ".npz", ".h5", ".hdf5")


def pictures(source: object) -> Pictures:
    """The images that ``source`` names.

    A list of files; a folder; a pattern of files; a file .npy, .npz, .h5 or .hdf5; or what
    ``IMAGES`` reads: ``array(path='x.h5',key='images',axes='NHWC')``, ``deepinv.NAME(option=…)``,
    ``torchvision.NAME(…)``, ``hugging_face(path=…)``, or ``FILE.py(option=…)``, a file that defines
    one function that returns images, or one torch dataset (in ``image_sources/``, by its name).
    Raises ValueError or OSError.
    """
    text = str(source)
    if isinstance(source, list | tuple):
        return files(source)
    if text.startswith("["):
        try:
            return files(ast.literal_eval(text))
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{text} is no list of files in quotes: {error}") from error
    if not text.strip():
        raise ValueError(f"no source of images is named {text!r}")
    path = Path(text).expanduser()
    if path.is_dir():
        return folder(text)
    if path.suffix.lower() in _ARRAYS and "(" not in text:
        return array(text)
    if path.is_file() and path.suffix != ".py":
        return files([text])
    if any(sign in text for sign in "*?") and "(" not in text:
        return files(text)
    if os.sep in text and "(" not in text and path.suffix != ".py":
        raise FileNotFoundError(f"there is no folder or file {path}: expected images")
    return as_pictures(text, IMAGES.build(text))


def as_pictures(where: str, found: object) -> Pictures:
    """What a source has returned, as images; ValueError, naming it, where it is none."""
    if isinstance(found, Pictures):
        return found
    if isinstance(found, Tensor | np.ndarray):
        axes = None
        if isinstance(found, Tensor):
            axes = {3: "NHW", 4: "NCHW"}.get(found.ndim)
            found = found.detach().cpu().numpy()
        return _of_array(where, found.shape, lambda index: found[index], axes)
    if hasattr(found, "__getitem__") and hasattr(found, "__len__") and not isinstance(found, str):
        return _of_items(where, found)
    raise ValueError(
        f"{IMAGES.name} {where!r} returned {type(found).__name__}: expected a tensor "
        "(N, C, H, W), an array, or a list or a torch dataset of images"
    )


def drawn(
    sets: Sequence[Pictures],
    *,
    n_train: int,
    n_test: int,
    size: object,
    seed: int,
    channels: int | None = 3,
    white: float | None = None,
    multiple_of: int = 1,
) -> tuple[Cut, Cut]:
    """Images to train and to test on, float64 in [0, 1], from one set or from two.

    ``sets`` is one set, whose images ``seed`` splits in proportion to the numbers asked for, at
    least one each, or two: training and test. Images of a set are drawn without return until
    ``n_train`` or ``n_test`` have been found, or there are no more: then an image gives several
    crops. Only these are read in full. What cannot be read, or is smaller than the crop, is named
    in a warning and skipped; so is a copy of an image that serves already, to the last pixel.

    Parameters
    ----------
    size : of crops, as ``benchmark.imaging.images.crops`` draws them: tensors (N, C, H, W); or
        "whole": lists of (C, H, W), the middle of each image, its sides multiples of
        ``multiple_of``; fewer than asked for where there are no more.
    channels : 1, 3 or any number, as ``with_channels`` makes them; None: as they are.
    white : the value that means 1, as for ``in_unit_range``.

    Raises ValueError where too few images are left, or they hold too few crops, and where a file is
    in both of two sets.
    """
    for number in (n_train, n_test):
        positive_integer("number of images", number)
    _require_apart(sets)
    positive_integer("multiple_of", multiple_of)
    least = (multiple_of, multiple_of) if size == WHOLE else sides_of(size)
    orders = [_usable(found, least=least, seed=seed_of(seed, i)) for i, found in enumerate(sets)]
    if len(sets) == 1:
        (order,), sets = orders, [*sets, *sets]
        if len(order) < 2:
            raise ValueError(
                f"{sets[0].where} holds {len(order)} image of at least {_pixels(least)}: "
                "expected two or more, one to train and one to test on"
            )
        orders = parted(order, n_train=n_train, n_test=n_test)
    made: list[Cut] = []
    known: dict[str, str] = {}
    of_each = zip(sets, orders, (n_train, n_test), strict=True)
    for i, (found, order, number) in enumerate(of_each):
        read = partial(_prepared, found, channels=channels, white=white, least=least)
        first = _First(found, order, read, number, known)
        if size == WHOLE:
            whole = gathered(_middle(image, multiple_of) for _, image in first.items())
            made.append(Cut(whole, first.names))
        else:
            made.append(crops(first, number=number, size=size, seed=seed_of(seed, i)))
        known = first.serving
    return made[0], made[1]


def _walk(root: Path, seen: set[str]) -> Iterator[Path]:
    """The files under ``root``, each once whatever the links that lead to it; ``seen`` grows."""
    for path in sorted(root.iterdir()):
        target = os.path.realpath(path)
        if path.name.startswith(".") or target in seen:
            continue
        seen.add(target)
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.is_file() or not path.exists():  # a link that leads nowhere is named later
            yield path


def _of_files(where: str, paths: Sequence[Path], names: Sequence[str]) -> Pictures:
    """``names`` may hold bytes that are no text: they are spelled out, for rows and terminals."""
    return Pictures(
        where,
        [name.encode(errors="backslashreplace").decode() for name in names],
        read=lambda i, white: read_image(paths[i], white=white),
        size=lambda i: upright_size(paths[i]),
        files=[os.path.realpath(path) for path in paths],
    )


def _of_array(
    where: str, shape: Sequence[int], read: Callable[..., np.ndarray], axes: str | None
) -> Pictures:
    """Images along the axis N of an array, of which ``read(index)`` gives a part."""
    try:
        axes = axes_of(shape, several=True, axes=axes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    n, each = axes.index("N"), axes.replace("N", "")

    def one(i: int, white: float | None) -> np.ndarray:
        require_size([length for k, length in enumerate(shape) if k != n])
        return one_image(read((slice(None),) * n + (i,)), each, white)

    sides = shape[axes.index("H")], shape[axes.index("W")]
    return Pictures(where, [f"[{i}]" for i in range(shape[n])], one, lambda i: sides)


def _of_items(where: str, items: Sequence, key: str | None = None) -> Pictures:
    def one(i: int, white: float | None) -> np.ndarray:
        return image_of(items[i] if key is None else items[i][key], white=white)

    return Pictures(where, [f"[{i}]" for i in range(len(items))], one)


def _usable(found: Pictures, *, least: tuple[int, int], seed: int) -> list[int]:
    """The numbers of the images of at least ``least`` pixels, as far as their headers say, in an
    order from ``seed``.
    """
    usable, skipped = [], []
    for i, name in enumerate(found.names):
        try:
            height, width = least if found.size is None else found.size(i)
        except Exception as error:  # each format fails in its own way
            skipped.append(f"{name} ({reason(error)})")
            continue
        if height < least[0] or width < least[1]:
            skipped.append(f"{name} ({width}×{height} pixels, below {_pixels(least, unit='')})")
        else:
            usable.append(i)
    _warn_skipped(found, skipped)
    if not usable:
        raise ValueError(
            f"{found.where} holds no image of at least {_pixels(least)} that can be read "
            f"({len(skipped)} were skipped{': ' + skipped[0] if skipped else ''})"
        )
    return [usable[i] for i in shuffled(len(usable), seed=seed)]


def _prepared(
    found: Pictures, i: int, *, channels: int | None, white: float | None, least: tuple[int, int]
) -> np.ndarray:
    image = with_channels(found.read(i, white), channels)
    if image.shape[0] < least[0] or image.shape[1] < least[1]:
        raise ValueError(f"{image.shape[1]}×{image.shape[0]} pixels, below {_pixels(least)}")
    return image


def _require_apart(sets: Sequence[Pictures]) -> None:
    """Raise ValueError where a file is among the training and the test images."""
    if len(sets) == 2 and all(found.files for found in sets):
        both = set(sets[0].files) & set(sets[1].files)
        if both:
            raise ValueError(
                f"{len(both)} files are in {sets[0].where} and in {sets[1].where}, as {min(both)}: "
                "expected other images to test on than to train on; one folder alone is split"
            )


@dataclass
class _First:
    """The first ``number`` of the images in ``order`` that can be read to their end, one by one.

    known : what serves already, names by digest; serving : the same and these, once they are read.
    """

    found: Pictures
    order: Sequence[int]
    read: Callable[[int], np.ndarray]
    number: int
    known: Mapping[str, str]
    serving: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return min(self.number, len(self.order))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, once they are read."""
        return tuple(self.serving.values())[len(self.known) :]

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names and images. Raises ValueError where there is none."""
        again, self.serving = bool(self.serving), dict(self.known)
        skipped: list[str] = []
        for i in self.order:
            if len(self.serving) - len(self.known) == self.number:
                break
            name = self.found.names[i]
            try:
                image = self.read(i)
            except Exception as error:  # a truncated file shows only here
                skipped.append(f"{name} ({reason(error)})")
                continue
            key = digest(as_tensor(image))  # of the values, however many bits the file has for them
            if key in self.serving:
                skipped.append(f"{name} (a copy of {self.serving[key]})")
                continue
            self.serving[key] = name
            yield name, image
        if not again:
            _warn_skipped(self.found, skipped)
        if len(self.serving) == len(self.known):
            raise ValueError(
                f"{self.found.where}: none of {len(self.order)} images can serve: "
                f"{skipped[0]}{', …' if len(skipped) > 1 else ''}"
            )


def _middle(image: np.ndarray, multiple_of: int) -> np.ndarray:
    """The middle of ``image`` (H, W, C), each side the largest multiple that fits."""
    height, width = (side - side % multiple_of for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _pixels(sides: tuple[int, int], unit: str = " pixels") -> str:
    return f"{sides[1]}×{sides[0]}{unit}"


def _warn_skipped(found: Pictures, skipped: Sequence[str]) -> None:
    if skipped:
        warnings.warn(
            f"{found.where}: {len(skipped)} images were skipped: {', '.join(skipped)}",
            UserWarning,
            stacklevel=5,
        )
