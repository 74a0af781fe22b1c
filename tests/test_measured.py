"""Measured pairs: what was measured is used as it is, by the operator that comes with it."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
import torch
from conftest import LOWER_SPECS
from deepinv.physics import Blur, Denoising, Inpainting
from deepinv.physics.functional import gaussian_blur
from shared import dataset

from benchmark.imaging.images import simulated
from benchmark.imaging.measured import Measured, first_pairs, split_pairs
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.plugins.task import make_task

OPTIONS = {"lower": LOWER_SPECS[0], "probe_size": 2, "seed": 0, "degradation": None}


def blurred(number=4, size=16, seed=0, physics=None):
    physics = physics or Blur(filter=gaussian_blur(sigma=(1, 1)), padding="circular")
    truth = simulated(number=number, size=size, seed=seed)
    y = physics.A(truth.float()).double()
    return Measured(truth, y + 0.01 * torch.sin(1000 * y), physics)


def test_nothing_is_simulated():
    train, test = blurred(), blurred(seed=9)
    test = Measured(test.truth, test.observation, train.physics)
    task = make_task(train=train, test=test, **OPTIONS)
    for found, given in ((task.train, train), (task.test, test)):
        assert torch.equal(found.truth, given.truth)
        assert torch.equal(found.observation, given.observation)
    assert len(task.train.parts) == 1 and task.probe.index == (0, 1)
    columns = train.physics.A(torch.eye(768, dtype=torch.float64).view(768, 3, 16, 16)).flatten(1)
    exact = float(torch.linalg.matrix_norm(columns, 2)) ** 2
    assert task.lower.lipschitz == pytest.approx(exact, rel=1e-4)


def test_operators_and_sizes_of_several_pairs():
    mask = (torch.rand(1, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.4).double()
    masked = Inpainting(img_size=(3, 16, 24), mask=mask)
    train = [blurred(2), blurred(1, size=[16, 24], physics=masked)]
    test = [Measured(t.truth.flip(-1), t.observation.flip(-1), t.physics) for t in train[:1]]
    task = make_task(train=train, test=test, **OPTIONS | {"probe_size": 3})
    assert [part.operator for part in task.train.parts] == [0, 1]
    assert [part.operator for part in task.test.parts] == [0]
    y = task.train.parts[1].observation
    assert torch.equal(task.lower.at(1).init(y), masked.A_adjoint(y))
    assert reference_hypergradient(task.lower, task.probe).trusted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth": [1, 2]}, "truth is a list, expected a tensor"),
        ({"truth": torch.full((4, 3, 16, 16), 255.0)}, "values up to 255 .* at most 1: divide"),
        (
            {"truth": torch.zeros(3, 16, 16)},
            r"truth \(3, 16, 16\) and observation \(4, 3, 16, 16\)",
        ),
        (
            {"observation": torch.zeros(3, 3, 16, 16)},
            r"observation \(3, 3, 16, 16\): expected \(N,",
        ),
        (
            {"observation": torch.zeros(4, 3, 16, 15)},
            r"shape \(3, 16, 15\), expected \(3, 16, 16\)",
        ),
        (
            {"observation": torch.full((4, 3, 16, 16), torch.nan)},
            "observation holds values .* finite",
        ),
        ({"physics": "blur"}, "physics is a str, expected a function"),
        ({"physics": Inpainting(img_size=(3, 8, 8), mask=0.5)}, "physics: A or Aᵀ fails on images"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(change, said):
    good = vars(blurred())
    with pytest.raises(ValueError, match=said):
        make_task(train=Measured(**good | change), test=blurred(), **OPTIONS)


def test_pairs_and_degradations_exclude_each_other():
    with pytest.raises(ValueError, match="have an operator of their own: expected no degradation"):
        make_task(train=blurred(), test=blurred(), **OPTIONS | {"degradation": "denoising"})
    with pytest.raises(ValueError, match="degradation is None: expected one"):
        make_task(train=blurred().truth, test=blurred().truth, **OPTIONS)
    with pytest.raises(ValueError, match="the test set holds images alone, the other one measured"):
        make_task(train=blurred(), test=blurred().truth, **OPTIONS)
    blind = Measured(blurred().truth, blurred().observation * 0, Inpainting((3, 16, 16), mask=0.0))
    blind.physics.mask.zero_()
    with pytest.raises(ValueError, match="physics leaves nothing of an image: A maps it to zero"):
        make_task(train=blind, test=blind, **OPTIONS)


def values(parts):
    return sorted(float(x.sum()) for part in parts for x in part.truth)


def test_pairs_are_split_without_overlap():
    parts = [blurred(3), blurred(4, seed=7)]
    train, test = split_pairs(parts, n_train=4, n_test=3, seed=0)
    assert len(values(train)) == 4 and len(values(test)) == 3
    assert sorted(values(train) + values(test)) == values(parts)
    for part in (*train, *test):
        for truth, y in zip(part.truth, part.observation, strict=True):
            found = part.physics.A(truth[None].float())[0]
            assert (found - y).abs().max() < 0.02, "an image without its own measurement"
    assert values(split_pairs(parts, n_train=4, n_test=3, seed=1)[0]) != values(train)
    train, test = split_pairs(parts, n_train=30, n_test=10, seed=0)
    assert (len(values(train)), len(values(test))) == (5, 2)
    assert values(first_pairs(parts, 4)) == sorted(values(parts[:1]) + values([parts[1][[0]]]))
    with pytest.raises(ValueError, match="1 pair: expected two or more"):
        split_pairs([blurred(1)], n_train=1, n_test=1, seed=0)


FILE = """
import torch
from deepinv.physics import Denoising
from benchmark.imaging.images import simulated
from benchmark.imaging.measured import Measured

