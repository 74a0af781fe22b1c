"""Collections of photographs that deepinv downloads, kept as plain folders of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.options.checks import one_of


@dataclass(frozen=True)
class Collection:
    """Where the images of a collection lie, what they are, how they are fetched.

    ``fetch(root)`` downloads into the folder ``root`` and returns the one of the images there; it
    raises where their checksum is not deepinv's.
    """

    folder: str
    contents: str
    fetch: Callable[[Path], Path]


def prepare(name: str, home: Path) -> Path:
    """Download the collection ``name`` into ``home`` unless it is there; its folder of images.

    What is not whole is not there: the images come to their place when all have been fetched.
    Raises RuntimeError, saying what to place where, if the download fails.
    """
    one_of("collection", name, COLLECTIONS)
    collection, folder = COLLECTIONS[name], _folder(name, home)
    if _filled(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            fetched = collection.fetch(Path(scratch))
            if not _filled(fetched):
                raise FileNotFoundError(f"nothing in {fetched.relative_to(scratch)}")
            if folder.is_dir():
                folder.rmdir()
            fetched.rename(folder)
    except Exception as error:  # no network, no room, a library that is not installed, …
        raise RuntimeError(
            f"{name} could not be downloaded ({error}): {_advice(name, home)}"
        ) from error
    return folder


def images_of(name: str, home: Path) -> Path:
    """The folder of the images of ``name``; FileNotFoundError, saying what to do, if not there."""
    one_of("collection", name, COLLECTIONS)
    folder = _folder(name, home)
    if not _filled(folder):
        raise FileNotFoundError(
            f"{name} is not there: run `benchopt prepare` where there is a network, or "
            f"{_advice(name, home)}"
        )
    return folder


def _folder(name: str, home: Path) -> Path:
    return home / COLLECTIONS[name].folder


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _advice(name: str, home: Path) -> str:
    return f"place {COLLECTIONS[name].contents} in {_folder(name, home)}"


def _deepinv(loader: str, folder: str, **options: object) -> Callable[[Path], Path]:
    """By deepinv's class ``loader``, which leaves the images in ``folder`` and checks them."""

    def fetch(root: Path) -> Path:
        import deepinv.datasets

        getattr(deepinv.datasets, loader)(root=str(root), download=True, **options)
        return root / folder

    return fetch


def _cbsd68(root: Path) -> Path:
    """Its images as PNG: reading deepinv's own copy takes Hugging Face's library each time."""
    from deepinv.datasets import CBSD68

    dataset = CBSD68(root=str(root / "arrow"), download=True)
    (root / "images").mkdir()
    for i in range(len(dataset)):
        dataset[i].save(root / "images" / f"{i:02d}.png")
    return root / "images"


def _set3c(root: Path) -> Path:
    """deepinv has no checksum of it."""
    from deepinv.utils import load_dataset

    load_dataset("set3c", transform=None, data_dir=root, download=True)
    return root / "set3c"


COLLECTIONS: dict[str, Collection] = {
    "DIV2K_train": Collection(
        "DIV2K/DIV2K_train_HR",
        "the 800 training images of DIV2K (PNG)",
        _deepinv("DIV2K", "DIV2K_train_HR", mode="train"),
    ),
    "DIV2K_valid": Collection(
        "DIV2K/DIV2K_valid_HR",
        "the 100 validation images of DIV2K (PNG)",
        _deepinv("DIV2K", "DIV2K_valid_HR", mode="val"),
    ),
    # "train" alone: "val" holds CBSD68
    "BSDS500_train": Collection(
        "BSDS500/train",
        "the 200 images of the train split of BSDS500 (JPEG)",
        _deepinv("BSDS500", "BSDS500-master/BSDS500/data/images/train", splits=["train"]),
    ),
    "CBSD68": Collection("CBSD68/images", "the 68 images of CBSD68 (PNG or JPEG)", _cbsd68),
    "Set3C": Collection(
        "Set3C/set3c", "the images butterfly, leaves and starfish of Set3C (PNG)", _set3c
    ),
    "Set5": Collection("Set5/Set5_HR", "the 5 images of Set5", _deepinv("Set5HR", "Set5_HR")),
    "Set14": Collection(
        "Set14/Set14_HR", "the 14 images of Set14", _deepinv("Set14HR", "Set14_HR")
    ),
    "Urban100": Collection(
        "Urban100/Urban100_HR",
        "the 100 images of Urban100",
        _deepinv("Urban100HR", "Urban100_HR"),
    ),
    "Kodak24": Collection(
        "Kodak24/images",
        "the 24 images of Kodak's suite",
        _deepinv("Kodak24", "Kodak-Lossless-True-Color-Image-Suite-master/PhotoCD_PCD0992"),
    ),
    "McMaster": Collection(
        "McMaster/McM", "the 18 images of McMaster", _deepinv("McMaster", "McM")
    ),
}
