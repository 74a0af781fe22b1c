"""Where images come from: lists, patterns, arrays, datasets of libraries and of a user's file."""

from __future__ import annotations

import re
import sys
from textwrap import dedent
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from conftest import drawn_images
from PIL import Image
from shared import dataset

from benchmark.imaging.arrays import image_of
from benchmark.imaging.images import digest
from benchmark.imaging.sources import as_pictures, pictures

SIX = np.random.default_rng(0).integers(256, size=(6, 20, 24, 3), dtype=np.uint8)
OPTIONS = {"n_train": 3, "n_test": 3, "size": [16, 20], "seed": 0, "channels": None}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The working directory, with the same six images in every form."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    for i, image in enumerate(SIX):
        Image.fromarray(image).save(tmp_path / "2024" / f"{i}.png")
    np.save("images.npy", SIX)
    np.savez("several.npz", images=SIX.transpose(0, 3, 1, 2), labels=np.arange(6))
    with h5py.File("images.h5", "w") as file:
        file["group/images"] = SIX.transpose(3, 1, 2, 0)
    (tmp_path / "mine.py").write_text(
        dedent("""
        import numpy as np
        import torch

        class Mine(torch.utils.data.Dataset):
            def __init__(self, label=0):
                self.label, self.images = label, np.load("images.npy")
            def __len__(self):
                return len(self.images)
            def __getitem__(self, i):
                return torch.from_numpy(self.images[i]).permute(2, 0, 1) / 255, self.label
        """)
    )
    (tmp_path / "tensor.py").write_text(
        dedent("""
        import numpy as np
        import torch

        def images(share=1.0):
            return torch.from_numpy(np.load("images.npy")).permute(0, 3, 1, 2) / 255 * share
        """)
    )
    return tmp_path


FORMS = [
    "2024",
    2024,
    "2024/*.png",
    [f"2024/{i}.png" for i in range(6)],
    "images.npy",
    "array(path='images.npy',axes='NHWC')",
    "array(path='several.npz',key='images')",
    "array(path:'images.h5',axes:'CHWN')",
    "mine.py(label=3)",
    "tensor.py",
    "folder(path='2024')",
]


@pytest.mark.parametrize("source", FORMS, ids=str)
def test_every_form_gives_the_same_images(stored, source):
    expected = drawn_images([as_pictures("SIX", SIX)], **OPTIONS)
    found = drawn_images([pictures(source)], **OPTIONS)
    assert found[0].shape == (3, 3, 16, 20)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert digest(*expected) != digest(
        *drawn_images([as_pictures("SIX", SIX)], **OPTIONS | {"seed": 1})
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere/at/all", "there is no folder or file nowhere/at/all"),
        ("", "no source of images is named ''"),
        ("folder(path='')", "there is no folder : expected"),
        ("[2024/0.png", r"^\[2024/0.png is no list of files in quotes: "),
        ("*.bmp", r"\*.bmp holds no image of at least 20×16 pixels"),
        ("array(path='several.npz')", "several.npz holds images, labels: expected key .* got None"),
        ("array(path='several.npz',key='labels')", r"shape \(6,\): say what its axes are"),
        ("array(path='images.h5')", r"images.h5: an array of shape \(3, 20, 24, 6\): say"),
        ("array(path='images.npy',axes='NCWH2')", "axes='NCWH2' for an array of shape"),
        ("array(path='images.npz')", "there is no file images.npz"),
        (
            "tensor.py(share=300)",
            r"none of 3 images .*\[\d\] \(not readable: values from .* 300",
        ),
        ("tensor.py(shrae=1)", "has no option 'shrae' .*did you mean share"),
        ("hugging_face(path='user/set')", "needs Hugging Face's package datasets"),
        ("deepinv.CBSD86(root='.')", "unknown image source .* did you mean deepinv.CBSD68"),
        ("folder(path='2023')", "there is no folder 2023"),
        ("none.py", "'none.py': No such file"),
    ],
)
def test_what_is_wrong_is_said(stored, monkeypatch, source, said):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises((ValueError, OSError), match=said):
        drawn_images([pictures(source)], **OPTIONS)


