"""Covering arrays of strength 2: few cases in which all pairs of values of two factors occur.

Where a test is asked of every combination of three factors or more, a fault that two of them bring
about together is found by these cases as it is by all of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import combinations, product


def covering(factors: Mapping[str, Iterable[Hashable]]) -> list[tuple]:
    """Cases, one value of each factor in the order given, in which every pair of values occurs.

    Greedy and without chance: each case covers as many pairs that are left as it can, the first
    among equals. Values of a factor must differ; of fewer than two factors every value is a case.
    """
    values = [list(of_one) for of_one in factors.values()]
    if any(len(set(of_one)) < len(of_one) for of_one in values):
        raise ValueError("a factor has the same value twice")
    if len(values) < 2:
        return list(product(*values))
    left = {
        ((i, a), (j, b))
        for i, j in combinations(range(len(values)), 2)
        for a, b in product(values[i], values[j])
    }
    cases = []
    # in the order of the full cross, for sets have none
    for i, j in combinations(range(len(values)), 2):
        for pair in product(values[i], values[j]):
            if ((i, pair[0]), (j, pair[1])) in left:
                case = _completed({i: pair[0], j: pair[1]}, values, left)
                left -= set(combinations(enumerate(case), 2))
                cases.append(case)
    return cases


def _completed(case: dict[int, Hashable], values: list[list], left: set) -> tuple:
    """``case`` with the other factors' values, one after the other, by the most pairs gained."""
    for k in range(len(values)):
        if k not in case:
            case[k] = max(values[k], key=lambda v, k=k: _gained({**case, k: v}, left))
    return tuple(case[k] for k in range(len(values)))


def _gained(case: dict[int, Hashable], left: set) -> int:
    return sum(pair in left for pair in combinations(sorted(case.items(), key=lambda c: c[0]), 2))
