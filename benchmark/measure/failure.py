"""What became of a computation: its status and, where it failed, why."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_paths
from traceback import extract_tb
from typing import Generic, TypeVar

import torch

from benchmark.gradients.result import Hypergradient
from benchmark.measure.device import is_out_of_memory
from benchmark.options.brought import text_of

V = TypeVar("V")

#: where the code of this package and of libraries lies
_NOT_THE_USERS = [
    Path(__file__).resolve().parents[1],
    *(Path(get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
]


class DivergedError(FloatingPointError):
    """A value that must be finite is not."""


def require_finite(estimate: Hypergradient, *, when: str) -> None:
    """Raise DivergedError where the loss or the gradient holds a NaN or an infinity."""
    finite = torch.stack([t.isfinite().all() for t in (estimate.loss, *estimate.gradient)])
    if not finite.all():
        what = "gradient" if finite[0] else "loss"
        raise DivergedError(f"the {what} is not finite {when}")


@dataclass(frozen=True)
class Outcome(Generic[V]):
    """status : "ok", "diverged", "oom" or "error"; message : why, or ""; value : None on failure"""

    status: str = "ok"
    message: str = ""
    value: V | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value to use."""
        return self.status == "ok"


def attempt(call: Callable[[], V]) -> Outcome[V]:
    """The outcome of ``call()``; an exception becomes a status instead of ending the benchmark.

    The message is the exception's, and the file and line where it left what a user wrote.

    With BENCHOPT_DEBUG=1 in the environment exceptions pass, so that tests see them.
    """
    try:
        return Outcome(value=call())
    except BaseException as error:  # exits and what asyncio raises among them
        if _from_outside(error):
            raise
        if os.environ.get("BENCHOPT_DEBUG") == "1":
            raise
        said = f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")
        message = said + _users_line(error)
        if is_out_of_memory(error):
            return Outcome("oom", message)
        return Outcome("diverged" if isinstance(error, DivergedError) else "error", message)


def _from_outside(error: BaseException) -> bool:
    """Whether somebody interrupts the program: code that exits, or says so itself, ends its own
    run alone.

    Where signals have a handler of the program's, it raises a subclass; else nothing tells one
    KeyboardInterrupt from the other.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    own_handler = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    return not (own_handler and type(error) is KeyboardInterrupt)


def _users_line(error: BaseException) -> str:
    """The innermost line that is neither of this package nor of a library: " (mine.py, line 3)"."""
    for frame in reversed(extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_file() and not any(file.is_relative_to(place) for place in _NOT_THE_USERS):
            return f" ({file.name}, line {frame.lineno})"
    return ""
