"""Image files that are not what they seem: damaged, too large, no regular files."""

from __future__ import annotations

import io
import os
import re
import zlib

import numpy as np
import pytest
import tifffile
from conftest import drawn_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_image_files import write_png

from benchmark.imaging.reading import read_image, upright_size
from benchmark.imaging.sources import as_pictures, files, folder, pictures


def encoded(suffix: str, pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=suffix, **options)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(256, size=(20, 24, 3), dtype=np.uint8)
FILES = {
    "png": encoded("png", PIXELS),
    "jpeg": encoded("jpeg", PIXELS),
    "tiff": encoded("tiff", PIXELS, compression="tiff_lzw"),
    "webp": encoded("webp", PIXELS, lossless=True),
    "gif": encoded("gif", PIXELS[..., 0]),
    "bmp": encoded("bmp", PIXELS),
}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(sorted(FILES)))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_an_image_or_a_reason(tmp_path_factory, data, suffix):
    """Bytes changed, cut off, or named as another format: no error but one that is said."""
    content = bytearray(FILES[suffix])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.mktemp("files") / f"a.{data.draw(st.sampled_from(sorted(FILES)))}"
    path.write_bytes(content)
    found = files([str(path)])
    good = as_pictures("good", [PIXELS])
    try:
        _, test = drawn_images([good, found], n_train=1, n_test=1, size=(4, 6), seed=0)
    except ValueError as error:
        known = r"holds no image of|can serve: .*(not readable|a copy of)|crops of"
        assert re.search(known, str(error))
    else:
        assert test.shape == (1, 3, 4, 6) and 0 <= test.min() <= test.max() <= 1


def bomb(path, side: int) -> None:
    """A file of some bytes whose header promises side × side pixels."""
    if path.suffix == ".png":
        write_png(path, np.zeros((2, 2, 3), dtype=np.uint8), 1)
        content = bytearray(path.read_bytes())
        content[16:24] = side.to_bytes(4) * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
        path.write_bytes(content)
    else:
        tifffile.imwrite(path, np.zeros((16, 16), dtype=np.uint16))
        with tifffile.TiffFile(path, mode="r+b") as file:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                file.pages.first.tags[name].overwrite(side)


@pytest.mark.parametrize("side", [20_000, 60_000])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_have_a_largest_size(tmp_path, suffix, side):
    """Said from the header, before anything of that size is made."""
    path = tmp_path / f"bomb{suffix}"
    bomb(path, side)
    for read in (read_image, upright_size):
        with pytest.raises((ValueError, Image.DecompressionBombError), match=r"at most|exceeds"):
            read(path)
    said = r"bomb.* \(not readable: .*(at most 268435456|exceeds)"
    with pytest.warns(UserWarning, match=said), pytest.raises(ValueError, match=said):
        drawn_images([folder(tmp_path)], n_train=1, n_test=1, size=8, seed=0)


def test_arrays_have_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.imaging.arrays.MOST_STORED", 1000)
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 20, 20)))
    with pytest.raises(ValueError, match=r"a.npz: images holds \d+ bytes, .* at most 1000; .npy"):
        pictures(str(tmp_path / "a.npz"))
    monkeypatch.setattr("benchmark.imaging.reading.MOST_VALUES", 399)
    np.save(tmp_path / "a.npy", np.zeros((4, 20, 20)))
    with pytest.raises(ValueError, match="20×20 values, expected at most 399"):
        pictures(str(tmp_path / "a.npy")).read(0, None)


def test_what_is_no_regular_file_is_not_read(tmp_path):
    """Of a pipe, reading would wait for ever; a link to itself leads nowhere."""
    for i in range(2):
        Image.new("L", (20, 20), 90 * i).save(tmp_path / f"{i}.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "zero.png")
    os.symlink("round.png", tmp_path / "round.png")
    with pytest.warns(UserWarning, match=r": 1 images were skipped: round\.png \(not readable"):
        train, test = drawn_images([folder(tmp_path)], n_train=1, n_test=1, size=16, seed=0)
    assert len(train) == len(test) == 1
    for read in (read_image, upright_size):
        with pytest.raises(ValueError, match="no regular file"):
            read(tmp_path / "pipe.png")


def test_names_that_are_no_text_are_spelled_out(tmp_path):
    for i, name in enumerate((b"\xff.png", b"b.png")):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.new("L", (20, 20), 90 * i).save(file, format="png")
    assert sorted(folder(tmp_path).names) == ["\\udcff.png", "b.png"]
    folder(tmp_path).names[0].encode()
