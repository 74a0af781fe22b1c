"""A call that fails is an outcome with a line that says why."""

from __future__ import annotations

import re
from asyncio import CancelledError

import pytest
import torch

from benchmark.measure.failure import DivergedError, attempt


@pytest.fixture
def no_debug(monkeypatch):
    monkeypatch.delenv("BENCHOPT_DEBUG", raising=False)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DivergedError("too far"), "diverged"),
        (FloatingPointError("too far"), "error"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom"),
        (MemoryError("all gone"), "oom"),
        (RuntimeError("shapes do not match"), "error"),
        (ValueError("out of memory is in words only"), "error"),
    ],
)
def test_outcomes_of_failed_calls(error, status, no_debug):
    def call() -> None:
        raise error

    outcome = attempt(call)
    assert (outcome.status, outcome.ok, outcome.value) == (status, False, None)
    assert re.fullmatch(
        rf"{type(error).__name__}: {error} \(test_failure.py, line \d+\)", outcome.message
    )


def test_a_call_that_ends_well_gives_its_value():
    outcome = attempt(lambda: 3)
    assert (outcome.ok, outcome.status, outcome.message, outcome.value) == (True, "ok", "", 3)


def test_errors_pass_while_debugging(monkeypatch):
    monkeypatch.setenv("BENCHOPT_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 / 0)


def raises(error: type[BaseException]):
    raise error


def test_an_interruption_always_passes(no_debug):
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda: raises(KeyboardInterrupt))


class SilentError(RuntimeError):
    """One whose text raises."""

    def __str__(self):
        return 1 / 0


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, CancelledError, SilentError])
def test_an_exit_ends_what_was_tried_alone(error, no_debug):
    assert attempt(lambda: raises(error)).message.startswith(f"{error.__name__} (")
