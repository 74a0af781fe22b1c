"""The photographs and what is made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from benchopt.benchmark import Benchmark
from conftest import ROOT, drawn_images
from deepinv.physics import Denoising
from PIL import Image

from benchmark.imaging import sources
from benchmark.imaging.downloads import COLLECTIONS, prepare
from benchmark.imaging.images import Cut, crops, digest, simulated, to_uint8
from benchmark.imaging.measured import Measured
from benchmark.imaging.metrics import gradient_cosine, gradient_error, psnr, relative_residual, ssim
from benchmark.imaging.photographs import PHOTOGRAPHS, Photograph, photographs
from benchmark.plugins.keyed import _images
from benchmark.plugins.task import require_apart, require_range


def test_photographs_are_natural_scenes_of_their_own():
    """None in both splits, nor one that is an alien's, and no two the same."""
    names = [photograph.name for split in PHOTOGRAPHS.values() for photograph in split]
    assert len(names) == len(set(names)) == 11
    assert not {"ihc.png", "hubble_deep_field.jpg", "retina.jpg", "motorcycle_left.png"} & set(
        names
    )
    assert all(p.licence for split in PHOTOGRAPHS.values() for p in split)
    whole = [p for split in PHOTOGRAPHS for p in photographs(split, 99).values()]
    small = [np.asarray(image.resize((24, 16)), dtype=float) for image in whole]
    for i, a in enumerate(small):
        assert min(whole[i].size) >= 300
        assert np.std(a, axis=2).mean() > 5, f"{names[i]} is grey"
        assert all(np.abs(a - b).mean() > 20 for b in small[:i])
    assert list(photographs("train", 2)) == names[:2]


def test_a_photograph_that_is_not_there_is_named():
    for package in ("skimage", "no_such_package"):
        with pytest.raises(FileNotFoundError, match=f"photograph data/none.png of .*{package} is"):
            Photograph(package, "data/none.png", "nobody", "none").read()


def test_the_photographs_hold_as_many_crops_as_is_said():
    options = {"size": 128, "degradation": "denoising"}
    text = type(dataset("Photographs")).__doc__
    for name, number in (("n_train", 72), ("n_test", 119)):
        assert f"{number} to " in text
        assert len(dataset("Photographs", **options, **{name: number}).get_data()) == 4
        (reason,) = dataset("Photographs", **options, **{name: number + 1}).get_data().values()
        assert re.search(
            rf"hold {number} crops of 128×128 pixels .* {number + 1} are asked", reason
        )


def test_crops_are_seeded_and_in_range():
    images = photographs("train", 5)
    first = crops(images, number=6, size=32, seed=3)
    assert first.images.shape == (6, 3, 32, 32)
    assert first.images.dtype == torch.float64
    assert 0 <= first.images.min() < first.images.max() <= 1
    names = list(images)
    assert first.photographs == (*names, names[0])
    again, other = (crops(images, number=6, size=32, seed=seed) for seed in (3, 4))
    assert torch.equal(first.images, again.images)
    assert not any(map(torch.equal, first.images, other.images))


def test_crops_depend_on_nothing_but_the_seed_and_their_photograph():
    """And on its place: not on how many are asked for, nor on the other photographs."""
    images = photographs("train", 5)
    few, many = (crops(images, number=number, size=32, seed=3).images for number in (3, 40))
    assert torch.equal(few, many[:3])
    images[next(iter(images))] = Image.new("RGB", (64, 64))
    others = crops(images, number=3, size=32, seed=3).images
    assert torch.equal(others[1:], few[1:])


def numbered(height: int, width: int) -> np.ndarray:
    """An image (H, W, 1) of which every pixel has a value of its own."""
    return (np.arange(height * width) / (height * width)).reshape(height, width, 1)


