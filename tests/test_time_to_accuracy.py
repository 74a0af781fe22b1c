"""The search for each method's cheapest setting, and the design of its problems."""

from __future__ import annotations

import itertools
import sys
from collections import Counter

import pytest
from benchopt.benchmark import Benchmark
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import time_to_accuracy as tool


@pytest.mark.parametrize("needed", [0, 1, 7, 23, 24, None])
def test_one_axis_by_bisection_against_all(needed):
    tried = []

    def reached(at: int) -> bool:
        tried.append(at)
        return needed is not None and at >= needed

    assert tool.least(reached, 0, 24) == needed
    assert len(tried) == len(set(tried)) <= 12
    # growing steps: nothing is tried that costs far more than what is needed
    assert needed is None or max(tried) <= needed + 2


@pytest.mark.parametrize("needed", [*itertools.product([0, 5, 11, 20], repeat=2)])
def test_two_axes_each_as_far_down_as_is_reached(needed):
    lengths = (21, 25)
    step, found = tool.cheapest(lengths, lambda at: at[0] >= needed[0] and at[1] >= needed[1])
    assert found == needed
    # the next threshold, which needs more, begins where this one was met
    after = tool.cheapest(lengths, lambda at: min(at[0] - needed[0], at[1] - needed[1]) >= 0, step)
    assert after[1] == needed
    assert tool.cheapest(lengths, lambda at: False) is None


def test_each_pair_of_a_layer_and_a_size_meets_every_degradation_once():
    cells = [tool.cell(number) for number in range(18)]
    assert len(set(cells)) == 18
    for one, other in itertools.combinations(range(3), 2):
        pairs = Counter((cell[one], cell[other]) for cell in cells)
        assert set(pairs.values()) == {1}, (one, other)


def test_every_axis_goes_from_cheap_to_dear_within_the_budget():
    for variant in tool.variants():
        for axis in variant.axes:
            own = tool.levels(axis)
            counts = own[0] < own[-1]
            assert list(own) == sorted(own, reverse=not counts)
            # a layer and a product for each; of two axes the states are layers too
            assert not counts or own[-1] <= tool.BUDGET
    restarted = next(v for v in tool.variants() if v.method == "Restarted-JFB")
    options = restarted.options([tool.COUNTS.index(8), tool.levels("total").index(64)])
    assert (options["layers"], options["restarts"]) == (8, 7)


def trial(name: str, *, seconds: float, layers: float, error: float) -> dict:
    columns = {"gradient_error": error, "layer_evals": layers, "vjp_evals": 1.0}
    return {"options": {"name": name}, "columns": columns, "seconds": seconds}


def test_timed_are_the_fastest_those_near_it_and_that_of_fewest_layers():
    fast = trial("fast", seconds=1.0, layers=100.0, error=1e-3)
    near = trial("near", seconds=1.1, layers=90.0, error=1e-3)
    slow = trial("slow", seconds=9.0, layers=95.0, error=1e-3)
    few = trial("few", seconds=8.0, layers=50.0, error=1e-3)
    exact = trial("exact", seconds=20.0, layers=500.0, error=1e-5)
    found = [{"trials": [t], "best": [0, None, None]} for t in (fast, near, slow)]
    found.append({"trials": [few, exact], "best": [0, 1, None]})
    assert [t.options["name"] for t in tool.chosen(found)] == ["fast", "near", "few", "exact"]


def test_what_takes_more_than_the_budget_reaches_nothing():
    within = trial("", seconds=1.0, layers=tool.BUDGET - 1.0, error=1e-7)
    beyond = trial("", seconds=1.0, layers=tool.BUDGET, error=1e-7)
    failed = trial("", seconds=1.0, layers=float("nan"), error=float("nan"))
    assert [tool.Trial(**t).reaches(1e-6) for t in (within, beyond, failed)] == [True, False, False]


def test_what_is_kept_goes_by_the_files_that_can_change_it(monkeypatch):
    """Of each method its own, of each problem those of its layer."""
    solvers = {cls.name: cls for cls in Benchmark(ROOT, no_cache=True).get_solvers()}
    asked = []
    monkeypatch.setattr(
        tool.provenance, "sources", lambda roots: asked.append({f.name for f in roots}) or {}
    )
    number = next(n for n in range(18) if tool.cell(n)[2][0].startswith("pnp"))
    tool.version(solvers["DEQ"], number)
    assert {"deq.py", "pnp.py", "objective.py", "time_to_accuracy.py"} <= asked[0]
    monkeypatch.undo()
    known = {tool.version(solvers[name], n) for name in ("DEQ", "JFB") for n in (number, 0)}
    assert len(known) == 4 and tool.version(solvers["DEQ"], number) in known
