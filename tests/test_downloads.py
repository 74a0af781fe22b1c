"""Downloads are prepared once; one that fails says what to place where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from shared import dataset
from test_folders import origins, picture

from benchmark.imaging.downloads import COLLECTIONS, prepare


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
