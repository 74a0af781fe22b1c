"""Measured numbers that cannot be."""

from __future__ import annotations

import pandas as pd

#: overhead that timing can make of 1: a hypergradient cannot take less time than what it calls, and
#: what that takes depends by some per cent on what was called before
LEAST_OVERHEAD = 0.95


def too_cheap(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose ``overhead`` is below ``LEAST_OVERHEAD`` with all of its interval.

    ``rows`` as benchopt writes them; those without an interval are not among them.
    """
    high = rows.reindex(columns=["objective_overhead_high"]).astype(float).squeeze(axis=1)
    return rows[high < LEAST_OVERHEAD]
