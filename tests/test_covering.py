"""The covering arrays cover, are no larger than the full cross, and repeat themselves."""

from __future__ import annotations

from itertools import combinations, product
from math import prod

import pytest
from covering import covering
from hypothesis import given, settings
from hypothesis import strategies as st


def pairs(cases) -> set:
    return {pair for case in cases for pair in combinations(enumerate(case), 2)}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_all_pairs_occur_in_few_cases(sizes):
    factors = {f"factor {i}": [f"{i}:{v}" for v in range(n)] for i, n in enumerate(sizes)}
    cases = covering(factors)
    assert pairs(cases) == pairs(product(*factors.values()))
    assert all(
        v in of_one for case in cases for v, of_one in zip(case, factors.values(), strict=True)
    )
    assert len(set(cases)) == len(cases) <= prod(sizes)
    assert cases == covering(factors)


def test_a_large_cross_becomes_small():
    factors = {"plugin": range(19), "lower": "abcdef", "degradation": "xyz"}
    assert 19 * 6 <= len(covering(factors)) <= 19 * 6 * 1.1


def test_two_factors_are_crossed_and_one_is_listed():
    assert sorted(covering({"a": "xy", "b": "uvw"})) == sorted(product("xy", "uvw"))
    assert covering({"a": "xy"}) == [("x",), ("y",)]
    assert covering({"a": "xy", "b": ""}) == []


def test_a_value_given_twice_is_named():
    with pytest.raises(ValueError, match="the same value twice"):
        covering({"a": "xx", "b": "u"})