@pytest.mark.parametrize("seed", range(5))
def test_crops_are_parts_that_share_no_pixel(seed):
    """All that an image of 40×50 pixels holds, of 12×16: nine."""
    image = numbered(40, 50)
    made = crops({"one": image}, number=9, size=(12, 16), seed=seed).images
    assert made.unique().numel() == made.numel() == 9 * 12 * 16
    windows = torch.from_numpy(image[..., 0]).unfold(0, 12, 1).unfold(1, 16, 1)
    for patch in made:
        assert (windows == patch[0]).flatten(2).all(2).any()
    with pytest.raises(ValueError, match="1 images hold 9 crops of 16×12 pixels that do not overl"):
        crops({"one": image}, number=10, size=(12, 16), seed=seed)


def test_images_serve_in_turn_as_long_as_they_have_a_crop():
    images = {"large": numbered(20, 30), "small": numbered(10, 11), "other": numbered(10, 20)}
    made = crops(images, number=9, size=10, seed=0)
    order = ("large", "small", "other", "large", "other", "large", "large", "large", "large")
    assert made.photographs == order


def test_a_small_crop_shows_a_quarter_of_the_shorter_side():
    made = crops({"one": numbered(400, 600)}, number=24, size=20, seed=0).images
    assert 0.9 < made.max() - made.min() <= 1, "all of the image is cut up"
    spread = made.flatten(1).amax(1) - made.flatten(1).amin(1)
    assert (spread - 0.25).abs().max() < 0.02


def test_bad_crops_are_named():
    small = {"small": Image.new("RGB", (20, 30))}
    with pytest.raises(ValueError, match=r"an image of 20×30 pixels .* 24×24"):
        crops(small, number=1, size=24, seed=0)
    with pytest.raises(
        ValueError, match="number of images must be an integer of at least 1, got 0"
    ):
        crops(small, number=0, size=8, seed=0)


def test_simulated_images():
    images = simulated(number=3, size=16, seed=0)
    assert images.shape == (3, 3, 16, 16)
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, simulated(number=3, size=16, seed=0))


def test_digest_sees_every_value_and_the_shape():
    a = torch.zeros(2, 3)
    b = a.clone()
    b[1, 2] = 1e-6
    assert len({digest(a), digest(b), digest(a.view(3, 2)), digest(a, a)}) == 4
    assert digest(a.double()) == digest(a)


def test_bytes_for_display():
    image = torch.tensor([[[-0.5, 0.5], [1.0, 2.0]]])
    shown = to_uint8(image)
    assert shown.shape == (2, 2, 3)
    assert shown[..., 0].tolist() == [[0, 128], [255, 255]]


def test_metrics_are_their_formulas():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 3, 32, 32, generator=generator)
    image = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    errors = ((image - truth) ** 2).flatten(1).mean(1)
    assert psnr(image, truth) == pytest.approx(float((-10 * errors.log10()).mean()), abs=1e-4)
    assert ssim(truth, truth) == pytest.approx(1, abs=1e-6)
    assert ssim(image, truth) < 0.99
    g, h = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])
    assert gradient_error(h, g) == pytest.approx(0.8)
    assert gradient_cosine(h, g) == pytest.approx(0.6)
    assert relative_residual(h, g) == pytest.approx(0.8)
    assert relative_residual(0 * g, 0 * g) == 0, "a black image can be its own equilibrium"


# --- folders of the user's, and downloads -------------------------------------------------------


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


def dataset(name: str, **parameters):
    """The dataset as benchopt makes it, with a seed and no benchmark around it."""
    (cls,) = (c for c in Benchmark(ROOT).get_datasets() if c.name == name)
    made = cls.get_instance(**parameters)
    made.get_seed = lambda **_: 0
    return made


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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where benchopt keeps data."""
    monkeypatch.setattr("benchopt.config.get_data_path", lambda key=None: tmp_path / "data")
    return tmp_path / "data"


class Loader(list):
    """A stand-in for deepinv's loaders: what they were asked for, and images."""

    asked = []

    def __init__(self, **options):
        self.asked.append(options)
        super().__init__(picture((20, 20), i, offset=20 * i) for i in range(4))


