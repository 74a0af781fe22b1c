"""One run in two processes, by gloo: θ is that of one process."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from unittest import mock

import forked
import numpy as np
import pandas as pd
import pytest
import torch.distributed as dist
import yaml
from conftest import ROOT, SMALL_STUDY, gradient_methods, small_benchmark
from shared import CHEAP, known_to

from benchmark.__main__ import main
from benchmark.imaging.images import simulated
from benchmark.measure.failure import DivergedError
from benchmark.plugins.among import mean_among
from benchmark.plugins.task import make_task
from benchmark.running.course import PROCESSES

TASK = {
    "degradation": "inpainting(keep=0.5,sigma=0.05)",
    "lower": "wavelet_l1(wavelet='haar',levels=1,ridge=0.3)",
    "probe_size": 2,
    "seed": 3,
}
#: of images 0 … 5, three a step: now and then all are of one process
GIVEN = {"batch_size": 3, "learning_rate": 0.05}
#: the steps of those that are looked at for long; and of others, two times through the images
LONG = dict.fromkeys(("JFB", "Restarted-JFB", "DEQ", "HOAG", "Single-Loop"), 6)
SHORT = 4
#: relative to θ: SABA's mean is that of the images of a process, other libraries stop all images of
#: a batch at once
NOT_TO_ROUNDING = {"SABA": 1e-2}
NOT_TO_ROUNDING |= dict.fromkeys(("deepinv-DEQ", "deepinv-JFB"), 1e-5)
NOT_TO_ROUNDING |= dict.fromkeys(("torchdeq-IFT", "torchdeq-Phantom", "TorchOpt"), 1e-5)


TRYING = """
from benchmark.plugins.search_method import SearchMethod


class Solver(SearchMethod):
    name = "Trying"

    def propose(self, lower, tried):
        return {name: value.detach() + 0.1 for name, value in lower.theta().items()}
"""

#: writes down how many images each of its calls is of, in which process
WATCHED = """
import os
from pathlib import Path

from benchmark.plugins.bilevel_solver import StateMethod


class Solver(StateMethod):
    name = "Watched"

    def equilibrium(self, T, x0):
        with Path(os.environ["WATCHED"]).open("a") as seen:
            print(os.environ.get("RANK", "alone"), len(x0), file=seen)
        return T(T(T(x0)))
"""


@cache
def task():
    train, test = (simulated(number=n, size=8, seed=n) for n in (6, 1))
    return make_task(train=train, test=test, **TASK)


def trained(name, *, together=False):
    """θ, the number of the last step and the outcome: few layers where it is not for long."""
    method = gradient_methods()[name]
    solver = method.get_instance(
        **(known_to(method, CHEAP) if name not in LONG else {}),
        **GIVEN,
        steps=LONG.get(name, SHORT),
    )
    solver.set_objective(task().learning)
    solver.together = together
    *_, last = solver.course()
    theta = {key: value.detach().numpy() for key, value in solver.lower.theta().items()}
    return theta, last.number, solver.outcome


def in_two_processes(call, folder: Path):
    """What ``call(rank)`` returns in each of two processes of one group."""
    context = multiprocessing.get_context("fork")

    def member(rank, there):
        where = {"init_method": f"file://{folder}/store", "rank": rank, "world_size": 2}
        dist.init_process_group("gloo", timeout=timedelta(seconds=60), **where)
        there.send(call(rank))
        dist.destroy_process_group()

    pipes = [context.Pipe() for _ in range(2)]
    members = [
        context.Process(target=member, args=(rank, there)) for rank, (_, there) in enumerate(pipes)
    ]
    for process in members:
        process.start()
    found = [here.recv() if here.poll(200) else None for here, _ in pipes]
    for process in members:
        process.join(20)
        process.kill()
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each method has come to, in each of two processes."""

    def all_methods(rank):
        return {name: trained(name, together=True) for name in gradient_methods()}

    return in_two_processes(all_methods, tmp_path_factory.mktemp("group"))


