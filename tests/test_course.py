"""A run that was stopped goes on as if it had not been, and one that dies is a row."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from math import inf

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import plugins, small_task

from benchmark.measure.truth import Truth
from benchmark.plugins.bilevel_solver import StateMethod
from benchmark.plugins.rows import Rows
from benchmark.running import checkpoint, ending
from benchmark.running.course import PROCESSES, Course
from benchmark.running.kept import kept

LOWER = "wavelet_l1(wavelet='haar',levels=2,ridge=0.1)"
#: methods that carry something from step to step, each in a way of its own
RUNS = {
    "adam, mini-batches": ("JFB", {"batch_size": 1}),
    "warm states": ("DEQ", {"warm_start": True, "tol": 1e-6, "adjoint_tol": 1e-6}),
    "tolerances by call": ("HOAG", {}),
    "states of images": ("Single-Loop", {"batch_size": 1}),
    "directions by call": ("SPSA", {"directions": 2}),
    "trials": ("TPE", {}),
    "lines, schedule": (
        "JFB",
        {"optimizer": "LBFGS(max_iter=2)", "schedule": "StepLR(step_size=2)"},
    ),
    "averages": (
        "JFB",
        {"optimizer": "AdamW(amsgrad=True)", "schedule": "CosineAnnealingLR(T_max=5)"},
    ),
}


def solver_of(name, parameters, task=None):
    task = task or small_task(lower=LOWER, size=8)
    solver = plugins()[name].get_instance(steps=5, evaluate_every=2, **parameters)
    solver.set_objective(task, columns)
    return solver


def columns(theta, method, outer_step, training, training_layer_evals, last, **_):
    """What a row holds of the loop, and what the next estimate would be: no more is needed here."""
    row = {name: value.numpy() for name, value in theta.items()}
    if hasattr(method, "hypergradient_on_probe"):
        found = method.hypergradient_on_probe(method.lower, method.task.probe)
        row |= {"state": found.state.detach().numpy(), "loss": float(found.loss)}
    return row | {"layers": training_layer_evals, "status": training.status, "last": last}


def plain(step):
    row = step.row or {}
    arrays = {k: v.tobytes() for k, v in row.items() if isinstance(v, np.ndarray)}
    return repr((step.number, {**row, **arrays}))


STOPPED = [(case, 2) for case in RUNS] + [("adam, mini-batches", 1), ("trials", 4)]


@pytest.mark.parametrize(("case", "stopped"), STOPPED)
def test_a_stopped_run_has_the_bytes_of_one_that_was_not(case, stopped, tmp_path):
    whole = solver_of(*RUNS[case])
    expected = [plain(step) for step in kept(whole, tmp_path / "whole")]
    theta = {name: p.detach() for name, p in whole.lower.theta().items()}
    steps = kept(solver_of(*RUNS[case]), tmp_path / "stopped", share=inf)
    for _ in range(stopped + 1):
        next(steps)
    del steps
    torch.rand(7)  # whatever happens in between
    again = solver_of(*RUNS[case])
    assert [plain(step) for step in kept(again, tmp_path / "stopped")] == expected
    for name, parameter in again.lower.theta().items():
        assert torch.equal(parameter.detach(), theta[name])


def steps_on_disk(path):
    length = checkpoint.read(path)["length"]
    return [
        number
        for part in checkpoint.appended(path.with_suffix(".steps"), until=length)
        for number, *_ in part
    ]


def test_it_is_kept_as_often_as_the_share_of_time_allows_and_at_the_end(tmp_path):
    for share, number in ((1e-9, 0), (inf, 4)):
        path = tmp_path / f"{share}.safetensors"
        steps = kept(solver_of("JFB", {}), path, share=share)
        for _ in range(4):
            next(steps)
        assert len(steps_on_disk(path)) == number
        steps.close()
        assert steps_on_disk(path) == [0, 1, 2, 3]


def test_a_row_that_failed_is_made_again_and_what_comes_before_it_is_not(tmp_path):
    """Its evaluation failed for a reason that may be gone: a full disk, a device in use."""
    path, seen = tmp_path / "run.safetensors", []

    def amiss(outer_step, **_):
        seen.append(outer_step)
        return {"status": "error" if outer_step == 2 and seen.count(2) == 1 else "ok"}

    def rows():
        solver = solver_of("JFB", {})
        solver.set_objective(solver.task, amiss)
        steps = kept(solver, path, share=inf)
        return [(step.number, step.row["status"]) for step in steps if step.row is not None]

    assert ("error" in dict(rows()).values()) and dict(rows()) == dict.fromkeys((0, 2, 4, 5), "ok")
    assert seen == [0, 2, 4, 5, 2, 4, 5]


class Dying(StateMethod):
    """Dies, as ``how`` says, in the evaluation after the second outer step."""

    name = "Dying"
    parameters = {**StateMethod.parameters, "how": [None]}

    def equilibrium(self, T, x0):
        if getattr(self, "outer_step", 0) == 2:
            self.how()
        return T(T(x0.detach()).detach())


def hang():
    time.sleep(600)


@pytest.mark.parametrize(
    ("how", "status", "message", "limit"),
    [
        (lambda: os._exit(0), "error", "ended by itself, with exit code 0", None),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "error", "was killed by SIGSEGV", None),
        (hang, "timeout", "took longer than 5 s", 5.0),
    ],
    ids=["exit", "segfault", "hang"],
)
def test_a_run_that_dies_is_a_row_after_those_it_had(
    how, status, message, limit, tmp_path, monkeypatch
):
    monkeypatch.delenv(PROCESSES, raising=False)
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    monkeypatch.setattr("benchmark.running.course.GRACE", (0.0, 0.0))
    rows, seen = course_of(how, limit, tmp_path)
    assert {row["status"] for row in seen[:-1]} <= {"ok"} and seen[-1]["status"] == status
    # a slow machine may not come so far within the limit
    assert [row["outer_step"] for row in seen] == [0, 1, 1] or limit
    assert message in seen[-1]["message"] and np.isnan(seen[-1]["value"])
    assert seen[-1]["ended"] == ("time limit" if limit else "error")
    assert rows.truth.known() or limit  # what the process found out is known here


def speak():
    raise ValueError("no UTF-8: \udc80 " + "and so on " * 10**5)


@pytest.mark.parametrize("processes", ["0", "1"])
def test_whatever_a_method_raises_can_be_written(processes, tmp_path, monkeypatch):
    monkeypatch.setenv(PROCESSES, processes)
    _, seen = course_of(speak, None, tmp_path / "kept")
    pd.DataFrame(seen[-1:])[["status", "message"]].to_parquet(tmp_path / "rows.parquet")
    assert seen[-1]["message"].startswith("ValueError: no UTF-8: ? and so on")
    assert len(seen[-1]["message"]) < 5000


@pytest.mark.parametrize(
    ("how", "stays"),
    [(partial(os._exit, 1), False), (partial(signal.raise_signal, signal.SIGTERM), True)],
    ids=["exit", "interrupted"],
)
def test_a_run_that_died_is_taken_up_and_one_that_dies_there_again_starts_anew(
    how, stays, tmp_path, monkeypatch
):
    """One that was asked to end, any number of times, does not."""
    monkeypatch.delenv(PROCESSES, raising=False)
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    monkeypatch.setattr(ending, "_done", [])
    for kept_before, kept_after in ((False, True), (True, stays)):
        assert bool(list(tmp_path.glob("*.safetensors"))) == kept_before
        _, seen = course_of(how, None, tmp_path)
        assert [row["outer_step"] for row in seen] == [0, 1, 1]
        ending.release()  # as the next run does, when the cache has what there was
        assert bool(list(tmp_path.iterdir())) == kept_after


def course_of(how, limit, folder):
    """The ``Rows`` and the rows of a run of ``Dying`` in a process of its own."""
    task = small_task(lower=LOWER, size=8)
    rows = Rows(Truth(task), task)
    solver = Dying.get_instance(steps=5, evaluate_every=1, how=how)
    solver.set_objective(task, rows, Course(folder, "one", rows.truth))
    seen = []

    def callback():
        seen.append(solver.get_result()["row"])
        return True

    callback.stopping_criterion = type("Limit", (), {"timeout": limit})
    solver.run(callback)
    return rows, seen
