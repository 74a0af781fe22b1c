"""Files and arrays of images: any depth, channels, alpha, orientation and order of axes is read as
what it shows, or refused with the reason."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from conftest import drawn_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from benchmark.imaging.arrays import axes_of, channels_last
from benchmark.imaging.images import crops
from benchmark.imaging.reading import in_unit_range, read_image, upright_size, with_channels
from benchmark.imaging.sources import folder, pictures

EVERY_FILE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: what EXIF says of an image whose first row, first column are there: how the upright one is stored
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.transpose(a, (1, 0, 2)),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(np.transpose(a, (1, 0, 2)), 2),
    8: lambda a: np.rot90(a, -1),
}
SIDES = st.integers(1, 13)


def unit(values: np.ndarray) -> np.ndarray:
    """What ``read_image`` gives, bytes or not, as numbers in [0, 1]."""
    return values / 255 if values.dtype == np.uint8 else values


def write_png(path, levels: np.ndarray, orientation: int) -> None:
    """A PNG of 8 or 16 bits with 1 to 4 channels, by its specification."""
    height, width, channels = levels.shape
    bits, kind = 8 * levels.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in levels)
    exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1" + struct.pack(">HH", orientation, 0) + b"\0" * 4
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
        + chunk(b"eXIf", exif)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_tiff(path, levels: np.ndarray, orientation: int) -> None:
    channels = levels.shape[2]
    extra = {2: ["unassalpha"], 4: ["unassalpha"]}.get(channels)
    tifffile.imwrite(
        path,
        levels if channels > 1 else levels[..., 0],
        photometric="rgb" if channels in (3, 4) else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=extra,
        extratags=[(274, "H", 1, orientation, True)],
        metadata=None,
    )


@EVERY_FILE
@given(data=st.data(), depth=st.sampled_from([8, 16]), suffix=st.sampled_from(["png", "tif"]))
def test_a_file_is_read_as_what_it_shows(tmp_path, data, depth, suffix):
    channels = data.draw(st.integers(1, 4), "channels, the second or fourth of them alpha")
    height, width = data.draw(SIDES, "height"), data.draw(SIDES, "width")
    orientation = data.draw(st.sampled_from(sorted(STORED)), "orientation")
    full = 2**depth - 1
    levels = data.draw(arrays(f"u{depth // 8}", (height, width, channels)), "levels")
    levels.flat[0] = full  # bits that are not used make a depth unclear
    path = tmp_path / f"image.{suffix}"
    {"png": write_png, "tif": write_tiff}[suffix](path, STORED[orientation](levels), orientation)
    shown = levels / full
    if channels in (2, 4):
        shown = shown[..., :-1] * shown[..., -1:]
    assert upright_size(path) == (height, width)
    found = unit(read_image(path))
    assert found.shape == shown.shape
    np.testing.assert_allclose(found, shown, atol=1e-12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_orientation_is_undone(tmp_path, suffix, dtype, channels):
    """Each by itself: drawn at random, one kind of file in one orientation is rarely met."""
    high = np.iinfo(dtype).max
    levels = np.random.default_rng(0).integers(high, size=(7, 5, channels), dtype=dtype)
    levels.flat[0] = high
    path = tmp_path / f"image.{suffix}"
    for orientation, stored in STORED.items():
        {"png": write_png, "tif": write_tiff}[suffix](path, stored(levels), orientation)
        assert upright_size(path) == (7, 5)
        np.testing.assert_allclose(unit(read_image(path)), levels / high, err_msg=str(orientation))


@EVERY_FILE
@given(data=st.data(), dtype=st.sampled_from(["f2", "f4", "f8"]), channels=st.sampled_from([1, 5]))
def test_tiff_of_floats_and_many_channels(tmp_path, data, dtype, channels):
    shape = (data.draw(SIDES), data.draw(SIDES), channels)
    width = 8 * np.dtype(dtype).itemsize
    levels = data.draw(arrays(dtype, shape, elements=st.floats(0, 1, width=width)))
    path = tmp_path / "image.tif"
    planar = "contig" if channels > 1 else None
    stored = levels if channels > 1 else levels[..., 0]
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar, metadata=None)
    assert np.array_equal(read_image(path), levels.astype(np.float64))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), several=st.booleans())
def test_axes_in_any_order(data, several):
    letters = data.draw(st.permutations("NCHW" if several else "CHW").map("".join), "axes")
    sides = {
        "N": data.draw(st.integers(4, 6)),
        "C": data.draw(st.integers(1, 6)),
        "H": data.draw(st.integers(4, 9)),
        "W": data.draw(st.integers(4, 9)),
    }
    stored = np.arange(np.prod([sides[a] for a in letters])).reshape([sides[a] for a in letters])
    ordered = np.einsum(f"{letters}->{'NHWC' if several else 'HWC'}", stored)
    assert np.array_equal(
        channels_last(stored, axes_of(stored.shape, several=several, axes=letters)), ordered
    )
    try:
        guessed = axes_of(stored.shape, several=several)
    except ValueError as error:
        assert "say what its axes are" in str(error)
        return
    usual = ("NCHW", "NHWC") if several else ("CHW", "HWC")
    if letters in usual and sides["C"] in (1, 3):
        assert guessed == letters
    else:  # the order of height and width cannot be seen; channels must be told from the rest
        assert stored.shape[guessed.index("C")] in (1, 3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            np.full((4, 4), 4095, np.uint16),
            "up to 4095 alone, 4095 or 65535 may be white: say white=",
        ),
        (np.full((4, 4), 10**6, np.int32), "integers of type int32, of unknown range"),
        (np.full((4, 4), 2**31, np.uint32), "integers of type uint32, of unknown range"),
        (np.full((4, 4), -3, np.int16), "integers of type int16, of unknown range"),
        (np.full((4, 4), 255.0), "values from 255 to 255, expected"),
        (np.full((4, 4), -0.1), r"values from -0.1 to -0.1, expected \[0, 1\]"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.full((4, 4), 1j), "values of type complex128, expected real numbers"),
        (np.zeros((0, 4)), r"no values, in an array of shape \(0, 4\)"),
    ],
)
def test_unknown_ranges_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        in_unit_range(values)


def test_the_value_of_white():
    ramp = np.linspace(0, 1, 5)
    for dtype, white in (("u1", 15), ("u2", 4095), ("i2", 1000), ("u4", 2**32 - 1), ("f4", 255.0)):
        levels = (ramp * white).astype(dtype)
        np.testing.assert_allclose(in_unit_range(levels, white), levels / float(white))
    with pytest.raises(ValueError, match=r"values from 0 to 4095, expected \[0, 1023\]"):
        in_unit_range((ramp * 4095).astype("u2"), 1023)
    with pytest.warns(
        UserWarning, match=r"up to 16383 alone are taken as 16 bits: say white=16383"
    ):
        assert in_unit_range((ramp * 16383).astype("u2")).max() == 16383 / 65535


def save(path, levels, **options):
    tifffile.imwrite(path, levels, **options)
    return path


def test_other_tiffs(tmp_path):
    deep = np.array([[0, 65535], [1000, 30000]], np.uint16)
    inverted = save(tmp_path / "white.tif", deep, photometric="miniswhite")
    np.testing.assert_allclose(read_image(inverted)[..., 0], 1 - deep / 65535)
    planes = np.stack([deep, deep // 2, deep // 3])
    planar = save(tmp_path / "planar.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read_image(planar), np.moveaxis(planes, 0, -1) / 65535)
    pages = save(tmp_path / "pages.tif", np.zeros((5, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(ValueError, match="a TIFF of 5 pages, expected one"):
        read_image(pages)
    signed = save(tmp_path / "signed.tif", np.full((4, 4), -1, np.int8))
    with pytest.raises(ValueError, match="integers of type int8, of unknown range"):
        read_image(signed)
    multiplied = np.full((2, 2, 4), 20000, np.uint16)
    before_black = save(
        tmp_path / "multiplied.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"]
    )
    np.testing.assert_allclose(read_image(before_black), 20000 / 65535)
    assert read_image(before_black).shape == (2, 2, 3)


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_bits_that_are_no_whole_bytes(tmp_path, bits):
    """Packed in a TIFF: two values of 12 bits in three bytes, two of 4 in one, four of 2."""
    white = 2**bits - 1
    levels = np.array([[0, white, white // 4, white // 2]] * 2)
    digits = "".join(f"{level:0{bits}b}" for level in levels.flat)
    packed = bytes(int(digits[at : at + 8], 2) for at in range(0, len(digits), 8))
    entries = [
        (256, 4, 4), (257, 4, 2), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8),
        (277, 3, 1), (278, 4, 2), (279, 4, len(packed)),
    ]  # fmt: skip
    tags = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path = tmp_path / "packed.tif"
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    path.write_bytes(head + packed + struct.pack("<H", len(entries)) + tags + b"\0" * 4)
    found = read_image(path)[..., 0]
    np.testing.assert_allclose(found / (255 if found.dtype == np.uint8 else 1), levels / white)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("photometric", "channels"), [("minisblack", 2), ("rgb", 4)])
def test_a_channel_that_is_no_colour_and_no_alpha_is_kept(tmp_path, dtype, photometric, channels):
    levels = np.arange(4 * 6 * channels).reshape(4, 6, channels).astype(dtype)
    levels[0, 0] = np.iinfo(dtype).max
    options = {"photometric": photometric, "planarconfig": "contig"}
    path = save(tmp_path / "more.tif", levels, extrasamples=["unspecified"], **options)
    found = read_image(path)
    scale = 1 if found.dtype == dtype else np.iinfo(dtype).max
    np.testing.assert_allclose(found * scale, levels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_pillow(tmp_path, mode):
    """As Pillow shows them in RGB."""
    pixels = np.random.default_rng(0).integers(256, size=(6, 9, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("image.jpg" if mode in ("CMYK", "YCbCr") else "image.png")
    image.save(path)
    found = with_channels(read_image(path), 3)
    assert np.array_equal(found, np.asarray(Image.open(path).convert("RGB")))
    assert read_image(path).shape[2] == (1 if mode in ("1", "L", "LA") else 3)


def test_what_alpha_hides_is_not_read(tmp_path):
    shown = []
    for hidden in ((0, 0, 0), (240, 30, 10)):
        pixels = np.zeros((20, 20, 4), np.uint8)
        pixels[..., :3] = hidden
        pixels[6:14, 6:14] = (200, 60, 30, 255)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        shown.append(read_image(tmp_path / "image.png"))
        palette = Image.new("P", (4, 4), 1)
        palette.putpalette([9, 9, 9, *hidden])
        palette.save(tmp_path / "palette.png", transparency=1)
        assert read_image(tmp_path / "palette.png").max() == 0
    assert np.array_equal(*shown)
    assert shown[0][10, 10].tolist() == [200 / 255, 60 / 255, 30 / 255]


def test_channels():
    grey, colour = np.full((2, 2, 1), 51, np.uint8), np.zeros((2, 2, 3), np.uint8)
    colour[..., 1] = 255
    assert with_channels(grey, 3).tolist() == np.full((2, 2, 3), 51).tolist()
    assert with_channels(colour, 1)[0, 0] == pytest.approx(0.587)
    assert with_channels(colour, None) is colour
    with pytest.raises(ValueError, match="3 channels, expected 5"):
        with_channels(colour, 5)
    with pytest.raises(ValueError, match=r"images of \[1, 3\] channels in one set"):
        crops({"grey": grey, "colour": colour}, number=2, size=2, seed=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), floats=st.booleans(), channels=st.integers(1, 5))
def test_a_crop_of_any_shape_is_a_part_of_its_image(data, floats, channels):
    height, width = data.draw(st.integers(3, 9)), data.draw(st.integers(3, 9))
    shape = (height + data.draw(st.integers(0, 7)), width + data.draw(st.integers(0, 7)), channels)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    image = rng.random(shape) if floats else rng.integers(256, size=shape, dtype=np.uint8)
    size, seed = [height, width], data.draw(st.integers(0, 9))
    (patch,) = crops({"one": image}, number=1, size=size, seed=seed).images
    assert patch.shape == (channels, height, width)
    windows = torch.from_numpy(unit(image)).unfold(0, height, 1).unfold(1, width, 1)
    assert (windows == patch).flatten(2).all(2).any()


def test_bytes_and_floats_are_reduced_alike():
    pixels = np.random.default_rng(0).integers(80, 176, size=(120, 180, 3), dtype=np.uint8)
    options = {"number": 2, "size": (10, 20), "seed": 0}
    rounded = crops({"one": pixels}, **options).images
    floats = crops({"one": pixels / 255}, **options).images
    np.testing.assert_allclose(floats, rounded, atol=2.5 / 255)
    assert rounded.unique().numel() > 50


@pytest.mark.parametrize("size", ["48", [1, 2, 3], [48, 0], 1.5, True, None, "48x-2"])
def test_bad_sizes_are_named(size):
    with pytest.raises(ValueError, match="size must be"):
        crops({"one": Image.new("RGB", (90, 90))}, number=1, size=size, seed=0)


def test_linked_folders_are_looked_into_once(tmp_path):
    real, root = tmp_path / "real", tmp_path / "root"
    real.mkdir(), root.mkdir()
    for i in range(4):
        Image.new("RGB", (20, 20), (60 * i, 0, 0)).save(real / f"{i}.png")
    for link in ("photos", "again"):
        os.symlink(real, root / link)
    os.symlink(root, real / "round")
    found = folder(root)
    assert len(found) == 4
    train, test = drawn_images([found], n_train=2, n_test=2, size=16, seed=0)
    reds = [round(float(x[0, 0, 0]) * 255) for x in (*train, *test)]
    assert sorted(reds) == [0, 60, 120, 180]
    os.symlink(tmp_path / "nowhere", root / "broken.png")
    with pytest.warns(UserWarning, match=r"broken\.png \(not readable"):
        drawn_images([folder(root)], n_train=2, n_test=2, size=16, seed=0)


def test_whole_images(tmp_path):
    for i, sides in enumerate([(21, 30), (30, 21), (24, 24)]):
        Image.new("L", sides[::-1], 10 * i).save(tmp_path / f"{i}.png")
    options = {"n_train": 2, "n_test": 1, "seed": 0, "channels": None}
    train, test = drawn_images([pictures(tmp_path)], size="whole", **options)
    assert sorted(tuple(x.shape) for x in (*train, *test)) == [
        (1, 21, 30),
        (1, 24, 24),
        (1, 30, 21),
    ]
    train, test = drawn_images([pictures(tmp_path)], size="whole", multiple_of=8, **options)
    assert sorted(tuple(x.shape) for x in (*train, *test)) == [
        (1, 16, 24),
        (1, 24, 16),
        (1, 24, 24),
    ]
