"""Options of these tests, their fixtures, and when garbage is collected."""

# ruff: noqa: E402
from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module
from pathlib import Path

# what is imported, and what pytest collects, is no garbage: looking through it again and again
# takes a quarter of the time. What comes after that is all that the meters' collections look at
gc.disable()

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))


def __getattr__(name: str) -> object:
    """What test files share is in ``shared``, which takes seconds to import.

    The process of xdist's that hands out the work imports it not at all.
    """
    return getattr(import_module("shared"), name)


def pytest_collectstart():
    import_module("shared")


def pytest_generate_tests(metafunc):
    """A test that asks for a plugin is given each of its kind in turn."""
    for name in ("plugin", "gradient_method", "state_method"):
        if name in metafunc.fixturenames:
            names = sorted(import_module("shared").of_kind(name))
            metafunc.parametrize(name, names, indirect=True)


def pytest_collection_finish():
    gc.freeze()
    # each measurement asks whether there is any that is frozen, and all would be counted
    gc.get_freeze_count = lambda: 1
    gc.enable()


def pytest_addoption(parser):
    parser.addoption(
        "--problems",
        type=int,
        default=3,
        help="random problems on which the tolerance on the gradient is tested (3)",
    )
    parser.addoption(
        "--fuzz",
        type=int,
        default=4,
        help="values of each parameter, and configurations, that are tried at random (4)",
    )
    parser.addoption(
        "--golden-ridge",
        type=Path,
        help="a folder of trained ridge regularisers with their minimisers and hypergradients: "
        "golden_ridge*.npz and weights/*.npz",
    )
    parser.addoption(
        "--bring",
        action="append",
        default=[],
        help="a file in the folder of its kind (lower_levels/…), or a folder of such folders, that "
        "is asked what the package's own are; can be given several times",
    )


def pytest_configure(config):
    # a shell starts what is in its background with this signal ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number = config.getoption("fuzz")
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    options = {"deadline": None, "derandomize": number == 4, "suppress_health_check": quiet}
    settings.register_profile("fuzz", max_examples=number, **options)


@pytest.fixture(scope="module", autouse=True)
def of_other_files_there_is_no_garbage():
    """What earlier test files have imported and kept is not looked through again in this one."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def plugin(request) -> type:
    """Every solver class of the repository in turn."""
    from shared import plugins

    return plugins()[request.param]


@pytest.fixture
def gradient_method(request) -> type:
    """Every solver class that estimates hypergradients, in turn."""
    from shared import plugins

    return plugins()[request.param]


@pytest.fixture
def state_method(request) -> type:
    """Every solver class whose estimate is a state with a graph, in turn."""
    from shared import plugins

    return plugins()[request.param]


@pytest.fixture
def file(tmp_path):
    """Writes a text into a file of a name, and returns its path."""

    def write(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write
