"""Checks of what a user typed: each says the name, the value and what was expected.

All take the option's name and its value, and return nothing. NumPy's numbers are numbers, True and
False are none. What counts or measures something has a largest value too, the keyword ``most``: a
slip of the keyboard shall be an error, not a computation that never ends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TypeGuard

#: of anything that is counted, and of anything that is measured, unless a caller knows better
MOST_INTEGER, MOST_NUMBER = 10**9, 1e12


def positive_integer(name: str, value: object, most: int = MOST_INTEGER) -> None:
    """Raise ValueError unless ``value`` is an integer, 1 ≤ ``value`` ≤ ``most``.

    Examples
    --------
    >>> positive_integer("levels", 1000000, most=20)
    Traceback (most recent call last):
    ValueError: levels must be an integer of at least 1 and at most 20, got 1000000
    """
    _integer(name, value, least=1, most=most)


def nonnegative_integer(name: str, value: object, most: int = MOST_INTEGER) -> None:
    """Raise ValueError unless ``value`` is an integer, 0 ≤ ``value`` ≤ ``most``."""
    _integer(name, value, least=0, most=most)


def positive_number(name: str, value: object, most: float = MOST_NUMBER) -> None:
    """Raise ValueError unless ``value`` is a number, 0 < ``value`` ≤ ``most``.

    Examples
    --------
    >>> positive_number("tol", "1e-6")
    Traceback (most recent call last):
    ValueError: tol must be a positive number, got '1e-6' (YAML reads 1e-6 as text: write 1.0e-6)
    """
    if not _is_finite_number(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number, got {shown(value)}{_hint(value)}")
    _at_most(name, value, most)


def nonnegative_number(name: str, value: object, most: float = MOST_NUMBER) -> None:
    """Raise ValueError unless ``value`` is a number, 0 ≤ ``value`` ≤ ``most``."""
    if not _is_finite_number(value) or value < 0:
        raise ValueError(f"{name} must be a number of at least 0, got {shown(value)}{_hint(value)}")
    _at_most(name, value, most)


def strictly_between(name: str, value: object, *, low: float, high: float) -> None:
    """Raise ValueError unless ``low < value < high``."""
    if not _is_finite_number(value) or not low < value < high:
        raise ValueError(
            f"{name} must lie strictly between {low:g} and {high:g}, got {shown(value)}"
        )


def fraction(name: str, value: object) -> None:
    """Raise ValueError unless 0 < ``value`` ≤ 1."""
    if not _is_finite_number(value) or not 0 < value <= 1:
        raise ValueError(
            f"{name} must be a number above 0, at most 1, got {shown(value)}{_hint(value)}"
        )


def one_of(name: str, value: object, names: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``names``, the keys of a table for one."""
    if not isinstance(value, Hashable) or value not in names:
        near = f": did you mean {nearest(value, names)}?" if nearest(value, names) else ""
        raise ValueError(
            f"{name} must be one of {', '.join(sorted(names))}, got {shown(value)}{near}"
        )


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
        raise ValueError(f"{name} must be True or False, got {shown(value)}")


def text(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text, got {shown(value)}")


def device(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` names the processor or a CUDA device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", str(value)):
        expected = "expected auto, cpu, cuda or cuda:i"
        raise ValueError(f"unknown {name} {shown(value)}: {expected}")


def check_all(
    values: Mapping[str, object], rules: Mapping[str, Callable[[str, object], None]]
) -> None:
    """Apply to each value the rule of its name; names without a rule pass.

    Raises ValueError where the first rule that is broken does.
    """
    for name, value in values.items():
        if name in rules:
            rules[name](name, value)


def nearest(name: object, known: Collection[str]) -> str | None:
    """The one of ``known`` that is written most like ``name``, whatever the case; or none is.

    Examples
    --------
    >>> nearest("unroling", ["Unrolling", "JFB"])
    'Unrolling'
    """
    by_case = {other.lower(): other for other in known}
    near = get_close_matches(str(name).lower()[:100], list(by_case), n=1)
    return by_case[near[0]] if near else None


def shown(value: object) -> str:
    """``value`` as a message shows it: on one line, its middle left out where it is long."""
    try:
        text = repr(value)
    except Exception as error:  # more digits than Python prints, or an object's own
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= 90 else f"{text[:60]} … {text[-20:]}"


def _integer(name: str, value: object, *, least: int, most: int) -> None:
    if not _is_integer(value) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {shown(value)}")
    if value > most:
        raise ValueError(
            f"{name} must be an integer of at least {least} and at most {most}, got {shown(value)}"
        )


def _at_most(name: str, value: float, most: float) -> None:
    if value > most:
        raise ValueError(f"{name} must be at most {most:g}, got {shown(value)}")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite_number(value: object) -> TypeGuard[float]:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _hint(value: object) -> str:
    return " (YAML reads 1e-6 as text: write 1.0e-6)" if isinstance(value, str) else ""