def test_theta_is_that_of_one_process(shared, gradient_method):
    name = gradient_method.name
    alone, steps, outcome = trained(name)
    assert outcome.ok
    tolerance = NOT_TO_ROUNDING.get(name, 1e-12)
    for theta, there, of_two in (one[name] for one in shared):
        assert of_two.ok and there == steps
        for key, value in alone.items():
            np.testing.assert_allclose(theta[key], value, rtol=tolerance)
            assert np.array_equal(theta[key], shared[0][name][0][key])


def test_what_fails_in_one_process_ends_the_run_in_all(tmp_path):
    """And says in which, and why; what diverges there has diverged."""

    def failing(rank):
        found = []
        for error in (ValueError("no more"), DivergedError("too large")):
            method = gradient_methods()["JFB"]
            whole = method.hypergradient

            def broken(self, lower, batch, error=error, whole=whole):
                if rank == 1 and self.outer_step == 2:
                    raise error
                return whole(self, lower, batch)

            method.hypergradient = broken
            found.append(trained("JFB", together=True)[1:])
            method.hypergradient = whole
        return found

    for number, outcome in (one for found in in_two_processes(failing, tmp_path) for one in found):
        assert number == 2
        assert outcome.status == ("diverged" if "too large" in outcome.message else "error")
        assert re.search("in process 1 of 2: .*(no more|too large)", outcome.message)


def test_images_are_shared_by_their_numbers():
    """What is carried over of an image is where the image comes again."""
    assert task().train[[3, 1, 4]].index == (3, 1, 4)
    seen = []

    def estimate(images):
        seen.append(images.index)
        raise InterruptedError

    theta = list(task().lower.theta().values())
    for rank, expected in enumerate([(4,), (3, 1)]):
        group = {"get_rank": lambda k=rank: k, "get_world_size": lambda: 2}
        group |= {"all_reduce": lambda _: None, "all_gather_object": mock.Mock(side_effect=OSError)}
        with mock.patch.multiple(dist, **group), pytest.raises(OSError):
            mean_among(estimate, task().train[[3, 1, 4]], theta)
        assert seen.pop() == expected


def test_a_study_by_torchrun_has_the_rows_of_one_without(tmp_path, monkeypatch):
    """Its steps are shared, and a method that is none of those takes part in it."""
    solver = [
        {"Watched": {"steps": [4], "batch_size": [6], "evaluate_every": [2]}},
        {"Trying": {"steps": [1], "evaluate_every": [1]}},
    ]
    place = small_benchmark(tmp_path / "benchmark", solver=solver, trying=TRYING, watched=WATCHED)
    monkeypatch.setenv("WATCHED", str(tmp_path / "watched"))
    dataset = {"dataset": [{"Simulated": {"size": [8], "n_train": [6]}}]}
    (place / "small.yml").write_text(yaml.safe_dump(SMALL_STUDY | {"solver": solver} | dataset))
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    command = ["run", str(place / "small.yml"), "--benchmark", str(place), "--no-cache"]
    assert main([*command, "--output", "alone"]) == 0
    monkeypatch.delenv(PROCESSES, raising=False)
    forks = ["--start-method=fork", "--run-path", ROOT / "benchmark" / "__main__.py"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", *forks]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shared = [*torchrun, *command, "--output", "shared"]
    ended = forked.run_module(*shared, cwd=ROOT, environment=environment)
    assert ended.returncode == 0, ended.stderr
    alone, two = (
        pd.read_parquet(place / "outputs" / f"{name}.parquet").sort_values(
            ["solver_name", "objective_outer_step"], ignore_index=True
        )
        for name in ("alone", "shared")
    )
    assert len(two) == len(alone) == 5
    assert (two["objective_status"] == "ok").all()
    for name in ("solver_name", "objective_outer_step", "objective_ended"):
        assert two[name].tolist() == alone[name].tolist()
    for one, other in zip(alone["objective_learned"], two["objective_learned"], strict=True):
        (before,), (after,) = (json.loads(text).values() for text in (one, other))
        np.testing.assert_allclose(after, before, rtol=1e-5)
    lines = (tmp_path / "watched").read_text().splitlines()
    # of the probe and of the test set, which are of two images each, process 0 alone
    assert {line for line in lines if line[-1] != "2"} == {"alone 6", "0 3", "1 3"}
    assert set(two["objective_device_name"]) == {f"{alone['objective_device_name'][0]} × 2"}