BROKEN = {
    "raise RuntimeError('at import')": r"'bad.py', line 1: RuntimeError: at import",
    "def images(): return 5": r"'bad.py' returned int: expected a tensor \(N, C, H, W\)",
    "def images(): raise KeyError('x')": r"'bad.py': KeyError: 'x'",
    "import numpy as np\ndef images(): return np.zeros((4, 5, 20, 24))": (
        r"bad.py: an array of shape \(4, 5, 20, 24\): say"
    ),
    "def images(): return [1, 2]": (
        r"bad.py: none of 1 images .*an item of type int: expected an image"
    ),
    "import torch\ndef images(): return torch.zeros(4, 2, 20, 24, dtype=torch.complex64)": (
        r"bad.py: none .*complex values in 2 channels, expected one"
    ),
    "def images(n): return n": r"'bad.py': TypeError: images\(\) missing 1 required",
    "import torch\ndef images(): return torch.zeros(0, 3, 20, 24)": "bad.py holds no image",
}


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.filterwarnings("ignore:.*were skipped")
def test_a_broken_file_is_a_reason_to_skip_that_names_it(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(text)
    (reason,) = dataset("Images", source="bad.py", size=16).get_data().values()
    assert reason.startswith("Images: ")
    assert re.search(BROKEN[text], reason), reason


def test_the_images_dataset(stored):
    options = {"size": "16x20", "n_train": 2, "n_test": 1, "channels": 1}
    data = dataset("Images", source="images.npy", **options).get_data()
    assert (data["train"].images.shape, data["test"].images.shape) == (
        (2, 1, 16, 20),
        (1, 1, 16, 20),
    )
    one_each = {"n_train": 1, "n_test": 1}
    two = {"train_source": ["2024/2.png"], "test_source": ["2024/3.png"], "size": 16}
    assert dataset("Images", **two, **one_each).get_data()["test"].images.shape == (1, 3, 16, 16)
    listed = dataset("Images", source=["2024/1.png", "2024/2.png"], size=[16, 20], **one_each)
    assert listed._parameters["source"] == "['2024/1.png', '2024/2.png']"
    assert listed._parameters["size"] == "[16, 20]"
    assert listed.get_data()["test"].images.shape == (1, 3, 16, 20)
    for wrong in ({}, {"source": "2024", "train_source": "2024"}, {"test_source": "2024"}):
        (reason,) = dataset("Images", **wrong).get_data().values()
        assert "either source or both train_source and test_source" in reason
    for name, value in (("channels", 0), ("white", -1), ("multiple_of", 0), ("size", "big")):
        (reason,) = dataset("Images", source="2024", **{name: value}).get_data().values()
        assert reason.startswith(f"Images: {name} must be"), reason
    deep = np.linspace(0, 1000, 6 * 20 * 24).reshape(6, 20, 24).astype(np.uint16)
    np.save("deep.npy", deep)
    scaled = dataset("Images", source="deep.npy", white=1000, size=16, **one_each).get_data()
    assert 0.5 < scaled["train"].images.max() <= 1


def test_items_of_datasets():
    colour = Image.fromarray(SIX[0])
    tensor = torch.from_numpy(SIX[0]).permute(2, 0, 1)
    for item in (
        colour,
        SIX[0],
        tensor,
        (tensor, 3),
        [tensor, tensor],
        {"label": 1, "img": colour},
    ):
        assert np.array_equal(image_of(item), SIX[0])
    assert image_of(tensor[0]).shape == (20, 24, 1)
    with pytest.raises(ValueError, match="an item with label in it: expected one of image"):
        image_of({"label": 3})


def test_datasets_of_hugging_face(stored, monkeypatch):
    """By a name there, and from a folder that it was saved to."""

    class Stored(list):
        def select_columns(self, column):
            return Stored({column: item[column]} for item in self)

    rows = Stored({"photo": Image.fromarray(image), "label": 1} for image in SIX)
    asked = []
    library = SimpleNamespace(
        load_dataset=lambda name, split: asked.append((name, split)) or rows,
        load_from_disk=lambda path: {"test": rows},
    )
    monkeypatch.setitem(sys.modules, "datasets", library)
    expected = drawn_images([as_pictures("SIX", SIX)], **OPTIONS)
    for path in ("user/set", "2024"):
        text = f"hugging_face(path={path!r},split='test',column='photo')"
        assert digest(*drawn_images([pictures(text)], **OPTIONS)) == digest(*expected)
    assert asked == [("user/set", "test")]


def test_loaders_of_libraries_by_name(stored, monkeypatch):
    asked = []

    class Loader(list):
        def __init__(self, root, download=False):
            asked.append((root, download))
            super().__init__(Image.fromarray(image) for image in SIX)

    monkeypatch.setattr("deepinv.datasets.CBSD68", Loader)
    expected = drawn_images([as_pictures("SIX", SIX)], **OPTIONS)
    found = drawn_images([pictures("deepinv.CBSD68(root='here')")], **OPTIONS)
    assert asked == [("here", False)]
    assert digest(*found) == digest(*expected)
    with pytest.raises(ValueError, match=r"torchvision.CIFAR10\(root=.*RuntimeError: Dataset"):
        pictures("torchvision.CIFAR10(root='here')")
