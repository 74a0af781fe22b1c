"""Train the small DRUNet on the training photographs and write its weights and model card.

``python -m benchmark.imaging.denoisers.train --out FOLDER``: about ten minutes on one CPU core. Two
phases of one Adam run. First the mean absolute error of D(x̄ + σn, σ), σ uniform; then the same plus
a mild penalty towards firm nonexpansiveness, with which layers built on D would converge: the
excess of ‖2J_D − I‖ over 1 (Pesquet, Repetti, Terris, Wiaux, "Learning maximally monotone
operators for image recovery", 2021).
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmark.imaging.denoisers.crop_figures import denoised_psnr, noisy_test_crops, row
from benchmark.imaging.denoisers.nonexpansive import reflected_norm
from benchmark.imaging.denoisers.small_drunet import LARGEST_NOISE_LEVEL, WEIGHTS, SmallDRUNet
from benchmark.imaging.images import PHOTOGRAPHS, photographs
from benchmark.solve.vectors import expand

__all__ = ["Recipe", "denoised_psnr", "model_card", "noisy_test_crops", "train"]

#: shorter sides of the reduced copies of a photograph that crops are drawn from
SCALES = (96, 144, 216, 324)
#: noise levels of the model card
CARD_LEVELS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Recipe:
    """Adam with a cosine schedule; ``penalised`` is the fraction of steps, the last ones, with the
    penalty, taken on the first ``penalised_crops`` of the batch with the weight ``penalty``.
    """

    steps: int = 2000
    seed: int = 0
    crops: int = 16
    size: int = 48
    learning_rate: float = 1e-3
    penalised: float = 0.25
    penalised_crops: int = 4
    penalty: float = 0.1


def train(recipe: Recipe) -> SmallDRUNet:
    """The network trained by ``recipe``, its weights rounded to float16; prints its progress."""
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = SmallDRUNet()
    pyramid = _pyramid(photographs("train"))
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, recipe.steps, eta_min=recipe.learning_rate / 100
    )
    started, first_penalised = time.perf_counter(), round(recipe.steps * (1 - recipe.penalised))
    for step in range(1, recipe.steps + 1):
        truth = _random_crops(pyramid, recipe.crops, recipe.size, generator)
        sigma = LARGEST_NOISE_LEVEL * torch.rand(len(truth), generator=generator)
        noisy = truth + expand(sigma, truth) * torch.randn(truth.shape, generator=generator)
        error = (network(noisy, sigma) - truth).abs().mean()
        loss, largest = error, float("nan")
        if step > first_penalised:
            few = slice(recipe.penalised_crops)
            norms = reflected_norm(network, noisy[few], sigma[few], generator=generator)
            loss, largest = error + recipe.penalty * (norms - 1).relu().square().mean(), norms.max()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.steps:
            print(
                f"step {step} of {recipe.steps}: mean absolute error {error:.4f}, "
                f"largest ‖2J − I‖ {largest:.2f}, {time.perf_counter() - started:.0f} s",
                flush=True,
            )
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.half())
    return network.eval()


def model_card(network: SmallDRUNet, recipe: Recipe, *, minutes: float) -> str:
    """What the weights are, how they were made and how well they denoise, in Markdown."""
    table = "\n".join(row(network, sigma) for sigma in CARD_LEVELS)
    _, noisy = noisy_test_crops(0.1)
    generator = torch.Generator().manual_seed(0)
    levels = noisy.new_full((len(noisy),), 0.1)
    worst = reflected_norm(network, noisy, levels, generator=generator, products=40).max()
    parameters = sum(p.numel() for p in network.parameters())
    penalised = round(recipe.steps * recipe.penalised)
    return f"""# Model card: small DRUNet

A denoiser of colour images in [0, 1] with white Gaussian noise of known standard deviation σ, for
layers with a denoiser inside (`benchmark/problems/pnp.py`, `benchmark/problems/drunet.py`). Written
by `python -m benchmark.imaging.denoisers.train`, as were the weights.

