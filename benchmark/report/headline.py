"""The headline table of a study: accuracy with intervals, what the gradient costs, who is best.

A row per task and configuration, and one for the start, θ before the first outer step. The
interval is the 95 % confidence interval of the mean test PSNR (``statistics``); in bold are the
highest mean and those that paired differences over the same images cannot tell from it
(``statistics.not_worse``, corrected for their number).
"""

from __future__ import annotations

import math

import pandas as pd

from benchmark.report.frame import first_rows, last_rows
from benchmark.report.statistics import Interval, interval, not_worse, values
from benchmark.report.tables import MISSING, Bold, measured, summary

START = "start"
ACCURACY = "test PSNR (dB)"
NOTE = (
    "Bold: the highest mean test PSNR, and those that paired differences over the same test images "
    "do not put below it (95 %, corrected for the number of comparisons)."
)
HEADERS = {
    "test_psnr": ACCURACY,
    "interval": "95 % interval",
    "gain": "gain (dB)",
    "test_psnr_deployed": "deployed PSNR (dB)",
    "gradient_error": "gradient error",
    "gradient_cosine": "gradient cosine",
    "gradient_seconds": "hypergradient (s)",
    "peak_memory_mib": "peak memory (MiB)",
    "evals": "layer + vjp evals",
}


def headline(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the table, per task: the start, then the configurations in their order.

    ``gain`` is over the start; ``best`` marks the best and those not significantly worse. Means
    are over the runs that ended well.
    """
    numbers = summary(frame)
    ends = last_rows(frame)
    good = ends[ends["status"] == "ok"]
    parts = []
    for task, rows in numbers.groupby("task", sort=False):
        runs = good[good["task"] == task]
        tables = {name: values(group) for name, group in runs.groupby("configuration", sort=False)}
        begin = starts(frame[frame["task"] == task])
        entries = [_entry(row, tables.get(row["configuration"])) for _, row in rows.iterrows()]
        if len(begin):
            tables = {START: values(begin), **tables}
            entries = [_start(task, begin), *entries]
        best = not_worse({name: table for name, table in tables.items() if table.size})
        part = pd.DataFrame(entries).assign(best=[e["configuration"] in best for e in entries])
        gain = part["test_psnr"] - part["test_psnr"].iloc[0] if len(begin) else math.nan
        parts.append(part.assign(gain=gain))
    order = ["test_psnr", "low", "high", "how", "best", "gain", *list(HEADERS)[3:-1]]
    order = ["task", "configuration", "method", *order, "layer_evals", "vjp_evals", "status"]
    return pd.concat(parts, ignore_index=True)[order]


def starts(frame: pd.DataFrame) -> pd.DataFrame:
    """One task's evaluations of the initial θ, a row per run; empty where nothing was trained."""
    if not (frame["outer_step"] > 0).any():
        return frame.iloc[:0]
    first = first_rows(frame)
    return first[(first["outer_step"] == 0) & first["test_psnr"].notna()]


def formatted(numbers: pd.DataFrame) -> pd.DataFrame:
    """The table as text."""
    table = {name: numbers[name] for name in ("task", "configuration")}
    decimals = {"gradient_cosine": 4, "peak_memory_mib": 1, "gain": 2}
    for name, header in HEADERS.items():
        if name == "interval":
            pairs = zip(numbers["low"], numbers["high"], strict=True)
            table[header] = [_bounds(low, high) for low, high in pairs]
        elif name == "evals":
            pairs = zip(numbers["layer_evals"], numbers["vjp_evals"], strict=True)
            table[header] = [_evals(layers, vjps) for layers, vjps in pairs]
        else:
            places = 2 if "psnr" in name else decimals.get(name)
            table[header] = [measured(x, math.nan, decimals=places) for x in numbers[name]]
    return pd.DataFrame({**table, "status": numbers["status"]}, dtype=str)


def bold(numbers: pd.DataFrame) -> Bold:
    """The cells of the best: their test PSNR."""
    return {(row, ACCURACY) for row, best in enumerate(numbers["best"]) if best}


def _entry(row: pd.Series, table: pd.DataFrame | None) -> dict[str, object]:
    """A configuration: the means of the summary, and the interval."""
    names = [*HEADERS, "layer_evals", "vjp_evals"]
    means = {name: row[f"{name}_mean"] for name in names if f"{name}_mean" in row.index}
    found = _unknown() if table is None or not table.size else interval(table)
    heads = {name: row[name] for name in ("task", "configuration", "method", "status")}
    return {**heads, **means, "low": found.low, "high": found.high, "how": found.how}


def _start(task: str, begin: pd.DataFrame) -> dict[str, object]:
    """The start: all runs of a repetition begin at the same θ, and are averaged."""
    table = values(begin)
    found = interval(table)
    heads = {"task": task, "configuration": START, "method": "", "status": MISSING}
    bounds = {"low": found.low, "high": found.high, "how": found.how}
    nothing = dict.fromkeys([*list(HEADERS)[3:-1], "layer_evals", "vjp_evals"], math.nan)
    return {**heads, **nothing, "test_psnr": found.mean, **bounds}


def _unknown() -> Interval:
    return Interval(math.nan, math.nan, math.nan, "no values")


def _bounds(low: float, high: float) -> str:
    return MISSING if math.isnan(low) else f"[{low:.2f}, {high:.2f}]"


def _evals(layers: float, vjps: float) -> str:
    if math.isnan(layers):
        return MISSING
    return " + ".join(measured(x, math.nan, decimals=0) for x in (layers, vjps))
