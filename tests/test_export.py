"""A learned θ as deepinv's ``Reconstructor``: the same images, in deepinv's own functions."""

from __future__ import annotations

import json

import deepinv
import pytest
import torch
from conftest import small_task
from torch.utils.data import DataLoader, TensorDataset

from benchmark.imaging.images import simulated
from benchmark.measure.reference import true_equilibrium
from benchmark.problems.export import EquilibriumReconstructor

LOWER = "wavelet_l1(wavelet='db2',levels=2,ridge=0.1)"


@pytest.fixture(scope="module")
def learned():
    """A task, its θ moved, and that θ as a row's JSON has it."""
    task = small_task(lower=LOWER, degradation="inpainting(keep=0.5)")
    with torch.no_grad():
        for parameter in task.lower.theta().values():
            parameter.sub_(0.4)
    theta = {name: p.flatten().tolist() for name, p in task.lower.theta().items()}
    return task, json.loads(json.dumps(theta))


def test_it_reconstructs_as_the_lower_level_does(learned):
    task, theta = learned
    model = EquilibriumReconstructor(LOWER, theta, tol=1e-10)
    y = task.probe.observation
    exact = task.lower.reconstruct(true_equilibrium(task.lower, y, tol=1e-12).x)
    found = model(y, task.lower.physics)
    assert found.dtype == y.dtype and torch.allclose(found, exact, atol=1e-7)
    other = EquilibriumReconstructor(LOWER, {k: (torch.tensor(v) + 1) for k, v in theta.items()})
    assert not torch.allclose(other(y, task.lower.physics), exact, atol=1e-3)


def test_deepinv_tests_it_on_an_operator_of_its_own(learned):
    """In float32 and on images of another size; the operator stays in float32."""
    images = simulated(number=4, size=32, seed=3).float()
    physics = deepinv.physics.Inpainting((3, 32, 32), mask=0.6)
    physics.noise_model = deepinv.physics.GaussianNoise(0.02)
    batches = DataLoader(TensorDataset(images, physics(images)), batch_size=2)
    model = EquilibriumReconstructor(LOWER, learned[1])
    scores = deepinv.test(
        model,
        batches,
        physics,
        metrics=deepinv.metric.PSNR(),
        verbose=False,
        show_progress_bar=False,
    )
    assert scores["PSNR"] > scores["PSNR no learning"]
    assert physics.mask.dtype == torch.float32


@pytest.mark.parametrize("change", [{"more": 1.0}, {"log_weights": [0.0]}])
def test_a_theta_of_another_lower_level_is_refused(learned, change):
    task, theta = learned
    model = EquilibriumReconstructor(LOWER, theta | change)
    with pytest.raises(ValueError, match=r"theta has the entries .*, .* expects"):
        model(task.probe.observation, task.lower.physics)
