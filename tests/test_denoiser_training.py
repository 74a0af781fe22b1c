"""Training of the denoiser: taken up bit for bit, schedules, its export and its model card."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.imaging.denoisers import make_denoiser, small_drunet
from benchmark.imaging.denoisers.training import __main__ as command_line
from benchmark.imaging.denoisers.training import card as cards
from benchmark.imaging.denoisers.training import loop
from benchmark.imaging.denoisers.training.card import export
from benchmark.imaging.denoisers.training.data import centre, photographs_of, random_crops, split
from benchmark.imaging.denoisers.training.loop import advance
from benchmark.imaging.denoisers.training.recipe import Recipe
from benchmark.imaging.denoisers.training.state import STATE, load, new_run, save

#: six steps, the last three with the penalty
TINY = Recipe(
    6,
    "steps",
    channels=(8, 8, 8, 8),
    crops=2,
    size=16,
    scales=(1.0, 0.75),
    validation=1,
    warmup=2,
    penalised=0.5,
    penalised_crops=1,
)


@pytest.fixture
def folder(tmp_path):
    """Two images of 40×32 pixels."""
    images = tmp_path / "images"
    images.mkdir()
    generator = np.random.default_rng(0)
    for i in range(2):
        pixels = generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((32, 40), Image.Resampling.BICUBIC)
        image.save(images / f"{i}.png")
    return images


def tensors(run):
    """Everything that a step depends on, by name."""
    found = {"generator": run.generator.get_state()}
    for name, parameter in run.network.named_parameters():
        found[name] = parameter.detach()
        state = run.optimizer.state[parameter]
        found |= {f"{name} {key}": state[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return found | {f"average {name}": w for name, w in run.average.named_parameters()}


@pytest.mark.parametrize("killed_at", [2, 5])
def test_a_killed_run_is_taken_up_bit_for_bit(killed_at, folder, tmp_path, monkeypatch):
    """Killed while Adam has moments, before and after the penalty sets in."""
    images = photographs_of(folder)
    whole = new_run(TINY)
    advance(whole, images, tmp_path / "whole")

    take_step = loop.take_step

    def die(run, pyramid):
        if run.step == killed_at:
            raise KeyboardInterrupt
        return take_step(run, pyramid)

    monkeypatch.setattr(loop, "take_step", die)
    with pytest.raises(KeyboardInterrupt):
        advance(load(TINY, tmp_path / "cut"), images, tmp_path / "cut", checkpoint_seconds=0)
    monkeypatch.undo()

    again = load(TINY, tmp_path / "cut")
    assert again.step == killed_at
    advance(again, images, tmp_path / "cut")
    assert again.step == whole.step == 6
    expected = tensors(whole)
    for name, tensor in tensors(again).items():
        assert torch.equal(tensor, expected[name]), name
    assert [record["step"] for record in again.growth] == [*range(1, killed_at + 1), 6]
    assert again.growth[-1]["psnr"] == whole.growth[-1]["psnr"]


def test_training_leaves_the_generator_of_the_caller_alone(folder, tmp_path):
    before = torch.get_rng_state()
    advance(new_run(TINY), photographs_of(folder), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_checkpoint_cut_off_leaves_the_one_before(folder, tmp_path, monkeypatch):
    run = new_run(TINY)
    advance(run, photographs_of(folder), tmp_path)

    def die(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    run.step = 99
    with pytest.raises(KeyboardInterrupt):
        save(run, tmp_path)
    assert load(TINY, tmp_path).step == 6


def test_the_command_survives_kill(folder, tmp_path, monkeypatch):
    """The command, killed without warning once it has saved, goes on from there."""
    options = ["--images", folder, "--test", folder, "--state", tmp_path / "state"]
    options += ["--out", tmp_path / "out", "--steps", "100000", "--validation", "1"]
    arguments = [*map(str, options), "--checkpoint-seconds", "0"]
    command = [sys.executable, "-m", "benchmark.imaging.denoisers.training", *arguments]
    for image in folder.iterdir():
        Image.open(image).resize((72, 64)).save(image)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "state" / STATE).is_file():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    run = load(Recipe(100000, "steps", validation=1), tmp_path / "state")
    assert run.step >= 1 and run.seconds > 0
    exported = []
    monkeypatch.setattr(command_line, "export", lambda run, *paths: exported.append(run))
    command_line.main([*arguments, "--export"])
    assert (exported[0].step, exported[0].seconds) == (run.step, run.seconds)


def test_the_export_loads_through_the_table_and_its_card_is_true(folder, tmp_path, monkeypatch):
    run = new_run(TINY)
    advance(run, photographs_of(folder), tmp_path / "state")
    shipped = small_drunet.WEIGHTS
    monkeypatch.setattr(cards, "CROP_LEVELS", (0.1,))
    export(run, folder, tmp_path / "out", compared=shipped)
    monkeypatch.setattr(small_drunet, "WEIGHTS", tmp_path / "out" / shipped.name)
    network = make_denoiser("small_drunet", (3, 16, 16))
    for ours, averaged in zip(network.parameters(), run.average.parameters(), strict=True):
        assert torch.equal(ours, averaged.half().float())
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text(encoding="utf-8")
    truths = [centre(image) for image in photographs_of(folder)]
    for level in (15, 25, 50):
        assert f"| {level}/255 | {loop.mean_psnr(network, truths, level):.2f} | " in card
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in card
    assert "321,520 parameters" in card
    assert "6 steps of Adam on 2 crops" in card


def test_the_run_is_described_beside_its_state(folder, tmp_path):
    advance(new_run(TINY), photographs_of(folder), tmp_path)
    record = json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))
    assert (record["step"], record["recipe"]["budget"]) == (6, 6)
    assert record["growth"][-1]["psnr"].keys() == {"15", "25", "50"}


def test_schedules_follow_the_budget():
    recipe = Recipe(100.0, learning_rate=1.0, warmup=10, penalised=0.2)
    assert recipe.spent(7, 50.0) == 0.5
    assert Recipe(100, "steps").spent(7, 50.0) == 0.07
    assert recipe.learning_rate_at(0, 0.0) == pytest.approx(0.1)
    assert recipe.learning_rate_at(10, 0.5) == pytest.approx(0.505)
    assert recipe.learning_rate_at(10, 1.1) == pytest.approx(0.01)
    assert [recipe.is_penalised(f) for f in (0.79, 0.81)] == [False, True]


def test_crops_are_parts_of_the_images():
    image = torch.arange(3 * 9 * 8).reshape(3, 9, 8).to(torch.uint8)
    drawn = random_crops([[image]], 20, 8, torch.Generator().manual_seed(0))
    assert drawn.shape == (20, 3, 8, 8)
    symmetric = [
        part.flip(axes)
        for top in (0, 1)
        for part in (image[:, top : top + 8], image[:, top : top + 8].mT)
        for axes in ([], [1], [2], [1, 2])
    ]
    found = {next(i for i, s in enumerate(symmetric) if torch.equal(s / 255, c)) for c in drawn}
    assert len(found) > 8


def test_validation_photographs_are_held_out():
    training, held_out = split(range(200), 10)
    assert held_out == list(range(0, 200, 20))
    assert not set(training) & set(held_out) and len(training) == 190


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"budget": 0}, "budget must be a positive number, got 0"),
        ({"budget": 1, "unit": "days"}, "unit must be one of seconds, steps, got 'days'"),
        ({"budget": 1, "size": 20}, "size must be a multiple of 8, got 20"),
        ({"budget": 1, "scales": (2.0,)}, "each of scales must be a number above 0, at most 1"),
        ({"budget": 1, "penalty": -1}, "penalty must be a number of at least 0, got -1"),
    ],
)
def test_bad_recipes_are_named(options, expected):
    with pytest.raises(ValueError, match=expected):
        Recipe(**options)


def test_bad_folders_are_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected a folder of images .* got .*empty"):
        photographs_of(tmp_path / "empty")
    with pytest.raises(ValueError, match="some of the 2 images for training, got 2"):
        split(photographs_of(folder), 2)
    with pytest.raises(ValueError, match="at least 64×64 pixels, got 32×40"):
        advance(new_run(Recipe(1, "steps", validation=1)), photographs_of(folder), tmp_path)
    save_folder = tmp_path / "state"
    advance(new_run(TINY), photographs_of(folder), save_folder)
    with pytest.raises(ValueError, match=r"has budget = 6, expected the same, got 7"):
        load(Recipe(7, "steps"), save_folder)


def test_a_recipe_is_changed_on_the_way_only_where_asked_and_the_card_says_so(folder, tmp_path):
    advance(new_run(TINY), photographs_of(folder), tmp_path)
    longer = replace(TINY, budget=8, clip=0.01)
    with pytest.raises(ValueError, match=r"amend it \(--amend\)"):
        load(longer, tmp_path)
    with pytest.raises(ValueError, match="a run that has begun keeps it"):
        load(replace(TINY, seed=5), tmp_path, amend=True)
    run = load(longer, tmp_path, amend=True)
    advance(run, photographs_of(folder), tmp_path)
    again = load(longer, tmp_path)
    changed = {"budget": [6, 8], "clip": [0.1, 0.01]}
    assert again.step == 8 and again.amendments == [{"step": 6, "changed": changed}]
    assert "At step 6, clip was changed from 0.1 to 0.01." in cards._making(again, 1)
