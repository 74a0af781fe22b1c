"""What a run shows of itself while it lasts is the share of the steps that it has done."""

from types import SimpleNamespace

import pytest
from conftest import plugins, small_task

from benchmark.measure import timing
from benchmark.plugins.progress import ShareOfSteps, show


def test_a_run_shows_its_share_of_the_steps_and_the_time_left(monkeypatch):
    """One of four steps in ten seconds: thirty more; benchopt's own was 1/1000 after one row."""
    said, clock = [], iter([0.0, 10.0, 20.0, 30.0, 240.0])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(clock))
    terminal = SimpleNamespace(progress=lambda text, key: said.append(text), debug=lambda text: 0)
    solver = SimpleNamespace(
        steps=4, evaluate_every=3, sampling_strategy="callback", get_next=lambda stop: stop + 3
    )
    made = ShareOfSteps(strategy="callback").get_runner_instance(
        max_runs=1000, timeout=60, terminal=terminal, solver=solver, run_key=("a", "b", "c")
    )
    callback = SimpleNamespace(stopping_criterion=made)
    for step in range(3):
        show(callback, step)
    assert said == [
        "0% of 4 outer steps",
        "25% of 4 outer steps, about 30 s left",
        "50% of 4 outer steps, about 20 s left; the next is evaluated: F, PSNR and gradient",
    ]
    stop, status, following = made.should_stop(0, [{"objective_outer_step": 3}])
    assert (stop, status, following) == (False, "running", 3)
    assert said[-1] == 0.75
    show(callback, 3)
    assert said[-1].endswith("the next is evaluated: F, PSNR and gradient, costs and pictures")


def test_other_callbacks_are_shown_nothing():
    show(lambda: True, 3)


@pytest.mark.parametrize(("limit", "last", "ended"), [(1, 2, "row limit"), (9, 5, None)])
def test_the_row_at_which_benchopt_ends_a_run_is_its_last(limit, last, ended):
    """Costs and pictures are taken there: with ``-n 1`` of five steps, two to a row, at step 2."""
    solver = plugins()["Unrolling"].get_instance(steps=5, evaluate_every=2, layers=1)
    task, rows = small_task(lower="tikhonov(wavelet='haar',levels=1)", size=8), []

    def columns(outer_step, last, **_):
        rows.append({"step": outer_step, "last": last})
        return rows[-1]

    def callback():
        return solver.row["step"] < limit * 2

    callback.stopping_criterion = SimpleNamespace(max_runs=limit)
    solver.set_objective(task, columns)
    solver.run(callback)
    assert [row["step"] for row in rows if row["last"]] == [last]
    assert rows[-1]["step"] == last
    assert solver.row.get("ended") == ended
