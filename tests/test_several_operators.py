"""Images of several sizes in one set, and measured pairs of several operators: one θ for all."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import LOWER_SPECS, gradient_methods

from benchmark.imaging.images import Cut, simulated
from benchmark.imaging.metrics import psnr
from benchmark.measure import evaluation
from benchmark.measure.counting import CountedProblem
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.measure.truth import Truth
from benchmark.plugins.task import make_task
from benchmark.problems.bilevel import MixedBatch, upper_loss
from benchmark.problems.lower_level import set_theta, with_operators

SIZES = ([16, 24], [16, 16], [16, 24])
OPTIONS = {"degradation": "denoising(sigma=0.1)", "lower": LOWER_SPECS[2], "seed": 0}


def images(*sizes, seed=0):
    return [simulated(number=1, size=size, seed=seed + i)[0] for i, size in enumerate(sizes)]


def mixed_task(**options):
    options = OPTIONS | {"probe_size": 3} | options
    return make_task(train=images(*SIZES), test=images(*SIZES[:2], seed=9), **options)


@pytest.fixture(scope="module")
def task():
    return mixed_task()


def test_images_of_one_size_are_one_batch():
    three = simulated(number=3, size=16, seed=0)
    listed, stacked = (
        make_task(train=train, test=train, probe_size=2, **OPTIONS)
        for train in (list(three), three)
    )
    for a, b in ((listed.train, stacked.train), (listed.test, stacked.test)):
        assert torch.equal(a.truth, b.truth) and torch.equal(a.observation, b.observation)


def test_images_keep_the_names_of_their_photographs(task):
    """By the order of the columns per image, which is that of the sizes."""
    names = ("a.png", "b.png", "a.png")
    named = make_task(
        train=Cut(images(*SIZES), names), test=Cut(images(*SIZES), names), probe_size=3, **OPTIONS
    )
    assert named.test.photographs == named.probe.photographs == ("a.png", "a.png", "b.png")
    assert named.test[[1, 2]].photographs == ("a.png", "b.png")
    moved = named.to(device=torch.device("cpu"), dtype=torch.float32)
    assert moved.test.parts[1].photographs == ("b.png",)
    assert task.test.photographs is None


def test_each_size_has_an_operator_and_noise_of_its_own(task):
    assert [tuple(part.truth.shape) for part in task.train.parts] == [
        (2, 3, 16, 24),
        (1, 3, 16, 16),
    ]
    assert [part.index for part in task.train.parts] == [(0, 1), (2,)]
    assert [part.operator for part in task.test.parts] == [0, 1]
    noise = [part.observation - part.truth for part in (*task.train.parts, *task.test.parts)]
    for i, a in enumerate(noise):
        assert 0.07 < a.std() < 0.13
        for b in noise[:i]:
            assert not torch.isclose(a.flatten()[:5], b.flatten()[:5]).any()


def test_theta_is_one_through_copies_and_casts(task):
    assert task.lower.theta().keys() == task.lower.at(1).theta().keys()
    counted = CountedProblem(task.lower)
    for lower in (
        task.lower,
        copy.deepcopy(task.lower),
        task.lower.copied(torch.float32),
        task.to(device=torch.device("cpu"), dtype=torch.float32).lower,
        counted.lower,
    ):
        moved = {name: p + 1 for name, p in lower.theta().items()}
        set_theta(lower, moved)
        for name, p in lower.at(1).theta().items():
            assert torch.equal(p, moved[name])
        set_theta(lower, {name: p - 1 for name, p in lower.theta().items()})
        part = task.train.parts[1].to(dtype=next(iter(moved.values())).dtype)
        assert lower.at(1).init(part.observation).shape == (1, 3, 16, 16)
    counted.at(1).step(part.truth.double(), part.observation.double())
    assert counted.layer_evals == 1


def loss(task, theta):
    """F on the training images: the mean of the losses of tasks of one image each."""
    values = []
    for part in task.train.parts:
        lower = copy.deepcopy(task.lower.at(part.operator))
        set_theta(lower, theta)
        for i in range(len(part)):
            one = part[[i]]
            x = true_equilibrium(lower, one.observation, tol=1e-12).x
            values.append(float(upper_loss(lower, x, one).detach()))
    return float(np.mean(values))


def test_reference_is_the_slope_of_the_mean_over_images(task):
    reference = reference_hypergradient(task.lower, task.probe)
    assert reference.trusted and reference.error < 1e-6
    theta = {name: p.detach() for name, p in task.lower.theta().items()}
    generator = torch.Generator().manual_seed(0)
    direction = {
        n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in theta.items()
    }
    h = 1e-4
    values = [loss(task, {n: p + s * h * direction[n] for n, p in theta.items()}) for s in (1, -1)]
    slope = float(reference.gradient @ torch.cat([d.flatten() for d in direction.values()]))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-5)


@pytest.fixture(scope="module")
def truth():
    """Of the task on which all methods take their steps: what is true at the start, once."""
    return Truth(mixed_task())


@pytest.mark.parametrize("name", sorted(gradient_methods()))
def test_every_method_trains_on_several_sizes(name, truth):
    """Two steps of each, batches of images of several sizes; a row, of some with every column."""
    exact = truth.task
    cls = gradient_methods()[name]
    options = {"steps": 2, "batch_size": 2, "evaluate_every": 2, "warm_start": True}
    method = cls.get_instance(**{k: v for k, v in options.items() if k in cls.parameters})
    method.set_objective(exact)
    method.run(lambda: True)
    result = method.get_result()
    # what a cost is measured of is the same whatever the method
    known = {"training": result["training"], "last": name in ("DEQ", "Unrolling")}
    last = evaluation.evaluate(method, result["theta"], truth=truth, task=exact, **known)
    assert last["status"] == "ok", last["message"]
    assert result["outer_step"] == 2 and result["last"]
    assert last["value"] < truth.accuracy(truth.start).value
    assert last["gradient_error"] < 0.9
    assert last["state_residual"] < 1
    assert last["layer_evals"] > 0
    assert len(last["test_psnr_images"]) == 2
    assert last["test_psnr"] == pytest.approx(last["test_psnr_images"].mean())
    if known["last"]:
        assert last["gradient_seconds"] > 0 and last["overhead"] > 0
        assert last["reconstruction"].shape == (16, 24, 3)


def test_columns_are_means_over_images(task):
    theta = {name: p.detach() for name, p in task.lower.theta().items()}
    found = Truth(task).accuracy(theta)
    assert found.value == pytest.approx(loss(task, theta), rel=1e-9)
    each = []
    for part in task.test.parts:
        lower = task.lower.at(part.operator)
        x = true_equilibrium(lower, part.observation, tol=1e-10).x
        each.append(psnr(lower.reconstruct(x), part.truth))
    assert found.test_psnr_images.tolist() == pytest.approx(each, abs=1e-4)
    assert found.test_psnr == pytest.approx(np.mean(each), abs=1e-4)


def test_minibatches_of_several_sizes(task):
    batches = task.minibatches(2)
    seen = [next(batches) for _ in range(6)]
    assert all(len(batch) == 2 for batch in seen)
    assert {type(batch) for batch in seen} >= {MixedBatch}
    for batch in seen:
        for part in batch.parts:
            whole = task.train.parts[part.operator]
            for i, truth in zip(part.index, part.truth, strict=True):
                assert torch.equal(truth, whole.truth[whole.index.index(i)])


def test_what_does_not_fit_is_said(task):
    with pytest.raises(ValueError, match=r"images of \[1, 3\] channels in one task"):
        listed = images([16, 16], [16, 24])
        make_task(train=[listed[0], listed[1][:1]], test=listed, probe_size=1, **OPTIONS)
    with pytest.raises(ValueError, match="an image of 16×15 pixels cannot be decomposed"):
        make_task(train=images([16, 15]), test=images([16, 16]), probe_size=1, **OPTIONS)
    with pytest.raises(
        ValueError, match=r"the test set must hold at least one image as \(C, H, W\)"
    ):
        make_task(train=images([16, 16]), test=[], probe_size=1, **OPTIONS)
    with pytest.raises(ValueError, match="at most the number of training images, 3, got 4"):
        mixed_task(probe_size=4)
    other = mixed_task(lower="wavelet_l1(wavelet='haar',levels=1)").lower
    with pytest.raises(
        ValueError, match=r"θ is .*log_weights.* and .* of another: expected the same"
    ):
        with_operators([copy.deepcopy(task.lower), other])
