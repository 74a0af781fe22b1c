"""A method with one fault between two good ones: its row says so, theirs are as without it.

In this process, where nothing protects one run from another but what is put back. Runs in processes
of their own, and what ends a process: ``tools/faults``.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import plugins, small_task
from torch.nn.modules.module import register_module_forward_hook

from benchmark.measure import cost
from benchmark.measure.surroundings import EVERYTHING, kept
from benchmark.measure.truth import Truth
from benchmark.options.columns import must_repeat
from benchmark.plugins import rows as rows_module
from benchmark.plugins.bilevel_solver import BilevelSolver, PairMethod, StateMethod
from benchmark.plugins.rows import Rows
from benchmark.plugins.search_method import SearchMethod
from benchmark.running.course import Course

LOWER = "wavelet_l1(wavelet='haar',levels=1,ridge=0.1)"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setenv("BENCHMARK_PROCESSES", "0")
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    # the meters of memory take a second each time
    monkeypatch.setattr(cost.memory, "live_memory", lambda call: float(call() is None))
    monkeypatch.setattr(cost.memory, "device_memory", lambda call, device: float(call() is None))
    # what is done there is done at a method's own θ before, under the same guards
    nowhere = rows_module.nowhere
    monkeypatch.setattr(rows_module, "at_common_theta", lambda *_, **__: nowhere())


@pytest.fixture(scope="module")
def task():
    return small_task(lower=LOWER, size=8).to(device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def truth():
    return Truth(small_task(lower=LOWER, size=8))


@pytest.fixture
def study(task, truth, tmp_path):
    """Rows of one run of a method class, two outer steps."""

    def run(cls, *, task=task, steps=2, **parameters):
        rows = Rows(truth, task)
        solver = cls.get_instance(steps=steps, evaluate_every=1, **parameters)
        solver.set_objective(task.learning, rows, Course(tmp_path, "one", truth))
        seen = []
        solver.run(lambda: seen.append(solver.get_result()["row"]) or True)
        return seen

    return run


class Faulty(StateMethod):
    """Two layers, after ``fault(self, T, x)`` has had its say; what it returns is returned."""

    name = "Faulty"
    parameters = {**StateMethod.parameters, "fault": [None]}

    def equilibrium(self, T, x0):
        x = T(x0.detach()).detach()
        found = self.fault(self, T, x)
        return T(x) if found is None else found


class Leaving(Faulty):
    """``fault`` between the layers, or where it returns a state, after them."""

    name = "Leaving"

    def equilibrium(self, T, x0):
        found = super().equilibrium(T, x0)
        return found if torch.is_tensor(found) else T(T(x0.detach()).detach())


def repeated(rows):
    """The columns of ``rows`` that must be the same each time."""
    plain = [{k: v.tolist() if hasattr(v, "tolist") else v for k, v in r.items()} for r in rows]
    return repr([[(k, v) for k, v in r.items() if must_repeat(f"objective_{k}")] for r in plain])


@pytest.fixture(scope="module")
def expected():
    return {}


def good(study, expected):
    """A good method's rows; the same each time, whatever was run before."""
    rows = study(plugins()["Unrolling"], steps=1, layers=2)
    assert {row["status"] for row in rows} == {"ok"} and rows[-1]["left_behind"] == ""
    assert repeated(rows) == expected.setdefault("rows", repeated(rows))


# --- what is left behind ------------------------------------------------------------------------


def hooks(*_):
    register_module_forward_hook(lambda _, i, o: o * 1.001 if torch.is_tensor(o) else o)


def inference(method, T, x):
    y = T(x)
    method.mode = torch.inference_mode()
    method.mode.__enter__()
    return y


def default_device(method, T, x):
    y = T(x)
    torch.set_default_device("meta")
    return y


def grad_off(method, T, x):
    y = T(x)
    torch.set_grad_enabled(False)
    return y