def test_downloads_are_prepared_once_and_read_as_folders(home, monkeypatch):
    calls = []

    def load_dataset(name, transform, data_dir, download):
        calls.append(name)
        (data_dir / name).mkdir(parents=True)
        for i in range(3):
            picture((20, 20), i, offset=200).save(data_dir / name / f"{i}.png")

    monkeypatch.setattr("deepinv.datasets.CBSD68", Loader)
    monkeypatch.setattr("deepinv.utils.load_dataset", load_dataset)
    downloads = dataset("Downloads", size=16)
    reason = downloads.get_data()["unavailable"]
    assert re.search(r"benchopt prepare.*68 images of CBSD68", reason)
    for _ in range(2):
        downloads.prepare()
    assert calls == ["set3c"]
    assert [o["download"] for o in Loader.asked] == [True]
    data = downloads.get_data()
    assert origins(data["train"].images) == {0, 1, 2, 3}
    assert origins(data["test"].images) == {10}
    same = {"train_from": "CBSD68", "test_from": "CBSD68", "n_train": 2, "n_test": 2}
    data = dataset("Downloads", **same, size=16).get_data()
    assert not origins(data["train"].images) & origins(data["test"].images)


def test_a_download_that_fails_says_what_to_place_where(home, monkeypatch):
    def offline(*args, data_dir=None, **options):
        if data_dir is not None:
            (data_dir / "set3c").mkdir(parents=True)  # as deepinv does before it connects
        raise ConnectionError("no network")

    loaders = (
        "DIV2K",
        "BSDS500",
        "CBSD68",
        "Set5HR",
        "Set14HR",
        "Urban100HR",
        "Kodak24",
        "McMaster",
    )
    for loader in (*(f"datasets.{name}" for name in loaders), "utils.load_dataset"):
        monkeypatch.setattr(f"deepinv.{loader}", offline)
    for name, collection in COLLECTIONS.items():
        folder = home / collection.folder
        same = {"train_from": name, "test_from": name, "n_train": 2, "n_test": 2}
        downloads = dataset("Downloads", **same, size=16)
        for _ in range(2):
            with pytest.raises(RuntimeError) as raised:
                downloads.prepare()
            assert "no network" in str(raised.value)
            assert f"place {collection.contents} in {folder}" in str(raised.value)
        folder.mkdir(parents=True)
        for i in range(4):
            picture((20, 20), i).save(folder / f"{i}.png")
        downloads.prepare()
        assert len(downloads.get_data()["train"].images) == 2
        assert not list(folder.parent.glob(".*")), "nothing is left"
    with pytest.raises(ValueError, match=r"collection must be one of .*CBSD68, .* got 'Set4'"):
        dataset("Downloads", train_from="Set4").prepare()


def test_what_is_not_whole_is_fetched_anew(home, monkeypatch):
    """A loader that finds a wrong checksum has left images all the same; which part it is asked."""
    asked = []

    class BSDS500:
        def __init__(self, root, download, splits):
            asked.append(splits)
            place = Path(root) / "BSDS500-master/BSDS500/data/images/train"
            place.mkdir(parents=True)
            picture((20, 20), len(asked)).save(place / "1.jpg")
            if len(asked) == 1:
                raise ValueError("unexpected md5 checksum")

    monkeypatch.setattr("deepinv.datasets.BSDS500", BSDS500)
    with pytest.raises(RuntimeError, match=r"unexpected md5 checksum.*: place the 200 images"):
        prepare("BSDS500_train", home)
    folder = prepare("BSDS500_train", home)
    assert prepare("BSDS500_train", home) == folder == home / "BSDS500" / "train"
    assert asked == [["train"]] * 2
    assert [path.name for path in folder.rglob("*")] == ["1.jpg"]
    assert [path.name for path in home.rglob(".*")] == []
