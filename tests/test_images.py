"""The photographs and what is made of them: crops, digests, metrics."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from shared import dataset

from benchmark.imaging.images import crops, digest, simulated, to_uint8
from benchmark.imaging.metrics import gradient_cosine, gradient_error, psnr, relative_residual, ssim
from benchmark.imaging.photographs import PHOTOGRAPHS, Photograph, photographs


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
