"""Methods at the same θ: whatever θ they have come to, and whatever they have carried along."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from math import isnan

import numpy as np
import pytest
import torch
from conftest import small_task
from oracles import LayerProblem
from shared import method

from benchmark.imaging.images import simulated
from benchmark.measure import common, exact_descent, kept, memory, reference, timing
from benchmark.measure import truth as truths
from benchmark.measure.common import BEFORE, at_common_theta
from benchmark.measure.failure import DivergedError, Outcome
from benchmark.measure.jacobian import jacobian_norm
from benchmark.measure.reference import reference_hypergradient, true_equilibrium
from benchmark.measure.truth import Truth, at_theta
from benchmark.options.columns import PLACES
from benchmark.plugins.carried import Carried
from benchmark.plugins.rows import Rows
from benchmark.plugins.task import make_task

#: a quadratic lower level: an equilibrium takes few layers
SPEC = "tikhonov(wavelet='db2',levels=2)"
INPAINTING = "inpainting(keep=0.5)"


@pytest.fixture(scope="module")
def task():
    return small_task(lower=SPEC, degradation=INPAINTING)


@pytest.fixture(scope="module")
def truth(task):
    return Truth(task)


@pytest.fixture
def untimed(monkeypatch):
    """No call is run for its time or its memory."""
    monkeypatch.setattr(timing, "elapsed", lambda call, device: 1e9)
    monkeypatch.setattr(memory, "live_memory", lambda call: 0.0)


def columns(row, place):
    names = ("gradient_error", "gradient_cosine", "layer_evals", "vjp_evals")
    return [row[f"{name}_{place}"] for name in names]


# --- θ that exact gradients reach ---------------------------------------------------------------


def test_exact_gradients_go_down_until_the_gradient_is_a_tenth(task, truth):
    theta = exact_descent.reached_by_exact_gradients(task)
    again = exact_descent.reached_by_exact_gradients(task)
    assert all(torch.equal(theta[name], again[name]) for name in theta)
    start, end = truth.accuracy(truth.start).value, truth.accuracy(theta).value
    assert end < 0.8 * start
    moved = at_theta(task.lower, theta)
    first, last = (reference_hypergradient(at, task.train).gradient for at in (task.lower, moved))
    assert last.norm() <= 0.11 * first.norm()


def test_exact_gradients_go_back_where_there_are_none(task):
    """F = mean (θ/(1 − θ/2) − 100)² falls up to θ = 1.96, and the first step goes to 2, where there
    is no equilibrium; of x + θ there is none at all.
    """
    there = replace(task.train, truth=torch.full_like(task.train.truth, 100.0))

    def of(layer):
        return replace(task, lower=LayerProblem(torch.ones(()).double(), layer), train=there)

    halving = of(lambda theta, x, y: theta / 2 * x + theta)
    assert 1.0 < exact_descent.reached_by_exact_gradients(halving)["weight"] < 2.0
    with pytest.raises(DivergedError, match="none at the start"):
        exact_descent.reached_by_exact_gradients(of(lambda theta, x, y: x + theta))


def test_it_is_computed_once_for_a_task_and_kept_on_disk(task, tmp_path, monkeypatch):
    one, other = Truth(task), Truth(task)
    one.kept_in = other.kept_in = tmp_path / "there" / "theta.safetensors"
    first = one.reached()

    def not_again(task):
        raise AssertionError("computed again")

    monkeypatch.setattr(exact_descent, "reached_by_exact_gradients", not_again)
    for found in (one.reached(), other.reached()):
        assert all(torch.equal(found[name], first[name]) for name in first)
    taught = Truth(task)
    taught.learn(one.taught(one.known()))
    assert all(torch.equal(taught.reached()[name], first[name]) for name in first)
    other.kept_in.write_bytes(b"no such file")
    broken = Truth(task)
    broken.kept_in = other.kept_in
    with pytest.raises(AssertionError, match="computed again"):
        broken.reached()


# --- methods there ------------------------------------------------------------------------------


def test_columns_do_not_depend_on_the_theta_that_a_method_has_come_to(task, truth, untimed):
    """At its own θ, ``gradient_error`` of the same method is another number."""
    rows = Rows(truth, task)
    start = {name: value.clone() for name, value in truth.start.items()}
    far = {name: value + 1.0 for name, value in start.items()}
    options = {"outer_step": 3, "training": Outcome(), "last": True}
    options |= {"training_layer_evals": 0, "training_vjp_evals": 0}
    here, there = (rows(theta, method("Unrolling", layers=5), **options) for theta in (start, far))
    assert there["gradient_error"] != pytest.approx(here["gradient_error"], rel=0.01)
    for place in PLACES:
        assert columns(there, place) == columns(here, place)
    assert columns(here, "start") == [
        here[name] for name in ("gradient_error", "gradient_cosine", "layer_evals", "vjp_evals")
    ]
    before_the_end = rows(start, method("Unrolling"), **options | {"last": False})
    assert before_the_end.keys() == there.keys()
    assert all(isnan(value) for place in PLACES for value in columns(before_the_end, place))


def test_an_exact_method_is_exact_at_both(task, truth, untimed):
    row = at_common_theta(method("DEQ", tol=1e-12, adjoint_tol=1e-12), truth=truth, task=task)
    assert row["common_message"] == ""
    for place in PLACES:
        assert row[f"gradient_error_{place}"] < 1e-6
    assert row["gradient_norm_reached"] < row["gradient_norm_start"]
    exact = truth.reference(truth.start).gradient.norm()
    assert row["gradient_norm_start"] == pytest.approx(float(exact))


def test_warm_is_less_work_and_cold_carries_nothing(task, truth, untimed):
    """Whatever the method has carried along so far, which is left as it was."""
    fresh, trained = method("HOAG"), method("HOAG")
    trained.mean_hypergradient(task.lower, task.probe)
    carried = trained.carried
    one, two = (at_common_theta(m, truth=truth, task=task) for m in (fresh, trained))
    assert trained.carried is carried
    for place in PLACES:
        assert columns(one, place) == columns(two, place)
    work = [one[f"layer_evals_{p}"] + one[f"vjp_evals_{p}"] for p in PLACES]
    assert work[2] < 0.8 * work[1]
    assert columns(one, "reached_warm") != columns(one, "reached")
    nothing = at_common_theta(method("Unrolling"), truth=truth, task=task)
    assert columns(nothing, "reached_warm") == columns(nothing, "reached")


class Telling:
    """Notes the θ that it is asked at, and what it carries there."""

    def __init__(self):
        self.inner, self.carried, self.seen = method("Unrolling", layers=1), [], []

    def deployed(self, lower, y):
        raise AssertionError("not asked here")

    def theta(self, lower):
        return torch.cat(
            [p.detach().flatten() for p in getattr(lower, "lower", lower).theta().values()]
        )

    def hypergradient_on_probe(self, lower, batch):
        self.seen.append((self.theta(lower), len(self.carried)))
        return self.inner.hypergradient_on_probe(lower, batch)

    @contextmanager
    def carrying(self, before, batch):
        self.carried = [self.theta(lower) for lower in before]
        yield bool(self.carried)


def test_the_way_to_theta_halves_what_is_left_of_it(task, truth, untimed):
    telling = Telling()
    at_common_theta(telling, truth=truth, task=task)
    start, reached = (
        torch.cat([v.flatten() for v in theta.values()]) for theta in (truth.start, truth.reached())
    )
    places = [(start, 0), (reached, 0), (reached, BEFORE)]
    for (theta, carried), (expected, number) in zip(telling.seen, places, strict=True):
        assert torch.equal(theta, expected)
        assert carried == number
    left = [float((theta - reached).norm() / (start - reached).norm()) for theta in telling.carried]
    assert left == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32])


def test_a_method_that_fails_there_says_so_and_no_more(task, truth, untimed, monkeypatch):
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)
    broken = method("Unrolling")

    def fails(lower, batch):
        raise RuntimeError("not here")

    monkeypatch.setattr(broken, "hypergradient_on_probe", fails)
    row = at_common_theta(broken, truth=truth, task=task)
    assert row["common_message"].startswith("RuntimeError: not here")
    assert isnan(row["gradient_error_start"]) and isnan(row["gradient_error_reached"])
    search = at_common_theta(method("Grid-Search"), truth=truth, task=task)
    assert search.keys() == row.keys() == common.nowhere().keys()
    assert search["common_message"] == ""


# --- what is known of θ -------------------------------------------------------------------------


def test_what_is_kept_of_theta_is_bounded_and_holds_the_start():
    of_large, calls = kept.Kept(kept.MOST_NUMBERS // 3), []
    for key in (b"start", b"a", b"b", b"start", b"c", b"b", b"start", b"a"):
        of_large.once(key, lambda key=key: calls.append(key))
    assert calls == [b"start", b"a", b"b", b"c", b"a"]
    assert list(of_large) == [b"start", b"b", b"a"]
    of_small = kept.Kept(1)
    for number in range(2 * kept.MOST_KEPT):
        of_small.put(str(number).encode(), number)
    assert len(list(of_small)) == kept.MOST_KEPT


def test_no_theta_is_kept_as_such(task, truth):
    """A key has 32 bytes, whatever θ; other shapes or names are other keys."""
    truth.accuracy(truth.start)
    assert {len(key) for _, key in truth.known()} <= {0, 32}
    one, two = torch.zeros(2, 3), torch.zeros(3, 2)
    assert kept.digest_of({"a": one}) != kept.digest_of({"a": two}) != kept.digest_of({"b": two})
    assert kept.digest_of({"a": one}) == kept.digest_of({"a": one.double()})


def test_equilibria_are_solved_in_chunks(monkeypatch):
    """Of states of 300 numbers, no more than 700 numbers at a time."""
    y, batches = torch.linspace(0, 0.9, 1500, dtype=torch.float64).view(5, 300), []

    def layer(theta, x, y):
        batches.append(len(x))
        return y * x + theta

    monkeypatch.setattr(reference, "_AT_ONCE", 700)
    found = true_equilibrium(LayerProblem(torch.ones(()).double(), layer), y, tol=1e-10)
    assert torch.allclose(found.x, 1 / (1 - y))
    assert max(batches) == 2


def test_residuals_may_be_judged_in_float32(task):
    """As exact in float64, without a layer there; the rate and ‖J‖ are the same to its rounding.
    What float32 cannot tell, and a layer that has none, is judged in float64.
    """
    y, dtypes = task.probe.observation.double(), []

    def layer(theta, x, y):
        dtypes.append(x.dtype)
        return theta * (0.9 * x).tanh() + y

    lower = LayerProblem(torch.full((), 0.9).double(), layer)
    how = {"tol": 1e-5, "judged_in": torch.float32}
    found = true_equilibrium(lower, y, **how)
    assert set(dtypes) == {torch.float32}
    of_each = (lower.step(found.x, y) - found.x).flatten(1).norm(dim=1)
    assert (of_each <= 2e-5 * found.x.flatten(1).norm(dim=1)).all()
    assert (found.residuals <= 1e-5).all()
    dtypes.clear()
    on = true_equilibrium(lower, y, x0=found.x, first=found.first, **how | {"tol": 1e-7})
    assert torch.float64 in dtypes and (on.residuals <= 1e-7).all()
    probe = task.probe.to(dtype=torch.float64)
    single, double = (
        (
            reference_hypergradient(lower, probe, judged_in=dtype).contraction,
            jacobian_norm(lower, probe, judged_in=dtype),
        )
        for dtype in (torch.float32, torch.float64)
    )
    assert single != double
    assert single == pytest.approx(double, rel=1e-4)
    held = torch.ones((), dtype=torch.float64)
    own = LayerProblem(torch.ones(()).double(), lambda theta, x, y: 0.5 * x @ held.expand(1, 1) + y)
    y = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    assert torch.allclose(true_equilibrium(own, y, **how).x, 2 * y)


def test_a_black_image_has_an_equilibrium():
    """Without noise the layer is 0 there: 0/0 was no number, and every run was diverged."""
    black = simulated(number=2, size=16, seed=0)
    black[0] = 0
    options = {"lower": SPEC, "degradation": "denoising(sigma=0)", "probe_size": 2, "seed": 0}
    task = make_task(train=black, test=black, **options)
    found = Truth(task).accuracy(Truth(task).start)
    assert found.equilibrium_residual <= truths.FIRST_TOL
    assert np.isfinite(found.value)


def test_a_residual_that_is_no_number_is_not_hidden(task, monkeypatch):
    """Python's max(1e-9, nan) is 1e-9."""
    found = iter([1e-9, np.nan])
    monkeypatch.setattr(
        truths,
        "true_equilibrium",
        lambda lower, y, **options: reference.TrueEquilibrium(
            lower.init(y), torch.tensor(next(found)), torch.ones(len(y))
        ),
    )
    with pytest.raises(DivergedError, match="no equilibrium within reach"):
        Truth(task).accuracy(Truth(task).start)


