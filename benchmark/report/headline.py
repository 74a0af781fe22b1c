"""The headline table of a study: accuracy with intervals, what the gradient costs, who is best.

A row per task and configuration, and one for the start, θ before the first outer step. The
interval is the 95 % confidence interval of the mean test PSNR (``statistics``); in bold are the
highest mean and those that paired differences over the same images cannot tell from it
(``statistics.not_worse``, corrected for their number).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from benchmark.report.frame import first_rows, last_rows
from benchmark.report.reading import read_csv
from benchmark.report.statistics import interval, not_worse, values
from benchmark.report.tables import COLUMNS, MISSING, Table, measured, spelled, summary

START = "start"
NOTE = (
    "Bold: the highest mean test PSNR, and those that paired differences over the same test images "
    "do not put below it (95 %, corrected for the number of comparisons)."
)
HEADS = ("task", "configuration", "method", "status")
COSTS = ("test_psnr_deployed", "gradient_error", "gradient_cosine", "gradient_seconds")
COSTS = (*COSTS, "peak_memory_mib", "layer_evals", "vjp_evals")
ORDER = (*HEADS[:3], "test_psnr", "low", "high", "how", "best", "gain", *COSTS, "status")


def headline(frame: pd.DataFrame) -> Table:
    """The table of a tidy frame."""
    return table(numbers(frame))


def table(numbers: pd.DataFrame) -> Table:
    """The table of its numbers: the best have their test PSNR in bold."""
    accuracy, _ = COLUMNS["test_psnr"]
    bold = frozenset((row, accuracy) for row, best in enumerate(numbers["best"]) if best)
    bounds, evals = numbers[["low", "high"]], numbers[["layer_evals", "vjp_evals"]]
    text = pd.concat(
        [
            numbers[["task", "configuration"]],
            spelled(numbers, ["test_psnr"]),
            bounds.apply(_bounds, axis=1).rename("95 % interval"),
            numbers["gain"].map(lambda gain: measured(gain, decimals=2)).rename("gain (dB)"),
            spelled(numbers, COSTS[:-2]),
            evals.apply(_evals, axis=1).rename("layer + vjp evals"),
            numbers["status"],
        ],
        axis=1,
    )
    return Table("headline", numbers, text, bold, NOTE if bold else "")


def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Per task the start, then the configurations in their order.

    ``gain`` is over the start; ``best`` marks the best and those not significantly worse. Means
    are over the runs that ended well.
    """
    ends = last_rows(frame)
    good = ends[ends["status"] == "ok"]
    means = summary(frame).rename(columns=lambda name: name.removesuffix("_mean"))
    parts = []
    for task, rows in means.groupby("task", sort=False):
        runs = good[good["task"] == task]
        tables = {name: values(group) for name, group in runs.groupby("configuration", sort=False)}
        begin = starts(frame[frame["task"] == task])
        part = rows[[*HEADS, "test_psnr", *COSTS]]
        if len(begin):
            tables[START] = values(begin)
            start = {"task": task, "configuration": START, "method": "", "status": MISSING}
            start |= {"test_psnr": interval(tables[START]).mean}
            part = pd.concat([pd.DataFrame([start]), part], ignore_index=True)
        found = [asdict(interval(tables.get(name, pd.DataFrame()))) for name in part.configuration]
        intervals = pd.DataFrame(found, index=part.index)[["low", "high", "how"]]
        best = not_worse({name: table for name, table in tables.items() if table.size})
        gain = part["test_psnr"] - part["test_psnr"].iloc[0] if len(begin) else math.nan
        marks = {"best": part["configuration"].isin(best), "gain": gain}
        parts.append(part.join(intervals).assign(**marks))
    return pd.concat(parts, ignore_index=True)[[*ORDER]]


def starts(frame: pd.DataFrame) -> pd.DataFrame:
    """One task's evaluations of the initial θ, a row per run; empty where nothing was trained.

    All runs of a repetition begin at the same θ.
    """
    first = first_rows(frame)
    trained = (frame["outer_step"] > 0).any()
    return first[trained & (first["outer_step"] == 0) & first["test_psnr"].notna()]


def read_headline(path: Path) -> pd.DataFrame:
    """The numbers in a ``headline.csv``."""
    known = [name for name in ORDER if name not in (*HEADS, "how", "best")]
    numbers = read_csv(path, texts=(*HEADS, "how", "best"), numbers=known, what="a headline.csv")
    return numbers.assign(best=numbers["best"] == "True")


def _bounds(bounds: pd.Series) -> str:
    return MISSING if bounds.isna().any() else "[{:.2f}, {:.2f}]".format(*bounds)


def _evals(evals: pd.Series) -> str:
    if math.isnan(evals.iloc[0]):
        return MISSING
    return " + ".join(measured(number, decimals=0) for number in evals)
