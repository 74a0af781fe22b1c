"""Learning rates by successive halving: on a quadratic whose every step is known, and on images."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import inf, log
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchopt.benchmark import Benchmark
from benchopt.utils.run_context import RunContext
from conftest import ROOT, small_task
from oracles import LayerProblem
from PIL import Image
from shared import dataset, method

sys.path.insert(0, str(ROOT / "tools"))
import learning_rates as tool

from benchmark.problems.bilevel import Batch
from benchmark.solve.search import ToTolerance


def quadratic(start: float):
    """x* = 2θ and F = mean (2θ − 1)², whose root a step of gradient descent shrinks by 1 − 4 rate.

    There is no equilibrium where θ is beyond 1000. The images that judge are those trained on.
    """
    theta = torch.full((2,), 0.5 + start / 2, dtype=torch.float64)

    def layer(theta, x, y):
        return 0.5 * x + torch.where(theta.abs() < 1000, theta, torch.nan) * y

    problem = LayerProblem(theta, layer)
    ones = torch.ones(1, 2, dtype=torch.float64)
    batch = Batch(ones, ones)
    task = small_task(lower="tikhonov(wavelet='haar',levels=1)", size=8)
    return replace(task, lower=problem, train=batch, test=batch, probe=batch)


@pytest.fixture
def rates(monkeypatch) -> list[tool.Rate]:
    """The best first, of five, on two tasks that differ in where they start."""
    monkeypatch.setattr(tool, "RUNGS", (1 / 8, 1 / 4, 1 / 2))
    monkeypatch.setattr(tool, "_SEARCH", ToTolerance("anderson", tol=1e-12, max_layers=100))
    solver = method("DEQ", steps=16, optimizer="gradient_descent", learning_rate=7.0)
    said = []
    grid = (0.01, 0.6, 0.1, 1e6, 0.05)
    found = tool.halved(solver, [quadratic(0.5), quadratic(0.2)], grid, said.append)
    assert len(said) == 3
    return found


def test_the_better_half_goes_on_and_what_diverges_is_dropped(rates):
    assert [rate.value for rate in rates] == [0.1, 0.05, 0.01, 0.6, 1e6]
    assert [len(rate.losses) for rate in rates] == [3, 3, 2, 1, 1]
    assert rates[-1].score == inf
    assert [method.outer_step for _, method, _ in rates[0].courses] == [8, 8]


def test_what_judges_is_the_mean_of_the_logarithms(rates):
    """After 2, 4 and 8 of 16 steps."""
    start = (log(0.5**2) + log(0.2**2)) / 2
    for rate in rates[:-1]:
        for losses, steps in zip(rate.losses, (2, 4, 8), strict=False):
            score = tool.Rate(rate.value, [], [losses]).score
            assert score == pytest.approx(
                start + 2 * steps * log(abs(1 - 4 * rate.value)), rel=1e-6
            )


def pictures(folder, number):
    folder.mkdir()
    for i in range(number):
        pixels = np.random.default_rng([ord(folder.name), i]).integers(
            256, size=(32, 32, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / f"{folder.name}{i}.png")
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    return {"train_path": pictures(tmp_path / "a", 7), "test_path": pictures(tmp_path / "b", 4)}


def plan_of(**parameters):
    """A study of one task, of which the tool asks no more."""
    objective = Benchmark(ROOT).get_benchmark_objective()
    objective = objective.get_instance(
        lower="wavelet_l1(wavelet='haar',levels=1)", dtype="float64", device="cpu"
    )
    data = dataset("Folder", size=8, degradation="denoising(sigma=0.1)", **parameters)
    return SimpleNamespace(
        objectives=SimpleNamespace(instances=[objective]),
        datasets=SimpleNamespace(instances=[data]),
        settings=SimpleNamespace(seed=0),
    )


def test_training_is_the_study_s_and_other_photographs_judge(folders, monkeypatch):
    monkeypatch.setattr(tool, "VALIDATION", 3)
    plan = plan_of(n_train=4, n_test=2, **folders)
    (task,) = tool.tasks(plan)
    (study,) = plan.datasets.instances
    own = type(study).get_instance(**study._parameters)
    RunContext().set_run_context("any", own, "any", repetition=0, base_seed=0)
    data = own.get_data()
    assert torch.equal(task.train.truth, data["train"].images)
    assert task.train.photographs == data["train"].photographs
    assert sorted({*task.train.photographs, *task.test.photographs}) == [
        f"a{i}.png" for i in range(7)
    ]
    assert len(task.test) == 3


def test_photographs_that_are_not_apart_are_refused(folders, monkeypatch):
    monkeypatch.setattr(tool, "VALIDATION", 3)
    with pytest.raises(SystemExit, match="2 photographs are trained on and judge"):
        next(tool.tasks(plan_of(n_train=6, n_test=2, **folders)))
    with pytest.raises(SystemExit, match="one source for both: a test image could judge"):
        next(tool.tasks(plan_of(n_train=2, n_test=1, path=folders["train_path"])))
    with pytest.raises(SystemExit, match="there is no folder"):
        next(tool.tasks(plan_of(path="nowhere")))