def mine(number=5, shift=0.1, seed=0):
    truth = simulated(number=number, size=16, seed=seed)
    return Measured(truth, truth + shift, Denoising())
"""


def test_the_measured_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    data = dataset("Measured", source="mine.py(shift=0.2)", n_train=3, n_test=2).get_data()
    task = make_task(**data, lower=LOWER_SPECS[0], probe_size=2)
    assert (len(task.train), len(task.test)) == (3, 2)
    noise = task.train.observation - task.train.truth
    assert noise.min() == pytest.approx(0.2) == noise.max()
    two = {"train_source": "mine.py", "test_source": "mine.py(number=2,seed=1)", "n_test": 9}
    data = dataset("Measured", **two).get_data()
    assert (len(data["train"][0]), len(data["test"][0])) == (4, 2)
    (reason,) = (
        dataset("Measured", **two | {"test_source": "mine.py(number=2)"}).get_data().values()
    )
    assert reason.startswith("Measured: test image 0 is training image 0: expected other images")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise OSError('no disk')", r"'bad.py', line 1: OSError: no disk"),
        (
            "def bad(): return 3",
            "'bad.py' returned int, expected a function that returns benchmark",
        ),
        ("def bad(): return []", "'bad.py' returned nothing, expected"),
        ("def bad(): 1 / 0", "'bad.py': ZeroDivisionError: division by zero"),
        (
            FILE.replace("truth + shift", "truth[..., 1:]"),
            r"'bad.py': observations of shape \(3, 16, 15\), expected \(3, 16, 16\)",
        ),
        (
            FILE.replace("return Measured", "return 2 * [Measured").replace("())\n", "(), 7)]\n"),
            r"'bad.py': TypeError: Measured.__init__\(\) takes 4",
        ),
        (
            "def one(): pass\ndef two(): pass",
            "'bad.py' defines one, two, none of which is named bad",
        ),
    ],
    ids=range(7),
)
def test_a_broken_file_is_a_reason_to_skip_that_names_it(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(dedent(text))
    (reason,) = dataset("Measured", source="bad.py").get_data().values()
    assert reason.startswith("Measured: measurement 'bad.py'")
    assert re.search(said, reason), reason


def test_a_faulty_plugin_is_named_with_its_file(monkeypatch):
    made = dataset("Simulated")
    monkeypatch.setattr(type(made), "images", lambda self, seed: {}["x"])
    (reason,) = made.get_data().values()
    assert re.fullmatch(r"Simulated \(.*datasets/simulated.py\): KeyError: 'x'", reason), reason


def test_denoising_by_hand():
    """With A = I and one image, Tikhonov's equilibrium is known: no noise was added to y."""
    truth = simulated(number=2, size=16, seed=0)
    task = make_task(
        train=Measured(truth, truth, Denoising()),
        test=Measured(truth, truth, Denoising()),
        **OPTIONS
        | {"lower": "tikhonov(wavelet='haar',levels=1,weight=1.0,penalise_approximation=True)"},
    )
    x = true_equilibrium(task.lower, task.train.observation, tol=1e-12).x
    torch.testing.assert_close(x, truth / 2, atol=1e-10, rtol=0)
