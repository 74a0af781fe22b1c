"""What a bare ``benchopt run .`` says before it begins, and that it is small."""

import re
from pathlib import Path

import pytest
from benchopt.benchmark import Benchmark

from benchmark.running.bare import announced

ROOT = Path(__file__).resolve().parents[1]


def test_a_bare_run_says_how_many_methods_it_runs():
    (number,) = re.findall(r"all (\d+) methods", announced(["/bin/benchopt", "run", "."], ROOT))
    assert int(number) == len(Benchmark(ROOT).get_solvers())


@pytest.mark.parametrize("chosen", ["-sDEQ", "--solver=DEQ", "-d", "-o", "--config", "-f"])
def test_nothing_is_said_where_something_is_chosen(chosen):
    assert announced(["benchopt", "run", ".", chosen, "DEQ"], ROOT) == ""


@pytest.mark.parametrize(
    "command", [["pytest", "run", "."], ["benchopt", "test", "."], ["benchopt"]]
)
def test_nothing_is_said_of_another_command(command):
    assert announced(command, ROOT) == ""


def test_what_a_bare_run_computes_is_small():
    """All methods take part, so each is to take seconds: small images, a contracting layer."""
    benchmark = Benchmark(ROOT)
    assert all(
        "ridge=" in lower for lower in benchmark.get_benchmark_objective().parameters["lower"]
    )
    for dataset in benchmark.get_datasets():
        if dataset.name in ("Photographs", "Simulated"):
            assert max(dataset.parameters["size"]) <= 32
            assert max(dataset.parameters["n_train"] + dataset.parameters["n_test"]) <= 4
