"""Checks of what a user typed: each says the name, the value and what was expected.

All take the option's name and its value, and return nothing. NumPy's numbers are numbers, True and
False are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import TypeGuard


def positive_integer(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is an integer ≥ 1."""
    if not _is_integer(value) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def nonnegative_integer(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is an integer ≥ 0."""
    if not _is_integer(value) or value < 0:
        raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")


def positive_number(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a finite number > 0.

    Examples
    --------
    >>> positive_number("tol", "1e-6")
    Traceback (most recent call last):
    ValueError: tol must be a positive number, got '1e-6' (YAML reads 1e-6 as text: write 1.0e-6)
    """
    if not _is_finite_number(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number, got {value!r}{_hint(value)}")


def nonnegative_number(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a finite number ≥ 0."""
    if not _is_finite_number(value) or value < 0:
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}{_hint(value)}")


def strictly_between(name: str, value: object, *, low: float, high: float) -> None:
    """Raise ValueError unless ``low < value < high``."""
    if not _is_finite_number(value) or not low < value < high:
        raise ValueError(f"{name} must lie strictly between {low:g} and {high:g}, got {value!r}")


def fraction(name: str, value: object) -> None:
    """Raise ValueError unless 0 < ``value`` ≤ 1."""
    if not _is_finite_number(value) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a number above 0, at most 1, got {value!r}{_hint(value)}")


def one_of(name: str, value: object, table: Mapping[str, object]) -> None:
    """Raise ValueError unless ``value`` is a key of ``table``."""
    if value not in table:
        raise ValueError(f"{name} must be one of {', '.join(sorted(table))}, got {value!r}")


def optional(rule: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """``rule``, but None passes too.

    Examples
    --------
    >>> optional(positive_integer)("seed", None)
    >>> optional(positive_integer)("seed", 0)
    Traceback (most recent call last):
    ValueError: seed must be an integer of at least 1, got 0
    """
    return lambda name, value: None if value is None else rule(name, value)


def boolean(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_all(
    values: Mapping[str, object], rules: Mapping[str, Callable[[str, object], None]]
) -> None:
    """Apply to each value the rule of its name; names without a rule pass.

    Raises ValueError where the first rule that is broken does.
    """
    for name, value in values.items():
        if name in rules:
            rules[name](name, value)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _hint(value: object) -> str:
    return " (YAML reads 1e-6 as text: write 1.0e-6)" if isinstance(value, str) else ""