- **Network**: D(v, σ) = v − N(v, σ), N deepinv's DRUNet with 16, 32, 64, 64 channels, one block
  per scale, ReLU, no biases; {parameters:,} parameters, stored in float16. Image sides must be
  multiples of 8.
- **Data**: the training photographs of this package, from scikit-image
  ({", ".join(PHOTOGRAPHS["train"])}). No test photograph was seen.
  Crops of {recipe.size}×{recipe.size} pixels from the photographs and copies reduced to a shorter
  side of {", ".join(map(str, SCALES))}; random flips, transpositions and orders of the channels.
- **Recipe**: {recipe.steps} steps of Adam on {recipe.crops} crops, learning rate from
  {recipe.learning_rate:g} down by a cosine, mean absolute error, σ uniform in
  [0, {LARGEST_NOISE_LEVEL}]. In the last {penalised} steps, plus {recipe.penalty:g} times the
  squared excess of ‖2J − I‖ over 1 on {recipe.penalised_crops} crops (6 power iterations).
- **Seed**: {recipe.seed}. **Time**: {minutes:.0f} minutes on one CPU core.
- **Limits**: four training photographs; noise levels above {LARGEST_NOISE_LEVEL} were not seen. The
  penalty is mild: 40 power iterations at σ = 0.1 find ‖2J − I‖ up to {worst:.1f} on the test crops,
  where firm nonexpansiveness is at most 1. That a layer contracts is to be measured.

PSNR in dB on eight 64×64 crops of the test photographs
({", ".join(PHOTOGRAPHS["test"])}), beside
scikit-image's non-local means (patches of 5, distance 6, h = 0.8 σ) and wavelet shrinkage
(BayesShrink in YCbCr), both told σ:

| σ | noisy | non-local means | wavelet | small DRUNet |
|---|---|---|---|---|
{table}
"""


def main() -> None:
    """Read the command line, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    options = parser.parse_args()
    recipe = Recipe(steps=options.steps, seed=options.seed)
    started = time.perf_counter()
    network = train(recipe)
    minutes = (time.perf_counter() - started) / 60
    options.out.mkdir(parents=True, exist_ok=True)
    weights = {name: w.half().contiguous() for name, w in network.state_dict().items()}
    save_file(weights, options.out / WEIGHTS.name)
    card = model_card(network, recipe, minutes=minutes)
    (options.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card)


def _pyramid(images: list[Image.Image]) -> list[list[Tensor]]:
    """For each photograph, itself and its reduced copies, (3, H, W) in [0, 1]."""
    pyramid = []
    for image in images:
        copies = [image]
        for side in SCALES:
            if side < min(image.size):
                scaled = [math.ceil(s * side / min(image.size)) for s in image.size]
                copies.append(image.resize(scaled, Image.Resampling.LANCZOS))
        arrays = (np.array(copy, dtype=np.float32) / 255 for copy in copies)
        pyramid.append([torch.from_numpy(array).permute(2, 0, 1) for array in arrays])
    return pyramid


def _random_crops(
    pyramid: list[list[Tensor]], number: int, size: int, generator: torch.Generator
) -> Tensor:
    """``number`` crops (number, 3, size, size): photograph, copy, place and symmetry at random."""

    def draw(upper: int) -> int:
        return int(torch.randint(upper, (), generator=generator))

    patches = []
    for _ in range(number):
        copies = pyramid[draw(len(pyramid))]
        image = copies[draw(len(copies))]
        top, left = (draw(side - size + 1) for side in image.shape[1:])
        patch = image[:, top : top + size, left : left + size]
        patch = patch[torch.randperm(3, generator=generator)]
        patch = patch.flip([axis for axis in (1, 2) if draw(2)])
        patches.append(patch.mT if draw(2) else patch)
    return torch.stack(patches)


if __name__ == "__main__":
    main()
