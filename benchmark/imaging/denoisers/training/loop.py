"""The steps of a training run, its checkpoints and its validation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from benchmark.imaging.denoisers.nonexpansive import reflected_norm
from benchmark.imaging.denoisers.training.data import centre, noisy, pyramid, random_crops, split
from benchmark.imaging.denoisers.training.state import Run, save
from benchmark.imaging.metrics import psnr
from benchmark.solve.vectors import expand

#: noise levels of the validation and of the model card, in units of 1/255
LEVELS = (15, 25, 50)
#: seconds of the clock between two checkpoints
CHECKPOINT_SECONDS = 300.0
#: steps between two lines of the log
LOG_STEPS = 500


def advance(
    run: Run,
    photographs: Sequence[Image.Image],
    folder: Path,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Take ``run`` to the end of its budget, in place; validated and saved in ``folder``.

    A record of ``run.growth``: "seconds" and "step" as in ``Run``; "psnr", of the averaged weights
    on the central 256×256 pixels of the photographs held out, dB, by σ in units of 1/255; and
    "reflected", the largest ‖2J − I‖ that 10 power iterations find there in 64×64 at σ = 25/255.
    """
    training, held_out = split(photographs, run.recipe.validation)
    images = pyramid(training, run.recipe.scales, run.recipe.size)
    truths = [centre(image, largest=256) for image in held_out]
    saved, errors = time.monotonic(), []
    while run.spent < 1:
        started = time.process_time()
        errors.append(take_step(run, images))
        run.seconds += time.process_time() - started
        if run.step % LOG_STEPS == 0:
            mean, errors = sum(errors) / len(errors), []
            print(
                f"step {run.step}, {run.seconds:.0f} s: mean absolute error {mean:.5f}", flush=True
            )
        if time.monotonic() - saved >= checkpoint_seconds or run.spent >= 1:
            run.growth.append(validate(run, truths))
            print(run.growth[-1], flush=True)
            save(run, folder)
            saved = time.monotonic()


def take_step(run: Run, images: Sequence[Sequence[Tensor]]) -> float:
    """One step of Adam on crops of ``images``, in place; the mean absolute error before it.

    A gradient that is not finite changes no weights. Raises FloatingPointError where the error
    itself is not finite: the weights are lost, the last checkpoint is not.
    """
    recipe, network, generator = run.recipe, run.network, run.generator
    penalised = recipe.is_penalised(run.spent)
    truth = random_crops(images, recipe.crops, recipe.size, generator)
    sigma = recipe.largest_noise_level * torch.rand(len(truth), generator=generator)
    observed = truth + expand(sigma, truth) * torch.randn(truth.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16 and not penalised):
        residual = network.noise(observed, sigma)
    error = (observed - residual.float() - truth).abs().mean()
    loss = error
    if penalised:
        few = slice(recipe.penalised_crops)
        norms = reflected_norm(network, observed[few], sigma[few], generator=generator)
        loss = error + recipe.penalty * (norms - 1).relu().square().mean()
    run.optimizer.zero_grad()
    loss.backward()
    if not torch.isfinite(error):
        raise FloatingPointError(f"step {run.step}: expected a finite error, got {float(error)}")
    if torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)):
        _update(run)
    else:
        print(f"step {run.step}: a gradient that is not finite, left out", flush=True)
    run.step += 1
    return float(error.detach())


def _update(run: Run) -> None:
    """Adam and the averaged weights, by the gradients that the parameters hold."""
    recipe = run.recipe
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate_at(run.step, run.spent)
    run.optimizer.step()
    keep = min(recipe.average, (2 + run.step) / (11 + run.step))
    with torch.no_grad():
        pairs = zip(run.average.parameters(), run.network.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, 1 - keep)


def mean_psnr(network: nn.Module, truths: Sequence[Tensor], level: float) -> float:
    """Mean PSNR in dB over images (1, 3, H, W) with noise of σ = ``level``/255, from seed 0."""
    generator = torch.Generator().manual_seed(0)
    sigma = level / 255
    with torch.no_grad():
        figures = [
            psnr(network(noisy(truth, sigma, generator), torch.tensor([sigma])), truth)
            for truth in truths
        ]
    return sum(figures) / len(figures)


def validate(run: Run, truths: Sequence[Tensor]) -> dict:
    """The record of ``run.growth`` at this moment."""
    figures = {str(level): round(mean_psnr(run.average, truths, level), 3) for level in LEVELS}
    generator = torch.Generator().manual_seed(0)
    small = torch.cat([truth[..., :64, :64] for truth in truths])
    observed = noisy(small, 25 / 255, generator)
    levels = observed.new_full((len(observed),), 25 / 255)
    norms = reflected_norm(run.average, observed, levels, generator=generator, products=10)
    return {
        "seconds": round(run.seconds, 1),
        "step": run.step,
        "psnr": figures,
        "reflected": round(float(norms.detach().max()), 3),
    }
