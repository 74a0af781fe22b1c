"""The photographs and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.images import PHOTOGRAPHS, crops, digest, photographs, simulated, to_uint8
from benchmark.metrics import gradient_cosine, gradient_error, psnr, ssim


def test_splits_share_no_photograph():
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["test"])
    pictures = [np.asarray(p) for split in PHOTOGRAPHS for p in photographs(split)]
    for i, a in enumerate(pictures):
        assert a.ndim == 3
        assert a.std() > 10, "not a photograph"
        assert not any(a.shape == b.shape and (a == b).all() for b in pictures[:i])


def test_crops_are_seeded_and_in_range():
    images = photographs("train")
    first = crops(images, number=6, size=32, seed=3)
    assert first.shape == (6, 3, 32, 32)
    assert first.dtype == torch.float64
    assert 0 <= first.min() < first.max() <= 1
    assert digest(first) == digest(crops(images, number=6, size=32, seed=3))
    assert digest(first) != digest(crops(images, number=6, size=32, seed=4))


def test_a_crop_is_a_part_of_its_photograph():
    image = Image.fromarray(
        np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8)
    )
    (patch,) = crops([image], number=1, size=24, seed=0)
    whole = torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1)
    windows = whole.unfold(1, 24, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4)
    assert (windows == patch).flatten(2).all(2).any()


def test_bad_crops_are_named():
    small = Image.new("RGB", (20, 30))
    with pytest.raises(ValueError, match=r"an image of \(20, 30\) pixels .* 24×24"):
        crops([small], number=1, size=24, seed=0)
    with pytest.raises(
        ValueError, match="number of images must be an integer of at least 1, got 0"
    ):
        crops([small], number=0, size=8, seed=0)


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
