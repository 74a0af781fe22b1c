"""Folders of the user's images: what serves, in which split, and what is refused."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from benchopt.benchmark import Benchmark
from conftest import ROOT, drawn_images
from deepinv.physics import Denoising
from PIL import Image
from shared import dataset

from benchmark.imaging import sources
from benchmark.imaging.images import Cut, simulated
from benchmark.imaging.measured import Measured
from benchmark.plugins.keyed import _images
from benchmark.plugins.task import require_apart, require_range


def picture(shape, seed=0, *, offset=0) -> Image.Image:
    """A random RGB image whose red values tell images of different ``offset`` apart."""
    pixels = np.random.default_rng(seed).integers(10, size=(shape[1], shape[0], 3), dtype=np.uint8)
    pixels[..., 0] += np.uint8(offset)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """Eight good images of several formats and sizes, one in a sub-folder, and a hidden file."""
    formats = ("png", "bmp", "tiff", "webp", "ppm", "png", "gif")
    for i, suffix in enumerate(formats):
        picture((20 + i, 30 - i), i, offset=20 * i).save(tmp_path / f"{i}.{suffix}")
    (tmp_path / "more").mkdir()
    picture((40, 24), 7, offset=140).save(tmp_path / "more" / "7.png")
    (tmp_path / ".DS_Store").write_text("not an image")
    return tmp_path


FOUR = {"n_train": 4, "n_test": 4, "size": 16, "seed": 0}


def origins(crops):
    """The images of the fixture that crops come from, by their red values."""
    return {round(float(crop[0].mean()) * 255 / 20 - 4.5 / 20) for crop in crops}


def test_a_folder_is_split_without_overlap(folder):
    train, test = drawn_images([sources.folder(folder)], **FOUR)
    assert train.shape == test.shape == (4, 3, 16, 16)
    assert train.dtype == torch.float64
    assert 0 <= train.min() < train.max() <= 1
    assert len(origins(train)) == len(origins(test)) == 4
    assert not origins(train) & origins(test)
    again = drawn_images([sources.folder(folder)], **FOUR)
    assert torch.equal(train, again[0]) and torch.equal(test, again[1])
    other, _ = drawn_images([sources.folder(folder)], **FOUR | {"seed": 1})
    assert origins(train) != origins(other)


def test_each_crop_names_its_image(folder):
    names = ("0.png", "1.bmp", "2.tiff", "3.webp", "4.ppm", "5.png", "6.gif", "more/7.png")
    for size in (16, "whole"):
        for cut in sources.drawn([sources.folder(folder)], **FOUR | {"size": size}):
            assert [names.index(name) for name in cut.photographs] == [
                origins([image]).pop() for image in cut.images
            ]
    with pytest.raises(ValueError, match="1 names of photographs for 2 images"):
        Cut(torch.zeros(2, 3, 8, 8), ("one.png",))


def test_few_images_give_several_crops_each(folder):
    for path in folder.glob("[2-6].*"):
        path.unlink()
    options = {"n_test": 1, "size": (8, 16), "seed": 0}
    train, test = drawn_images([sources.folder(folder)], n_train=5, **options)
    assert len(train) == 5
    assert len(origins(train)) == 2
    assert not origins(train) & origins(test)
    with pytest.raises(
        ValueError, match=r"2 images hold \d+ crops of 16×8 pixels that do not over"
    ):
        drawn_images([sources.folder(folder)], n_train=50, **options)


def test_two_folders_are_kept_apart(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("test")
    picture((64, 64), offset=200).save(other / "other.png")
    train, test = drawn_images([sources.folder(folder), sources.folder(other)], **FOUR)
    assert origins(test) == {10}
    assert 10 not in origins(train)


def test_what_cannot_be_used_is_named_and_skipped(folder):
    (folder / "notes.txt").write_text("hello")
    picture((15, 40)).save(folder / "narrow.png")
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning) as raised:
        options = {"n_train": 12, "n_test": 12, "size": (8, 16), "seed": 0}
        train, test = drawn_images([sources.folder(folder)], **options)
    said = " ".join(str(w.message) for w in raised)
    assert "notes.txt (not readable" in said
    assert "narrow.png (15×40 pixels, below 16×8)" in said
    assert "cut.png (not readable" in said
    assert ".DS_Store" not in said
    assert len(origins(train) | origins(test)) == 8


def test_modes_and_orientation(tmp_path):
    grey = Image.fromarray(np.full((20, 20), 65535 // 4, dtype=np.uint16))
    for name, image in (("a", grey), ("b", grey.rotate(0).crop((0, 0, 20, 19)))):
        image.save(tmp_path / f"{name}.png")
    train, _ = drawn_images([sources.folder(tmp_path)], n_train=1, n_test=1, size=16, seed=0)
    assert train.unique().tolist() == [(65535 // 4) / 65535]
    for name, mode in (("a", "RGBA"), ("b", "L")):
        Image.new(mode, (20, 20 - (name == "b"))).save(tmp_path / f"{name}.png")
    train, _ = drawn_images([sources.folder(tmp_path)], n_train=1, n_test=1, size=16, seed=0)
    assert train.shape == (1, 3, 16, 16)
    assert train.max() == 0

    upside_down = tmp_path / "exif"
    upside_down.mkdir()
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(upside_down / "a.png", exif=exif)
    image.resize((17, 16), Image.Resampling.NEAREST).save(upside_down / "b.png", exif=exif)
    train, _ = drawn_images([sources.folder(upside_down)], n_train=1, n_test=1, size=16, seed=0)
    assert train[0, :, :8].max() == 0
    assert train[0, :, 8:].min() == 1


@pytest.mark.parametrize(
    "copy",
    [
        lambda image, folder: image.save(folder / "copy.bmp"),
        lambda image, folder: tifffile.imwrite(
            folder / "copy.tif", np.asarray(image).astype(np.uint16) * 257, photometric="rgb"
        ),
        lambda image, folder: tifffile.imwrite(
            folder / "copy.tif", np.asarray(image) / np.float32(255), photometric="rgb"
        ),
    ],
    ids=["bmp", "16 bits", "floats"],
)
def test_a_copy_serves_once(folder, copy):
    """Whatever its format, name and depth: it would be trained and tested on."""
    for i in range(3, 7):
        next(iter(sorted(folder.rglob(f"{i}.*")))).unlink()
    copy(Image.open(folder / "more" / "7.png"), folder)
    names = []
    for seed in range(6):
        with pytest.warns(UserWarning, match=r"1 images were skipped: \S+ \(a copy of \S+\)"):
            train, test = sources.drawn(
                [sources.folder(folder)], n_train=5, n_test=3, size=(8, 16), seed=seed
            )
        names.append({*train.photographs, *test.photographs})
        assert not origins(train.images) & origins(test.images)
    assert all(len(found) == 4 and "1.bmp" in found for found in names)


def test_test_images_are_no_training_images(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    linked = other / "linked"
    linked.symlink_to(folder)
    for test in (folder, folder / "more", linked):
        (reason,) = (
            dataset("Folder", train_path=str(folder), test_path=str(test)).get_data().values()
        )
        assert re.search(
            r"^Folder: [81] files are in \S+ and in \S+, as \S+: expected other", reason
        )
    picture((20, 30), 0).save(other / "copied.png")
    picture((20, 30), 77).save(other / "else.png")
    two = {"train_path": str(folder), "test_path": str(other), "n_train": 8, "n_test": 3, "size": 8}
    linked.unlink()
    with pytest.warns(UserWarning, match=r"1 images were skipped: copied.png \(a copy of 0.png\)"):
        data = dataset("Folder", **two).get_data()
    assert set(data["test"].photographs) == {"else.png"}


def test_images_of_any_dataset_are_apart():
    images = simulated(number=4, size=8, seed=0)
    pairs = Measured(images, images, Denoising())
    for train, test in (
        (images[:2], images[1:]),
        (list(images[:2]), Cut(images[1:], ("a", "b", "c"))),
        (pairs, [pairs[[3]]]),
    ):
        with pytest.raises(
            ValueError, match=r"test image 0 is training image [13]: expected other"
        ):
            require_apart(train, test)
    require_apart(images[:2], images[2:])
    require_apart(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    require_apart("nothing", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: 255 * x, r"values up to 25\d, expected"),
        (lambda x: (255 * x).to(torch.uint8), r"values up to 25\d, expected"),
        (lambda x: x - 2, r"values up to 2, expected"),
        (lambda x: x / x.new_tensor(0), r"values up to (inf|nan), expected"),
        (lambda x: x * torch.nan, r"values up to nan, expected"),
        (lambda x: x + 0j, r"is complex, expected two real channels"),
    ],
)
def test_what_a_dataset_of_the_user_s_returns_is_in_range(change, said):
    images = simulated(number=2, size=8, seed=0)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 1
    for wrong in (change(images), [images[0], change(images)[1]], Cut(change(images), ("a", "b"))):
        with pytest.raises(ValueError, match=rf"^test image [01] (has )?{said}"):
            require_range(wrong, "test")
    require_range(images, "test")
    require_range(torch.full((1, 2, 4, 4), -0.7), "test")
    require_range("nothing", "test")


@pytest.mark.filterwarnings("ignore:.* were skipped")
def test_a_folder_without_images_is_an_error(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="empty holds no image of at least 16×16 pixels"):
        drawn_images([sources.folder(empty)], **FOUR)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        drawn_images([sources.folder(tmp_path / "nowhere")], **FOUR)
    picture((20, 20)).save(empty / "one.png")
    with pytest.raises(ValueError, match=r"holds 1 image .* two or more"):
        drawn_images([sources.folder(empty)], **FOUR)
    for path in (empty / "one.png", empty / "two.png"):
        whole = (folder / "0.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="can serve"):
        drawn_images([sources.folder(empty)], **FOUR)


def test_the_folder_dataset(folder, tmp_path_factory):
    data = dataset("Folder", path=str(folder), size=16).get_data()
    assert data["train"].images.shape == data["test"].images.shape == (4, 3, 16, 16)
    assert data["degradation"].startswith("inpainting")
    more = str(folder / "more")
    other = tmp_path_factory.mktemp("other")
    picture((40, 24), 9, offset=180).save(other / "9.png")
    two = {"train_path": str(folder), "test_path": str(other)}
    data = dataset("Folder", **two, size=16, n_test=2).get_data()
    assert origins(data["test"].images) == {9}
    for wrong in ({}, {"path": more, "train_path": more}, {"test_path": more}):
        (reason,) = dataset("Folder", **wrong).get_data().values()
        assert "either path or both train_path and test_path" in reason
    (reason,) = dataset("Folder", path=str(folder), n_test=0).get_data().values()
    assert reason == "Folder: n_test must be an integer of at least 1, got 0"


def test_a_row_names_the_photograph_of_each_test_image(folder):
    data = dataset("Folder", path=str(folder), size=16, degradation="denoising(sigma=0.1)")
    objective = (
        Benchmark(ROOT)
        .get_benchmark_objective()
        .get_instance(lower="wavelet_l1(wavelet='haar',levels=1)")
    )
    assert objective.skip(**data.get_data()) == (False, None)
    assert json.loads(objective.origin["test_photographs"]) == list(
        data.get_data()["test"].photographs
    )
    simulated = dataset("Simulated").get_data()
    assert objective.skip(**simulated) == (False, None)
    assert objective.origin["test_photographs"] is None


def test_the_cache_knows_images_of_every_form():
    """A digest of their own for each, whether they are a tensor, a list, named or measured."""
    context, known = SimpleNamespace(base_seed=0, repetition=0), []
    for value in (0.25, 0.5):
        image = torch.full((2, 3, 8, 8), value)
        pairs = Measured(image, image, Denoising())
        for test in (image, list(image), Cut(image, ("a", "b")), pairs, [pairs, pairs]):
            given = {"train": torch.zeros(1), "test": test}
            known.append(_images(SimpleNamespace(_get_data=lambda given=given: given), context))
    assert not set(known[:5]) & set(known[5:])