def handler(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def filters(*_):
    warnings.simplefilter("error")


def streams(*_):
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


LEFT = {
    "grad mode": grad_off,
    "inference mode": inference,
    "default dtype": lambda *_: torch.set_default_dtype(torch.float64),
    "default device": default_device,
    "number of threads": lambda *_: torch.set_num_threads(3),
    "hooks on all modules": hooks,
    "deterministic algorithms": lambda *_: torch.use_deterministic_algorithms(True),
    "flags of torch's backends": lambda *_: torch.set_float32_matmul_precision("medium"),
    "autocast": lambda m, T, x: (torch.set_autocast_enabled("cpu", True), T(x))[1],
    "anomaly detection": lambda *_: torch.autograd.set_detect_anomaly(True),
    "small numbers as zeros": lambda *_: torch.set_flush_denormal(True),
    "environment variables": lambda *_: os.environ.update(LEFT="1"),
    "working directory": lambda *_: os.chdir("/"),
    "filters of warnings": filters,
    "signal handlers": handler,
    "an alarm": lambda *_: signal.alarm(1000),
    "umask": lambda *_: os.umask(0o777),
    "recursion limit": lambda *_: sys.setrecursionlimit(5000),
    "sys.path": lambda *_: sys.path.insert(0, "/nowhere"),
    "standard streams": streams,
    "garbage collection": lambda *_: gc.disable(),
    "numpy's handling of errors": lambda *_: np.seterr(all="raise"),
}


@pytest.mark.parametrize("name", LEFT)
def test_whatever_a_process_has_one_of_is_put_back(name):
    before, changed = {setting.name: setting.get() for setting in EVERYTHING}, set()
    method = SimpleNamespace()
    with kept(EVERYTHING, changed):
        LEFT[name](method, lambda x: x, None)
    assert name in changed
    assert {setting.name: setting.get() for setting in EVERYTHING} == before


@pytest.mark.parametrize("name", ["grad mode", "inference mode", "hooks on all modules", "umask"])
def test_what_a_method_leaves_behind_is_put_back_and_said(name, study, expected):
    if not expected:
        good(study, expected)
    before = {setting.name: setting.get() for setting in EVERYTHING}
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist()
    rows = study(Leaving, steps=1, fault=LEFT[name])
    assert name in rows[-1]["left_behind"].split(", ")
    assert rows[-1]["status"] == "ok", rows[-1]["message"]
    assert {setting.name: setting.get() for setting in EVERYTHING} == before
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]
    good(study, expected)


def test_processes_that_are_left_are_killed_and_threads_are_named(study):
    started, stop = [], threading.Event()

    def leaves(*_):
        if not started:
            started.append(subprocess.Popen(["sleep", "1000"]))
            threading.Thread(target=stop.wait, name="left", daemon=True).start()

    last = study(Leaving, steps=1, fault=leaves)[-1]
    stop.set()
    assert last["left_behind"] == "a process, a thread (left)"
    assert started[0].wait(10) is not None


# --- what is not to be changed ------------------------------------------------------------------


def scaled(tensor):
    with torch.no_grad():
        tensor.mul_(0.5)


def theta(module):
    return next(p for p in module.parameters() if p.requires_grad)


def past_the_count(tensor):
    tensor.data.mul_(0.5)


