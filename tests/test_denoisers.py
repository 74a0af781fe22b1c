"""The denoisers: bounds, weights that ship or are published, the model card, messages."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path

import pytest
import torch
from conftest import SHIPPED_WEIGHTS, small_task
from hypothesis import given, settings
from hypothesis import strategies as st

import benchmark.imaging.denoisers
from benchmark.imaging.denoisers import make_denoiser
from benchmark.imaging.denoisers.crop_figures import denoised_psnr, noisy_test_crops
from benchmark.imaging.denoisers.small_drunet import trained
from benchmark.imaging.metrics import psnr

SHAPE = (3, 16, 16)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(1e-3, 1), seed=st.integers(0, 1000))
def test_wavelet_shrinkage_is_firmly_nonexpansive(sigma, seed):
    """‖Da − Db‖² ≤ ⟨Da − Db, a − b⟩."""
    denoiser = make_denoiser("wavelet(wavelet='db2',levels=2)", SHAPE)
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 1, *SHAPE, generator=generator, dtype=torch.float64)
    level = torch.tensor([sigma], dtype=torch.float64)
    moved = denoiser(a, level) - denoiser(b, level)
    assert (moved**2).sum() <= (moved * (a - b)).sum() * (1 + 1e-12)


@pytest.fixture(scope="module")
def shipped():
    return trained(SHIPPED_WEIGHTS)


@pytest.fixture(scope="module")
def psnrs(shipped) -> dict[float, tuple[float, float]]:
    """PSNR of the noisy crops of the model card, and of the denoised ones, by noise level."""
    return {
        sigma: (psnr(*reversed(noisy_test_crops(sigma))), denoised_psnr(shipped, sigma))
        for sigma in (0.05, 0.1, 0.2)
    }


def test_the_shipped_weights_denoise(psnrs):
    assert SHIPPED_WEIGHTS.stat().st_size < 3e6
    for sigma, gain in ((0.05, 4), (0.1, 7), (0.2, 9)):
        noisy, denoised = psnrs[sigma]
        assert denoised > noisy + gain


def test_the_model_card_is_true(shipped, psnrs):
    card = SHIPPED_WEIGHTS.with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \|.*\| ([\d.]+) \|$", card, flags=re.M)
    assert sorted(float(level) for level, _, _ in rows) == sorted(psnrs)
    for level, *written in rows:
        assert [float(cell) for cell in written] == pytest.approx(psnrs[float(level)], abs=0.05)
    assert f"{sum(p.numel() for p in shipped.parameters()):,} parameters" in card


def test_untrained_weights_are_drawn_from_their_seed():
    def head(seed):
        spec = f"small_drunet(trained=False,seed={seed})"
        return next(make_denoiser(spec, SHAPE).parameters()).detach()

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_published_weights_that_cannot_be_had_are_named(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised:
        make_denoiser("drunet", SHAPE)
    for part in ("place the file https://", str(tmp_path / "checkpoints"), "small_drunet"):
        assert part in str(raised.value)


def test_the_package_ships_its_weights():
    folder = Path(benchmark.imaging.denoisers.__file__).parent
    assert {"small_drunet.safetensors", "MODEL_CARD.md"} <= {p.name for p in folder.iterdir()}


@pytest.mark.parametrize(
    ("spec", "size", "expected"),
    [
        ("pnp", 12, "'small_drunet' takes colour images .* multiples of 8, got 3 .* of 12×12"),
        ("drunet(denoiser='drunet')", 20, "the denoiser 'drunet' takes colour images"),
        ("pnp(stepsize=2)", 16, "stepsize .* strictly between 0 and 2, got 2"),
        ("pnp(noise_level=0)", 16, "noise_level must be a positive number, got 0"),
        ("pnp(regularisation=-1)", 16, "regularisation must be a positive number, got -1"),
        ("pnp(relaxation=0)", 16, "relaxation, .* strictly between 0 and 1, got 0"),
        ("pnp(denoiser='bm4d')", 16, "unknown denoiser 'bm4d': expected one of drunet, small_"),
        ("pnp(denoiser='wavelet(scales=2)')", 16, "denoiser 'wavelet' has no option 'scales'"),
        ("pnp(denoiser='wavelet(levels=5)')", 16, r"multiples of 2\^5 = 32"),
    ],
)
def test_bad_specs_are_named(spec, size, expected):
    with pytest.raises(ValueError, match=expected):
        small_task(lower=spec, size=size)


def test_gray_images_are_named():
    with pytest.raises(ValueError, match=r"got 1 channel\(s\) of 16×16 pixels"):
        make_denoiser("small_drunet", (1, 16, 16))
