"""Whether two studies have the same rows, to the byte."""

from __future__ import annotations

import pandas as pd

from benchmark.options.columns import must_repeat

#: what tells rows of a study from each other
KEY = ["dataset_name", "objective_name", "solver_name", "idx_rep", "stop_val"]


def different(one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    """The columns in which two results of benchopt differ, of those that must repeat
    (``benchmark.options.columns``), in whatever order their rows are; or what else does.
    """
    if len(one) != len(other) or set(one) != set(other):
        return [f"{len(one)} rows and {len(other)}", *sorted(set(one) ^ set(other))]
    one, other = (frame.sort_values(KEY).reset_index(drop=True) for frame in (one, other))
    return [n for n in sorted(one) if must_repeat(n) and _bytes(one[n]) != _bytes(other[n])]


def _bytes(column: pd.Series) -> list[object]:
    return [
        (value.dtype, value.shape, value.tobytes()) if hasattr(value, "tobytes") else repr(value)
        for value in column
    ]
