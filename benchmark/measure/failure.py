"""What became of a computation: its status and, where it failed, why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from benchmark.gradients.result import Hypergradient
from benchmark.measure.device import is_out_of_memory

V = TypeVar("V")


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

    With BENCHOPT_DEBUG=1 in the environment exceptions pass, so that tests see them.
    """
    try:
        return Outcome(value=call())
    except Exception as error:
        if os.environ.get("BENCHOPT_DEBUG") == "1":
            raise
        message = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            return Outcome("oom", message)
        return Outcome("diverged" if isinstance(error, DivergedError) else "error", message)