# --- while it trains ----------------------------------------------------------------------------


def test_a_row_holds_the_worst_residuals_of_training(task, truth, untimed):
    """Not those of the last step, nor of the probe; of a run that goes on those before it too."""
    solver = method("DEQ", tol=1e-3, adjoint_tol=1e-2, steps=2)
    solver.set_objective(task)
    solver.run(iter([True, True, False]).__next__)
    worst = dict(solver.carried.worst)
    assert 0 < worst["state_residual"] <= 1e-3
    assert 0 < worst["adjoint_residual"] <= 1e-2
    solver.hypergradient_on_probe(task.lower, task.probe)
    solver.carried.note("state_residual", 0.0)
    solver.carried.note("state_residual", float("nan"))
    assert solver.carried.worst == worst
    again = Carried.of_state(solver.carried.state(), device=task.device)
    assert again.worst == worst
    options = {"outer_step": 2, "training": Outcome(), "last": False}
    options |= {"training_layer_evals": 0, "training_vjp_evals": 0}
    row = Rows(truth, task)(dict(truth.start), solver, **options)
    assert row["training_state_residual"] == worst["state_residual"]
    assert row["training_adjoint_residual"] == worst["adjoint_residual"]
    assert row["tf32"] is False
    untrained = Rows(truth, task)(dict(truth.start), method("Unrolling"), **options)
    assert untrained.keys() == row.keys()
    assert isnan(untrained["training_state_residual"])
