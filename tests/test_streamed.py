"""Sets of images that are in files and not in memory: the same numbers, in bounded memory."""

from __future__ import annotations

import gc
import os
import weakref
from math import inf
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from conftest import plugins
from PIL import Image

from benchmark.imaging import sources, stored
from benchmark.imaging.images import crops, digest, simulated
from benchmark.imaging.stored import Stored, gathered
from benchmark.measure.resident import rise_in_child
from benchmark.measure.truth import Truth
from benchmark.plugins import keyed
from benchmark.plugins.dataset import require_apart, require_range
from benchmark.plugins.task import make_task
from benchmark.problems import bilevel
from benchmark.problems.bilevel import StreamedBatch, images_digest
from benchmark.running.kept import forget, kept

OPTIONS = {
    "degradation": "inpainting(keep=0.5,sigma=0.05)",
    "lower": "wavelet_l1(wavelet='haar',levels=1,ridge=0.3)",
    "seed": 3,
}
N_TRAIN, N_TEST = 7, 5


@pytest.fixture(autouse=True)
def three_images_at_once(monkeypatch):
    monkeypatch.setattr(bilevel, "AT_ONCE", 3 * 3 * 8 * 8)


def in_two_ways(make, monkeypatch):
    """What ``make()`` gives where sets are in memory, and where they are in files."""
    monkeypatch.setenv(stored.LIMIT, "1")
    held = make()
    monkeypatch.setenv(stored.LIMIT, "0")
    return held, make()


def of_one_size():
    train, test = (simulated(number=n, size=8, seed=n) for n in (N_TRAIN, N_TEST))
    return make_task(train=train, test=test, probe_size=2, **OPTIONS)


