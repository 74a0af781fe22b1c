"""The weights of a run for the package, and the model card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark.imaging.denoisers.crop_figures import noisy_test_crops, row
from benchmark.imaging.denoisers.nonexpansive import reflected_norm
from benchmark.imaging.denoisers.small_drunet import WEIGHTS, SmallDRUNet, trained
from benchmark.imaging.denoisers.training.data import centre, photographs_of
from benchmark.imaging.denoisers.training.loop import LEVELS, mean_psnr
from benchmark.imaging.denoisers.training.recipe import Recipe
from benchmark.imaging.denoisers.training.state import Run
from benchmark.imaging.photographs import PHOTOGRAPHS

#: noise levels of the rows on the package's own photographs
CROP_LEVELS = (0.05, 0.1, 0.2)
#: DRUNet of 32.6 million parameters on CBSD68, dB, by σ in units of 1/255: the colour part of the
#: table of denoisers in Zhang et al., "Plug-and-play image restoration with deep denoiser prior"
PUBLISHED = {15: 34.30, 25: 31.69, 50: 28.51}
#: at most so many rows of the growth log
GROWTH_ROWS = 24


def export(run: Run, test: Path, out: Path, compared: Path | None = None) -> None:
    """Write the averaged weights of ``run`` in float16, and their model card, into ``out``.

    test : folder of the photographs that the card measures on; compared : weights of another
    network to measure beside it.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: w.half().contiguous() for name, w in run.average.state_dict().items()}
    path = out / WEIGHTS.name
    save_file(weights, path, metadata={"channels": json.dumps(run.recipe.channels)})
    truths = [centre(image) for image in photographs_of(test)]
    networks = {"this network": trained(path)}
    if compared is not None:
        networks["compared"] = trained(compared)
    card = model_card(run, truths, networks, test=test.resolve().name)
    (out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card, flush=True)


def model_card(
    run: Run, truths: Sequence[Tensor], networks: dict[str, SmallDRUNet], *, test: str
) -> str:
    """What the weights are, how they were made and how well they denoise, in Markdown.

    networks : "this network" and, where there is one to compare with, "compared"; test : what the
    photographs ``truths`` are called.
    """
    network = networks["this network"]
    rows = "\n".join(row(network, sigma) for sigma in CROP_LEVELS)
    _, noisy = noisy_test_crops(0.1)
    generator = torch.Generator().manual_seed(0)
    levels = noisy.new_full((len(noisy),), 0.1)
    norms = reflected_norm(network, noisy, levels, generator=generator, products=40)
    return f"""# Model card: small DRUNet

A denoiser of colour images in [0, 1] with white Gaussian noise of known standard deviation σ, for
layers with a denoiser inside. Written by `python -m benchmark.imaging.denoisers.training`, as were
the weights; every figure below was computed when it was written, except the published ones.

{_making(run, _parameters(network))}
- **Limits**: trained on one collection of photographs; noise levels above
  {run.recipe.largest_noise_level} were not seen. The penalty is mild: 40 power iterations at
  σ = 0.1 find ‖2J − I‖ up to {float(norms.detach().max()):.2f} on the crops below, where firm
  nonexpansiveness is at most 1. That a layer contracts is to be measured.

PSNR in dB on the {len(truths)} photographs of {test}, whole but for the margins that make sides
multiples of 8; the mean over the photographs. Published, on CBSD68: the DRUNet of 32.6 million
parameters in Zhang et al., "Plug-and-play image restoration with deep denoiser prior" (2021), on
the uncropped photographs.

{_test_table(truths, networks)}

PSNR in dB on eight 64×64 crops of the test photographs of this package
({", ".join(one.name for one in PHOTOGRAPHS["test"])}), beside
scikit-image's non-local means (patches of 5, distance 6, h = 0.8 σ) and wavelet shrinkage
(BayesShrink in YCbCr), both told σ:

| σ | noisy | non-local means | wavelet | small DRUNet |
|---|---|---|---|---|
{rows}

How it grew: PSNR in dB on the central 256×256 pixels of the {run.recipe.validation} photographs
held out, and the largest ‖2J − I‖ that 10 power iterations find there at σ = 25/255.

{_growth_table(run.growth)}
"""


def _making(run: Run, parameters: int) -> str:
    recipe: Recipe = run.recipe
    precision = "bfloat16 (float32 with the penalty)" if recipe.bfloat16 else "float32"
    return f"""- **Network**: D(v, σ) = v − N(v, σ), N deepinv's DRUNet with
  {", ".join(map(str, recipe.channels))} channels, one block per scale, ReLU, no biases;
  {parameters:,} parameters, stored in float16. Image sides must be multiples of 8.
- **Data**: the training part of BSDS300, 200 colour photographs (Martin, Fowlkes, Tal, Malik, "A
  database of human segmented natural images", 2001), less the {recipe.validation} held out. They
  are not part of this package. Crops of {recipe.size}×{recipe.size} pixels from the photographs and
  copies of {", ".join(f"{s:g}" for s in recipe.scales)} times their size, drawn alike; flips
  and transpositions. No test photograph was seen.
- **Recipe**: {run.step} steps of Adam on {recipe.crops} crops, learning rate from
  {recipe.learning_rate:g} down to a hundredth by a cosine of the budget, mean absolute error, σ
  uniform in [0, {recipe.largest_noise_level}], {precision}, weights averaged with the factor
  {recipe.average:g}. In the last {recipe.penalised:.0%} of the budget, plus {recipe.penalty:g}
  times the squared excess of ‖2J − I‖ over 1 on {recipe.penalised_crops} crops (6 power
  iterations). Gradients clipped to the norm {recipe.clip:g}.{_amendments(run)}
- **Seed**: {recipe.seed}. **Time**: {run.seconds / 3600:.2f} hours of processor time,
  {min(run.spent, 1):.0%} of the budget of the recipe."""


def _amendments(run: Run) -> str:
    return "".join(
        f"\n  At step {amendment['step']}, {name} was changed from {before} to {after}."
        for amendment in run.amendments
        for name, (before, after) in amendment["changed"].items()
    )


def _test_table(truths: Sequence[Tensor], networks: dict[str, SmallDRUNet]) -> str:
    names = [f"{name}, {_parameters(n):,} parameters" for name, n in networks.items()]
    lines = [_line(["σ", *names, "published"]), "|---" * (len(names) + 2) + "|"]
    for level in LEVELS:
        figures = [mean_psnr(network, truths, level) for network in networks.values()]
        cells = [f"{figure:.2f}" for figure in (*figures, PUBLISHED[level])]
        lines.append(_line([f"{level}/255", *cells]))
    return "\n".join(lines)


def _growth_table(growth: Sequence[dict]) -> str:
    if not growth:
        return "(not validated yet)"
    stride = -(-len(growth) // GROWTH_ROWS)
    # the last one and every stride-th before it
    shown = list(growth)[::-1][::stride][::-1]
    lines = [_line(["hours", "steps", *(f"σ = {level}/255" for level in LEVELS), "‖2J − I‖"])]
    lines.append("|---" * (len(LEVELS) + 3) + "|")
    for record in shown:
        figures = [f"{record['psnr'][str(level)]:.2f}" for level in LEVELS]
        time = f"{record['seconds'] / 3600:.2f} h"
        lines.append(_line([time, str(record["step"]), *figures, f"{record['reflected']:.2f}"]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parameters(network: SmallDRUNet) -> int:
    return sum(p.numel() for p in network.parameters())