CHANGED = {
    "a training image": (lambda m, T, x: scaled(m.task.train.truth), "images of the training set"),
    "the probe": (lambda m, T, x: scaled(m.task.probe.observation), "observations of the probe"),
    "unseen": (lambda m, T, x: past_the_count(m.task.train.truth), "images of the training set"),
    "θ": (lambda m, T, x: scaled(theta(T)), "θ (log_weights)"),
    "θ, unseen": (lambda m, T, x: past_the_count(theta(T)), "θ (log_weights)"),
    "θ in training": (
        lambda m, T, x: scaled(theta(m.lower)) if m.outer_step else None,
        "θ (log_weights)",
    ),
    "the start": (lambda m, T, x: scaled(m.task.lower.log_weights), "θ (log_weights)"),
    "an observation": (lambda m, T, x: scaled(T.y), "observations"),
    "an operator": (
        lambda m, T, x: scaled(next(b for n, b in T.named_buffers() if n != "y")),
        "the operator (",
    ),
    "the images that it is judged by": (
        lambda m, T, x: scaled(m.evaluate.task.test.truth),
        "the images of the test set",
    ),
    "test images": (lambda m, T, x: scaled(m.task.test.truth), "has no attribute 'test'"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_changed_in_place_is_an_error_that_names_it(name, study, expected, task):
    fault, message = CHANGED[name]
    own = replace(task, test=task.test[:])
    row = study(Leaving, task=own, steps=2 * ("training" in name), fault=fault)[-1]
    assert row["status"] == "error" and message in row["message"], row["message"]
    if name in ("a training image", "the start"):
        good(study, expected)


# --- what is returned ---------------------------------------------------------------------------

RETURNED = {
    "nothing": (lambda m, T, x: (), "equilibrium returned a tuple, expected a state"),
    "one of n": (lambda m, T, x: T(x)[:1], "equilibrium returned a tensor (1, 3, 8, 8)"),
    "a number": (lambda m, T, x: T(x).mean(), "equilibrium returned a tensor () in float32"),
    "float64": (lambda m, T, x: T(x).double(), "in float64 on cpu, expected a state like x⁰"),
    "another device": (lambda m, T, x: T(x).to("meta"), "on meta, expected"),
    "no graph": (lambda m, T, x: T(x).detach(), "a state without a graph"),
    "another graph": (
        lambda m, T, x: x.clone().requires_grad_() * 1.0,
        "whose graph does not reach θ",
    ),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_state_that_is_none_is_an_error_of_the_method(name, study):
    fault, message = RETURNED[name]
    (row,) = study(Faulty, steps=0, fault=fault)
    assert row["status"] == "error" and message in row["message"], row["message"]


class Estimating(BilevelSolver):
    """Hands back what ``fault`` makes of a right estimate."""

    name = "Estimating"
    parameters = {**BilevelSolver.parameters, "fault": [None]}

    def hypergradient(self, lower, batch):
        right = plugins()["Unrolling"].get_instance(layers=2).hypergradient(lower, batch)
        return self.fault(right)

    def deploy(self, lower, y):
        return lower.init(y)


ESTIMATES = {
    "nothing": (lambda found: None, "hypergradient returned None, expected a Hypergradient"),
    "a tuple": (lambda found: (found.loss, found.gradient), "expected a Hypergradient"),
    "a loss for each": (lambda f: replace(f, loss=f.loss.expand(2)), "its loss a tensor (2,)"),
    "no gradient": (lambda f: replace(f, gradient=()), "returned 0 gradients, expected 1"),
    "too many": (lambda f: replace(f, gradient=f.gradient * 2), "2 gradients, expected 1"),
    "None as one": (lambda f: replace(f, gradient=(None,)), "gradient of log_weights None"),
    "flat": (lambda f: replace(f, gradient=(f.gradient[0].sum(),)), "a tensor () in float32"),
    "float64": (lambda f: replace(f, gradient=(f.gradient[0].double(),)), "in float64"),
    "one state": (lambda f: replace(f, state=f.state[:1]), "as its state, returned a tensor (1,"),
    "NaN": (lambda f: replace(f, gradient=(f.gradient[0] * np.nan,)), "gradient is not finite"),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_an_estimate_that_is_none_is_an_error_of_the_method(name, study):
    fault, message = ESTIMATES[name]
    (row,) = study(Estimating, steps=0, fault=fault)
    assert row["status"] == ("diverged" if name == "NaN" else "error")
    assert message in row["message"] and "NoneType" not in row["message"], row["message"]


class Deploying(Estimating):
    """Reconstructs what ``fault`` makes of a state."""

    name = "Deploying"

    def hypergradient(self, lower, batch):
        return plugins()["Unrolling"].get_instance(layers=2).hypergradient(lower, batch)

    def deploy(self, lower, y):
        return self.fault(lower.init(y))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda x: None, "deploy returned None, expected a state"),
        (lambda x: x[:1], "deploy returned a tensor (1, 3, 8, 8)"),
        (lambda x: x.double(), "in float64"),
        (lambda x: x * np.nan, "not finite"),
    ],
)
def test_a_reconstruction_that_is_none_is_an_error_of_the_method(fault, message, study):
    (row,) = study(Deploying, steps=0, fault=fault)
    assert row["status"] in ("error", "diverged") and message in row["message"], row["message"]


class Pairing(PairMethod):
    """Pairs as ``fault`` says."""

    name = "Pairing"
    parameters = {**PairMethod.parameters, "fault": [None]}

    def pair(self, call):
        return self.fault()


class Proposing(SearchMethod):
    """Proposes as ``fault`` says."""

    name = "Proposing"
    parameters = {**SearchMethod.parameters, "fault": [None]}

    def propose(self, lower, tried):
        return self.fault(lower.theta())


@pytest.mark.parametrize(
    ("cls", "fault", "message"),
    [
        (Pairing, lambda: None, "pair returned None, expected a Pair"),
        (Pairing, lambda: sys.exit(3), "SystemExit: 3"),
        (Proposing, lambda theta: None, "propose returned None, expected a tensor for each"),
        (Proposing, lambda theta: {"x": 1}, "propose returned x, expected"),
        (Proposing, lambda theta: dict.fromkeys(theta, 1.0), "returned 1.0 for log_weights"),
        (Proposing, lambda theta: {n: p.sum() for n, p in theta.items()}, "returned () for"),
        (Proposing, lambda theta: {n: p * np.nan for n, p in theta.items()}, "not finite"),
    ],
)
def test_a_pair_or_a_proposal_that_is_none_is_an_error_of_the_method(cls, fault, message, study):
    row = study(cls, steps=1, fault=fault)[-1]
    assert row["status"] == "error" and message in row["message"], row["message"]