@pytest.fixture
def photographs(tmp_path):
    """A folder of nine images, one a copy and one that cannot be read to its end."""
    folder, rng = tmp_path / "photographs", np.random.default_rng(0)
    folder.mkdir()
    for i in range(8):
        sides = (40, 24) if i % 3 else (30, 30)
        pixels = rng.integers(256, size=(*sides, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    (folder / "cut.png").write_bytes((folder / "4.png").read_bytes()[:900])
    return folder


def of_photographs(folder, size):
    def make():
        found = [sources.folder(folder)]
        numbers = {"n_train": 4, "n_test": 2} if size == "whole" else {"n_train": 12, "n_test": 9}
        with pytest.warns(UserWarning, match=r"skipped"):
            train, test = sources.drawn(found, size=size, seed=1, multiple_of=8, **numbers)
        require_range(train, "training")
        require_apart(train, test)
        return make_task(train=train, test=test, probe_size=2, **OPTIONS)

    return make


def same(held, read):
    """Every image with what was observed of it, and the names, to the last bit."""
    assert len(held) == len(read)
    assert held.photographs == read.photographs
    numbers = range(len(held))
    for chosen in (numbers[::-1], numbers[1:3], [len(held) - 1]):
        for a, b in zip(held[chosen].parts, read[chosen].parts, strict=True):
            assert torch.equal(a.truth, b.truth) and torch.equal(a.observation, b.observation)
            assert (a.index, a.operator, a.photographs) == (b.index, b.operator, b.photographs)


@pytest.mark.parametrize("size", [8, (10, 6), "whole"])
def test_images_are_the_same_wherever_they_are(size, photographs, monkeypatch):
    """Crops of which some photographs hold several, and whole images of two shapes."""
    held, read = in_two_ways(of_photographs(photographs, size), monkeypatch)
    for name in ("train", "test"):
        assert isinstance(getattr(read, name), StreamedBatch)
        same(getattr(held, name), getattr(read, name))
    same(held.probe, read.probe)
    assert images_digest(held.train, held.test) == images_digest(read.train, read.test)


def test_images_are_the_same_in_another_process_and_dtype(monkeypatch):
    held, read = in_two_ways(of_one_size, monkeypatch)
    there = cloudpickle.loads(cloudpickle.dumps(read.train))
    moved = {"device": torch.device("cpu"), "dtype": torch.float32}
    same(held.train.to(**moved), there.to(**moved))
    whole, one = (len(cloudpickle.dumps(part)) for part in (there, there.only([0])))
    assert whole - one < 200 * (N_TRAIN - 1), "of an image, where it lies is sent"


def test_a_set_is_in_memory_up_to_its_limit(monkeypatch):
    """In float64, of 1 MiB: five images of 64² in colour and 96 KiB each, of eleven all."""
    monkeypatch.setenv(stored.LIMIT, "1")
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    assert isinstance(gathered(pixels for _ in range(8)), list)
    assert isinstance(gathered(pixels for _ in range(9)), Stored)
    monkeypatch.setenv(stored.LIMIT, "much")
    with pytest.raises(ValueError, match=r"BENCHMARK_IN_MEMORY_MIB must be a number .* 'much'"):
        gathered([pixels])


def test_the_key_of_a_run_holds_one_image_at_a_time(monkeypatch):
    """And is another for other images."""
    monkeypatch.setenv(stored.LIMIT, "0")
    held, most, read = [0], [0], Stored.__getitem__

    def counted(self, i):
        image = read(self, i)
        held[0] += 1
        most[0] = max(most[0], held[0])
        weakref.finalize(image, lambda: held.__setitem__(0, held[0] - 1))
        return image

    monkeypatch.setattr(Stored, "__getitem__", counted)
    sets = [simulated(number=6, size=8, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (digest(*keyed._tensors(images)) for images in sets)
    assert first == again != other
    assert most[0] <= 2


def test_files_are_private_and_gone_with_the_images(monkeypatch):
    monkeypatch.setenv(stored.LIMIT, "0")
    images = gathered([np.full((2, 3, 1), 51, dtype=np.uint8)])
    folder = Path(images._path).parent
    assert folder.stat().st_mode & 0o77 == 0
    child = os.fork()
    if child == 0:
        del images
        gc.collect()
        os._exit(not folder.exists())
    assert os.waitpid(child, 0)[1] == 0, "a fork removed what is not its own"
    chosen = images.chosen([0, 0])
    del images
    gc.collect()
    assert chosen[1].tolist() == [[[0.2] * 3] * 2]
    del chosen
    gc.collect()
    assert not folder.exists()


def test_more_crops_are_drawn_where_an_image_has_fewer_than_its_share(monkeypatch):
    sizes = {"small": (8, 8), "large": (16, 40), "medium": (8, 16)}
    rng = np.random.default_rng(0)
    images = {name: rng.random((*size, 1)) for name, size in sizes.items()}
    held, read = in_two_ways(lambda: crops(images, number=9, size=8, seed=0), monkeypatch)
    order = ["small", "large", "medium", "large", "medium", *["large"] * 4]
    assert held.photographs == read.photographs == tuple(order)
    assert torch.equal(held.images, torch.stack(list(read.images)))


def rows(theta, method, training, **_):
    return {name: value.numpy() for name, value in theta.items()} | {"status": training.status}


def solver_of(name, task, *, steps=6, **parameters):
    solver = plugins()[name].get_instance(steps=steps, evaluate_every=2, **parameters)
    solver.set_objective(task, rows)
    return solver


def of_the_run(steps, *, rows=4):
    found = list(steps)
    assert found[-1].row["status"] == "ok"
    arrays = [
        [v.tobytes() for v in step.row.values() if not isinstance(v, str)]
        for step in found
        if step.row
    ]
    assert len(arrays) == rows
    return arrays


#: methods that carry something from step to step for each image, each in a way of its own
RUNS = {
    "JFB": {"warm_start": True},
    "HOAG": {},
    "MAID": {},
    "SABA": {},
    "Single-Loop": {},
    "TPE": {},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_mini_batches_has_the_same_bytes(name, tmp_path, monkeypatch):
    """Also one that is stopped, by then with states of all images, and goes on."""
    held, read = in_two_ways(of_one_size, monkeypatch)
    given = RUNS[name] | {"batch_size": 3}
    expected = of_the_run(kept(solver_of(name, held, **given), tmp_path / "held"))
    assert of_the_run(kept(solver_of(name, read, **given), tmp_path / "read")) == expected
    steps = kept(solver_of(name, read, **given), tmp_path / "stopped", share=inf)
    for _ in range(4):
        next(steps)
    del steps
    again = kept(solver_of(name, read, **given), tmp_path / "stopped")
    assert of_the_run(again) == expected


def test_what_is_carried_is_in_as_many_files_as_it_has_tensors(tmp_path, monkeypatch):
    """And in as many more as the last checkpoint names; they are gone with the run."""
    _, read = in_two_ways(of_one_size, monkeypatch)
    solver = solver_of("HOAG", read, batch_size=3)
    path = tmp_path / "run"
    for share in (1e-9, inf):
        numbers = [
            len(list(path.with_suffix(".carried").iterdir()))
            for _ in kept(solver, path, share=share)
        ]
        assert max(numbers) <= 2 * N_TRAIN * (2 if share == inf else 1)
        assert numbers[-1] >= 2 * 2 * 3
        forget(path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["JFB", "HOAG", "Grid-Search"])
def test_a_step_on_all_images_is_the_same_to_rounding(name, tmp_path, monkeypatch):
    """Three at a time: the mean of their gradients, or values, is that of all."""
    held, read = in_two_ways(of_one_size, monkeypatch)
    solvers = [solver_of(name, task, steps=2, tol=1e-11) for task in (held, read)]
    for k, solver in enumerate(solvers):
        of_the_run(kept(solver, tmp_path / str(k)), rows=2)
    for a, b in zip(*(solver.lower.theta().values() for solver in solvers), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("name", ["Unrolling", "HOAG"])
def test_a_step_in_chunks_is_the_same_to_rounding(name, where, tmp_path, monkeypatch):
    """Of five images two at a time, whose layers are all that is differentiated at once."""
    task = in_two_ways(of_one_size, monkeypatch)[where]
    found, sizes = [], []
    for chunk in (0, 2):
        tols = {"tol": 1e-11, "first_tol": 1e-11} if name == "HOAG" else {}
        solver = solver_of(name, task, steps=2, batch_size=5, chunk=chunk, **tols)
        seen, whole = [], type(solver).hypergradient

        def counted(self, lower, batch, seen=seen, whole=whole):
            seen.append(len(batch))
            return whole(self, lower, batch)

        with monkeypatch.context() as patched:
            patched.setattr(type(solver), "hypergradient", counted)
            of_the_run(kept(solver, tmp_path / str(chunk)), rows=2)
        found.append(solver.lower.theta().values())
        sizes.append(set(seen) - {len(task.probe)})
    assert sizes == [{5}, {1}]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_a_method_that_needs_all_states_says_so(monkeypatch):
    _, read = in_two_ways(of_one_size, monkeypatch)
    for size, fits in ((0, False), (N_TRAIN, False), (3, True)):
        solver = plugins()["MAID"].get_instance(batch_size=size)
        reason = solver.unfit(read.learning)
        assert fits == (reason is None)


@pytest.mark.parametrize("of_sizes", [False, True])
def test_theta_is_judged_alike(of_sizes, photographs, monkeypatch):
    make = of_photographs(photographs, "whole") if of_sizes else of_one_size
    held, read = in_two_ways(make, monkeypatch)
    truths = [Truth(task) for task in (held, read)]
    found = [vars(truth.accuracy(truth.start)) for truth in truths]
    # each part is solved until its own figures are settled
    tolerance = {"value": 3e-4, "test_ssim": 1e-4, "test_psnr": 1e-4, "test_psnr_images": 1e-3}
    for name, tol in tolerance.items():
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=tol)
    assert max(one["equilibrium_residual"] for one in found) <= 1e-5


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    """Of making the task, training with states carried over, and judging: in memory it does."""
    monkeypatch.setattr(bilevel, "AT_ONCE", 20 * 3 * 32 * 32)
    options = OPTIONS | {"degradation": "denoising", "lower": "tikhonov(wavelet='haar',levels=1)"}

    def rise(number, limit):
        def call():
            train, test = (simulated(number=number, size=32, seed=k) for k in (0, 1))
            task = make_task(train=train, test=test, probe_size=2, **options)
            solver = plugins()["HOAG"].get_instance(steps=number // 20, batch_size=20)
            solver.set_objective(task.to(**single).learning, rows)
            *_, last = solver.course()
            assert solver.outcome.ok and last.number == number // 20
            assert images_digest(task.train) and Truth(task).accuracy(task.lower.theta()).value > 0

        single = {"device": torch.device("cpu"), "dtype": torch.float32}
        monkeypatch.setenv(stored.LIMIT, limit)
        return rise_in_child(call, limit=100)

    size = 60 * 3 * 32 * 32 * 8 / 2**20
    few, many, held = rise(40, "0"), rise(100, "0"), rise(100, "1024")
    assert many - few < size / 2
    assert held - few > 3 * size
