"""Collections of photographs that deepinv downloads, kept as plain folders of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.options.checks import one_of


@dataclass(frozen=True)
class Collection:
    """Where the images of a collection lie below its root, what they are, how they are fetched.

    ``fetch(root)`` downloads and leaves the images in ``root / folder``.
    """

    folder: str
    contents: str
    fetch: Callable[[Path], None]


def prepare(name: str, home: Path) -> Path:
    """Download the collection ``name`` into ``home`` unless it is there; its folder of images.

    Raises RuntimeError, saying what to place where, if the download fails.
    """
    one_of("collection", name, COLLECTIONS)
    collection, folder = COLLECTIONS[name], _folder(name, home)
    if _filled(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        collection.fetch(folder.parent)
    except Exception as error:  # no network, no room, a library that is not installed, …
        if folder.is_dir() and not _filled(folder):
            folder.rmdir()  # deepinv takes a folder that is there for one that is complete
        raise RuntimeError(
            f"{name} could not be downloaded ({error}): {_advice(name, home)}"
        ) from (error)
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


def _div2k(mode: str) -> Callable[[Path], None]:
    def fetch(root: Path) -> None:
        from deepinv.datasets import DIV2K

        DIV2K(root=str(root), mode=mode, download=True)

    return fetch


def _cbsd68(root: Path) -> None:
    """Its images as PNG: reading deepinv's own copy takes Hugging Face's library each time."""
    from deepinv.datasets import CBSD68

    dataset = CBSD68(root=str(root / "arrow"), download=True)
    (root / "images").mkdir(exist_ok=True)
    for i in range(len(dataset)):
        dataset[i].save(root / "images" / f"{i:02d}.png")


def _set3c(root: Path) -> None:
    from deepinv.utils import load_dataset

    load_dataset("set3c", transform=None, data_dir=root, download=True)


COLLECTIONS: dict[str, Collection] = {
    "DIV2K_train": Collection(
        "DIV2K/DIV2K_train_HR", "the 800 training images of DIV2K (PNG)", _div2k("train")
    ),
    "DIV2K_valid": Collection(
        "DIV2K/DIV2K_valid_HR", "the 100 validation images of DIV2K (PNG)", _div2k("val")
    ),
    "CBSD68": Collection("CBSD68/images", "the 68 images of CBSD68 (PNG or JPEG)", _cbsd68),
    "Set3C": Collection(
        "Set3C/set3c", "the images butterfly, leaves and starfish of Set3C (PNG)", _set3c
    ),
}
