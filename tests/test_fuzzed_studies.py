"""Any value and any text makes a study, or is refused with a line that is clear."""

from __future__ import annotations

import inspect
import re
import time
from pathlib import Path

import pytest
import yaml
from benchopt.benchmark import Benchmark
from conftest import ROOT
from hypothesis import given, settings, strategies
from small_studies import CLASSES, faults, import_once, some_plugins

from benchmark.imaging.degradations import DEGRADATIONS
from benchmark.plugins.rules import RULES
from benchmark.problems import LOWER_LEVELS
from benchmark.running import specs
from benchmark.running.faults import LONGEST, one_line
from benchmark.running.given import faults_of_options
from benchmark.running.selection import select
from benchmark.running.tasks import faults_of_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return some_plugins(tmp_path_factory)


@pytest.fixture(autouse=True)
def unchanged_files_are_imported_once(place, monkeypatch):
    import_once(place, monkeypatch)


#: what may be typed for a value, and is a good one for few parameters
JUNK = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.integers(),
    strategies.sampled_from([10**9 + 1, 10**30, 10**400, 16**6000, -(10**30)]),
    strategies.floats(),
    strategies.text(max_size=12),
    strategies.sampled_from(["1e-6", "x" * 9000, "a(", "a(b=1)", "anderson(depth=1e30)", "é\n"]),
    strategies.dates(),
    strategies.binary(max_size=4),
    strategies.lists(strategies.integers() | strategies.text(max_size=3), max_size=3),
    strategies.dictionaries(strategies.text(max_size=3), strategies.integers(), max_size=2),
)
FEW = settings.get_profile("fuzz")  # more of them: pytest --fuzz 500


def is_a_clear_line(fault: str) -> bool:
    """One line that names no inside of a library."""
    inside = re.search(r"Traceback|object has no|unsupported operand|must be real number", fault)
    return fault == one_line(fault) and 0 < len(fault) <= LONGEST and not inside


@pytest.mark.parametrize("name", CLASSES)
@FEW
@given(drawn=strategies.data())
def test_any_value_of_a_parameter_is_taken_or_refused(name, drawn):
    """Refused in a line and within a second, or the plugin can be made with it."""
    cls = CLASSES[name]
    for parameter in cls.parameters:
        value, start = drawn.draw(JUNK, label=parameter), time.process_time()
        found = faults_of_options({parameter: [value]}, list(cls.parameters), RULES)
        if found:
            assert all(is_a_clear_line(fault) for fault in found), found
        else:
            try:
                cls.get_instance(**{parameter: value})
            except ValueError as error:  # a plugin's own check, which ``select`` makes a fault of
                assert is_a_clear_line(one_line(str(error)))
        assert time.process_time() - start < 1


SPECS = [
    (kind, name, option)
    for kind, table in (("degradation", DEGRADATIONS), ("lower", LOWER_LEVELS))
    for name, entry in table.items()
    for option in inspect.signature(entry).parameters
    if option not in ("image_shape", "physics", "lipschitz", "img_size", "dtype")
]
LITERALS = (None, True, -1, 10**12, 0.5, 1e308, 1e-320, "", "haar", (1, 2), {})


@pytest.mark.parametrize(("kind", "name", "option"), SPECS, ids=map("-".join, SPECS))
def test_any_value_of_an_option_makes_a_task_or_is_refused(kind, name, option):
    texts = {"degradation": "denoising(sigma=0.1)", "lower": "wavelet_l1(levels=1,wavelet='haar')"}
    some = max(1, 24 // FEW.max_examples)  # one in six; all of them: pytest --fuzz 24
    for value in LITERALS[hash_of(option) % some :: some]:
        texts[kind] = f"{name}({option}={value!r})"
        dataset = CLASSES["Simulated"].get_instance(size=8, degradation=texts["degradation"])
        objective = CLASSES["Learning at equilibrium"].get_instance(
            lower=texts["lower"], device="cpu"
        )
        start = time.process_time()
        found = faults_of_tasks([dataset], [objective], seed=0)
        assert time.process_time() - start < 1 or not found
        by_text = list(specs.faults_of_spec(specs.TABLES[kind], texts[kind]))
        # which tells no more than there is, but of a denoiser that the prior would not use
        assert found or not by_text or option == "denoiser"
        assert all(is_a_clear_line(fault) for fault in by_text)
        assert all(is_a_clear_line(fault) for fault in found), found


def hash_of(text: str) -> int:
    return sum(text.encode())


@FEW
@given(
    content=strategies.dictionaries(
        strategies.sampled_from(["solver", "dataset", "seed", "timeout", "n-jobs", "x", "output"]),
        JUNK,
        min_size=1,
    )
)
def test_any_configuration_is_a_study_or_is_refused(place, content):
    try:
        text = yaml.safe_dump(content)
    except ValueError:  # more digits than Python prints
        return
    found = faults(text, place)
    assert all(is_a_clear_line(fault) for fault in found), found


def test_the_configurations_that_ship_are_within_the_limits():
    benchmark = Benchmark(ROOT, seed=0)
    studies = (path for path in ROOT.glob("configs/**/*.yml") if path.parent.name != "engines")
    for path in sorted(studies):
        config = yaml.safe_load(path.read_text())
        for kind in ("Objective", "Dataset"):
            assert select(benchmark, kind, config[kind.lower()]).faults == []
        for entry in config.get("solver", []):
            for name, given_values in entry.items():
                known = CLASSES[name].parameters if name in CLASSES else given_values
                assert faults_of_options(given_values, list(known), RULES) == [], path
