"""Docstrings: what is public has one, and their examples say what the code does."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module

import pytest

#: modules whose docstrings are held to this
MODULES = (
    "benchmark.gradients.entries",
    "benchmark.gradients.implicit",
    "benchmark.gradients.inverse_estimate",
    "benchmark.gradients.last_layers",
    "benchmark.gradients.result",
    "benchmark.gradients.rule",
    "benchmark.gradients.series",
    "benchmark.imaging.arrays",
    "benchmark.imaging.images",
    "benchmark.imaging.reading",
    "benchmark.options.checks",
    "benchmark.options.spec",
    "benchmark.solve.convergence",
    "benchmark.solve.fixed_point",
    "benchmark.solve.krylov",
    "benchmark.solve.linear",
    "benchmark.solve.mixing",
    "benchmark.solve.named",
    "benchmark.solve.newton",
    "benchmark.solve.recycled",
    "benchmark.solve.search",
    "benchmark.solve.secants",
    "benchmark.solve.system",
    "benchmark.solve.vectors",
)


def public(module):
    """Classes and functions of ``module``, and methods that these classes are first to have."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield name, thing
        if inspect.isclass(thing):
            methods = {key: getattr(value, "fget", value) for key, value in vars(thing).items()}
            for key, value in methods.items():
                inherited = any(hasattr(base, key) for base in thing.__mro__[1:])
                if inspect.isfunction(value) and not key.startswith("_") and not inherited:
                    yield f"{name}.{key}", value


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_the_code_does(name):
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_documented(name):
    module = import_module(name)
    assert module.__doc__
    for what, thing in public(module):
        # a dataclass without one gets its signature
        assert thing.__doc__ and not thing.__doc__.startswith(f"{what}("), what
