"""Photographs that ship with Python packages: colour, natural scenes, free to use; no download.

What packages ship beside them is left out: histology, an eye, a galaxy field, textures, rectified
stereo views, grey images, and an image without a known licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

_KODAK = "said to be released for unrestricted use"
_WATERLOO = "said to be free of copyright restrictions"


@dataclass(frozen=True)
class Photograph:
    """A file of a package, who made it and what its licence is."""

    package: str
    file: str
    by: str
    licence: str

    @property
    def name(self) -> str:
        """Of its file, without the folder."""
        return Path(self.file).name

    def read(self) -> Image.Image:
        """The whole photograph in RGB; FileNotFoundError where the package, or it, is not there."""
        spec = find_spec(self.package)
        folders = [] if spec is None else spec.submodule_search_locations or []
        for path in (Path(folder) / self.file for folder in folders):
            if path.is_file():
                return Image.open(path).convert("RGB")
        raise FileNotFoundError(
            f"the photograph {self.file} of the package {self.package} is not there: expected the "
            "packages that pyproject.toml names, with their data"
        )


#: the splits share none; each in the order in which photographs serve
PHOTOGRAPHS = {
    "train": (
        Photograph("skimage", "data/coffee.png", "Rachel Michetti", "CC0"),
        Photograph("sporco", "data/kodim23.png", "Kodak", _KODAK),
        Photograph("sklearn", "datasets/images/china.jpg", "danielbuechele", "CC BY 2.0"),
        Photograph("skimage", "data/chelsea.png", "Stéfan van der Walt", "CC0"),
        Photograph("sklearn", "datasets/images/flower.jpg", "vultilion", "CC BY 2.0"),
    ),
    "test": (
        Photograph("skimage", "data/astronaut.png", "NASA", "public domain"),
        Photograph("sporco", "data/sail.png", "Waterloo BragZone", _WATERLOO),
        Photograph("skimage", "data/rocket.jpg", "SpaceX", "CC0"),
        Photograph("sporco", "data/monarch.png", "Waterloo BragZone", _WATERLOO),
        Photograph(
            "matplotlib",
            "mpl-data/sample_data/grace_hopper.jpg",
            "US Navy",
            "public domain",
        ),
        Photograph("sporco", "data/tulips.png", "Waterloo BragZone", _WATERLOO),
    ),
}


def photographs(split: str, most: int) -> dict[str, Image.Image]:
    """The photographs of a split, "train" or "test", by name: all, or the first ``most``."""
    return {photograph.name: photograph.read() for photograph in PHOTOGRAPHS[split][:most]}


def serving(train_on: str | None, *, train: int, test: int) -> dict[str, dict[str, Image.Image]]:
    """The photographs of both splits, at most so many, to train on ``train_on`` alone where it is
    not None; then it is none to test on. Raises ValueError for a name that is not known.

    Examples
    --------
    >>> found = serving("sail.png", train=1, test=2)
    >>> list(found["train"]), list(found["test"])
    (['sail.png'], ['astronaut.png', 'rocket.jpg'])
    """
    if train_on is None:
        return {"train": photographs("train", train), "test": photographs("test", test)}
    every = {photograph.name: photograph for split in PHOTOGRAPHS.values() for photograph in split}
    if train_on not in every:
        raise ValueError(f"no photograph {train_on!r}: expected one of {', '.join(every)}")
    others = {name: one for name, one in photographs("test", test + 1).items() if name != train_on}
    return {"train": {train_on: every[train_on].read()}, "test": dict([*others.items()][:test])}
