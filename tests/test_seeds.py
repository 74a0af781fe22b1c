"""What is drawn, from which seed: one thing moves no other, and no generator of the caller's."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from conftest import DEGRADATION_SPECS, LOWER_SPECS, MORE_DEGRADATION_SPECS
from shared import dataset

from benchmark.imaging.extra_metrics import make_metrics
from benchmark.imaging.images import simulated
from benchmark.imaging.seeded import seeded
from benchmark.plugins.task import make_task

OPTIONS = {"lower": LOWER_SPECS[2], "probe_size": 1}
DENOISING = {"degradation": "denoising(sigma=0.1)"}


def state() -> tuple:
    """Of the generators of the caller's that are on the CPU."""
    name, key, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), name, key.tolist(), *rest, random.getstate()


@pytest.fixture
def no_cuda_seeding(monkeypatch):
    """Stands in for CUDA, where torch.manual_seed would reseed every device."""

    def refuse(*args, **options):
        raise AssertionError("a generator of the caller's on a CUDA device was seeded")

    for name in ("manual_seed", "manual_seed_all", "seed", "seed_all"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    with pytest.raises(AssertionError, match="was seeded"):
        torch.manual_seed(0)


@pytest.mark.parametrize("spec", DEGRADATION_SPECS + MORE_DEGRADATION_SPECS)
def test_no_generator_of_the_callers_moves(spec, no_cuda_seeding):
    images = simulated(number=2, size=16, seed=0)
    before = state()
    task = make_task(train=images, test=images, degradation=spec, seed=3, **OPTIONS)
    next(task.minibatches(1))
    assert state() == before


def test_nor_by_what_datasets_and_metrics_draw(no_cuda_seeding, tmp_path):
    file = tmp_path / "rough.py"
    file.write_text(
        "import torch\ndef rough(x_hat, x): return torch.rand(())\nrough.higher_is_better = True"
    )
    before = state()
    for name in ("Photographs", "Simulated"):
        dataset(name, size=16).get_data()
    (metric,) = make_metrics(str(file))
    one = torch.zeros(1, 3, 8, 8)
    assert metric.value(one, one) == metric.value(one, one)
    assert state() == before


def test_generators_are_as_before_after_an_error():
    before = state()
    with pytest.raises(KeyError), seeded(5):
        first = torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()
        raise KeyError
    assert state() == before
    with seeded(5):
        assert first == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())


@pytest.mark.parametrize("name", ["Photographs", "Simulated"])
def test_the_number_of_training_images_moves_nothing_else(name):
    """Not the test images, their noise, the mask, nor the training images that were there."""
    options = {"size": 16, "n_test": 3, "degradation": "inpainting(keep=0.5,sigma=0.1)"}
    few, many = (
        make_task(**dataset(name, n_train=number, **options).get_data(), **OPTIONS)
        for number in (2, 5)
    )
    for a, b in ((few.train, many.train[[0, 1]]), (few.test, many.test), (few.probe, many.probe)):
        assert torch.equal(a.truth, b.truth) and torch.equal(a.observation, b.observation)
    for a, b in zip(few.lower.parameters(), many.lower.parameters(), strict=True):
        assert torch.equal(a, b)
    noise = few.test.observation - few.test.truth * (few.test.observation != 0)
    assert not torch.isclose(noise[0], noise[1])[noise[0] != 0].any(), "each has its own"


def test_the_number_of_test_images_moves_nothing_else():
    data = {name: simulated(number=4, size=16, seed=i) for i, name in enumerate(("train", "test"))}
    few, many = (
        make_task(**data | {"test": data["test"][:n]}, seed=7, **DENOISING, **OPTIONS)
        for n in (1, 4)
    )
    assert torch.equal(few.train.observation, many.train.observation)
    assert torch.equal(few.test.observation, many.test[[0]].observation)
    batches = [[next(task.minibatches(2, after=i)).index for i in range(4)] for task in (few, many)]
    assert batches[0] == batches[1]


def test_a_folder_keeps_its_test_images_whatever_the_number_to_train_on(tmp_path):
    for i in range(9):
        np.save(tmp_path / f"{i}.npy", np.full((1, 16, 16), i / 10))
    found = np.stack([np.full((16, 16, 3), i / 10) for i in range(9)])
    np.save(tmp_path / "all.npy", found)
    options = {"source": str(tmp_path / "all.npy"), "size": 16, **DENOISING}
    tests, trains = (
        [
            dataset("Images", n_train=a, n_test=b, **options).get_data()[name].photographs
            for a, b in pairs
        ]
        for name, pairs in (("test", [(2, 3), (6, 3)]), ("train", [(3, 1), (3, 6)]))
    )
    assert tests[0] == tests[1] and trains[0] == trains[1]
    assert not set(tests[0]) & set(trains[0])


def test_random_weights_follow_the_seed_of_theta_alone(tmp_path):
    file = tmp_path / "layer.py"
    file.write_text(
        "import torch\n"
        "class Layer(torch.nn.Module):\n"
        "    def __init__(self, physics):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.rand(()))\n"
        "    def step(self, x, y):\n"
        "        return 0.5 * x + 0.4 * self.weight * y\n"
    )
    images = simulated(number=2, size=16, seed=0)

    def weight(seed: int, number: int = 2) -> float:
        options = {"lower": str(file), "probe_size": 1, "seed": seed}
        task = make_task(train=images[:number], test=images, **DENOISING, **options)
        return float(next(iter(task.lower.theta().values())))

    torch.manual_seed(1)
    assert weight(0) == weight(0, number=1) != weight(1)
