"""What passes each check, and what is said of what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmark.options.checks import (
    boolean,
    check_all,
    fraction,
    nonnegative_integer,
    nonnegative_number,
    one_of,
    optional,
    positive_integer,
    positive_number,
    strictly_between,
)


def between(name, value):
    strictly_between(name, value, low=0, high=2)


def a_or_b(name, value):
    one_of(name, value, {"b": 0, "a": 0})


NO_NUMBERS = ("1", None, True, False, 1j, [1], math.nan, math.inf, -math.inf)
NO_INTEGERS = (*NO_NUMBERS, 1.0, 0.5)
#: check, what passes, what does not, what was expected
CHECKS = [
    (positive_integer, (1, 7, np.int64(3)), (0, -1, *NO_INTEGERS), "an integer of at least 1"),
    (nonnegative_integer, (0, 1, np.int32(2)), (-1, *NO_INTEGERS), "an integer of at least 0"),
    (
        positive_number,
        (1e-300, 1, np.float32(2)),
        (0, 0.0, -1e-9, *NO_NUMBERS),
        "a positive number",
    ),
    (
        nonnegative_number,
        (0, 0.0, 5, np.float64(2)),
        (-1e-300, *NO_NUMBERS),
        "a number of at least 0",
    ),
    (between, (1e-9, 1, 1.999), (0, 2, -1, 3, *NO_NUMBERS), "strictly between 0 and 2"),
    (fraction, (1e-9, 0.5, 1, 1.0), (0, 1.0001, -0.5, *NO_NUMBERS), "above 0, at most 1"),
    (a_or_b, ("a", "b"), ("c", "", None, 0), "one of a, b"),
    (boolean, (True, False), (0, 1, "True", None), "True or False"),
]


@pytest.mark.parametrize(
    ("check", "good", "bad", "expected"), CHECKS, ids=lambda x: getattr(x, "__name__", str(x)[:40])
)
def test_what_passes_and_what_does_not(check, good, bad, expected):
    for value in good:
        assert check("option", value) is None
        assert optional(check)("option", value) is None
    for value in bad:
        with pytest.raises(ValueError) as raised:
            check("option", value)
        said = str(raised.value)
        assert said.startswith("option must ")
        assert expected in said
        assert f"got {value!r}" in said
        hint = isinstance(value, str) and check in (positive_number, nonnegative_number, fraction)
        assert ("YAML reads 1e-6 as text" in said) == hint


def test_none_passes_where_it_may():
    assert optional(positive_integer)("seed", None) is None
    with pytest.raises(ValueError, match="seed must be an integer of at least 1, got 0"):
        optional(positive_integer)("seed", 0)


def test_all_are_checked_by_the_rule_of_their_name():
    rules = {"tol": positive_number, "depth": positive_integer, "unused": boolean}
    check_all({"tol": 0.1, "depth": 3, "other": "anything"}, rules)
    with pytest.raises(ValueError, match="depth must be an integer of at least 1, got 0"):
        check_all({"tol": 0.1, "depth": 0}, rules)
